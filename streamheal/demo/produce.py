"""The orders of the demo: the same 5,000 every time, and what must become of each.

healthy  4,987
sick        13    9 without a customer, 2 that are no JSON, 1 that crashes, 1 that never ends
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

Sickness = Literal["exception", "decode", "crash", "deadline"]

ORDERS = 5_000
CUSTOMERS = 400
SHARDS = 4
_SEED = 20_251
_ARTICLES = {"lamp": 4_450, "rug": 11_900, "chair": 8_900, "shelf": 6_400, "old-lamp": 0, "old-rug": 0}
_PUT_RECORDS_MAX = 500

# All within the first three fifths: the orders behind them are the witnesses that clear the world.
_CRASHES, _HANGS = 640, 380
_NO_JSON = (910, 2_480)
_GUESTS = (150, 520, 777, 1_204, 1_390, 1_811, 2_075, 2_333, 2_901)


class Order(NamedTuple):
    """One record to put. `sickness`: the reason for which it must end in quarantine; None: healthy."""

    number: int
    data: bytes
    partition_key: str
    sickness: Sickness | None


def orders() -> list[Order]:
    dice = random.Random(_SEED)
    return [_order(number, dice) for number in range(1, ORDERS + 1)]


def _order(number: int, dice: random.Random) -> Order:
    customer = f"cust-{dice.randrange(CUSTOMERS)}"
    content: dict[str, Any] = {
        "order": number,
        "customer": customer,
        "postcode": f"{dice.choice('NESW')}{dice.randrange(1, 20)} {dice.randrange(1, 9)}{dice.choice('ABDEFG')}A",
        "items": [_item(dice) for _ in range(dice.randint(1, 4))],
    }
    sickness: Sickness | None = None
    if number in _GUESTS:
        sickness = "exception"
        del content["customer"]
    elif number == _CRASHES:
        sickness = "crash"
        content["items"].append({"article": "old-mirror", "quantity": 1, "cents": 0})
    elif number == _HANGS:
        sickness = "deadline"
        content["postcode"] = "X" * 60 + "!"
    elif number in _NO_JSON:
        return Order(number, f"order={number};customer={customer}".encode(), customer, "decode")
    return Order(number, json.dumps(content).encode(), customer, sickness)


def _item(dice: random.Random) -> dict[str, Any]:
    article = dice.choice(list(_ARTICLES))
    return {"article": article, "quantity": dice.randint(1, 3), "cents": _ARTICLES[article]}


def expected() -> dict[bytes, Sickness]:
    """The payloads that must end in quarantine, and for which reason."""
    return {order.data: order.sickness for order in orders() if order.sickness is not None}


def put(kinesis: Any, stream: str, given: Iterable[Order]) -> None:
    """Put the orders in this order, with a boto3 client.

    Raises:
        RuntimeError: The stream took some of them only: what is to be shown would not add up.
    """
    entries = [{"Data": order.data, "PartitionKey": order.partition_key} for order in given]
    for first in range(0, len(entries), _PUT_RECORDS_MAX):
        answer = kinesis.put_records(StreamName=stream, Records=entries[first : first + _PUT_RECORDS_MAX])
        if answer["FailedRecordCount"]:
            raise RuntimeError(f"{stream} did not take {answer['FailedRecordCount']} of the demo's orders")
