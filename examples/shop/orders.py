"""The quick start's processor: `streamheal run orders:Orders --stream orders`, from this folder."""

from dataclasses import dataclass

from streamheal import Poison, Record, RecordProcessor


@dataclass
class Order:
    customer: str
    cents: int


class Orders(RecordProcessor):
    def process_record(self, record: Record) -> None:
        order = record.json(Order)
        if order.cents < 0:
            raise Poison(f"an order of {order.cents} cents")
        print(f"{order.customer} pays {order.cents / 100:.2f}")
