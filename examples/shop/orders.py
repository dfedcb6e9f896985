"""Splits the bill of each order. Run it from this folder: `streamheal run orders:Orders --stream orders`."""

from dataclasses import dataclass

from streamheal import Poison, Record, RecordProcessor


@dataclass
class Order:
    customer: str
    cents: int
    people: int


class Orders(RecordProcessor):
    def process_record(self, record: Record) -> None:
        order = record.json(Order)
        if order.cents < 0:
            raise Poison("a refund is not for this shop")
        print(f"{order.customer}: {order.cents // order.people} cents each")
