"""A shop's orders: read, checked, priced, charged. It has four mistakes that only some orders meet.

Mend one, and `streamheal replay` brings the orders back that met it.
"""

import ctypes
import re
import time
from typing import Any

from streamheal import Record, RecordProcessor, Shard

POSTCODE = re.compile(r"^([A-Z0-9]+ ?)+$")

# Articles of the old catalogue are priced by its C library, which wants an address.
OLD_CATALOGUE = {"old-lamp": ctypes.create_string_buffer(b"3950"), "old-rug": ctypes.create_string_buffer(b"12000")}


class Orders(RecordProcessor):
    concurrency = 8
    deadline_s = 2.0

    def initialize(self, shard: Shard) -> None:
        self.charged_cents = 0

    def process_record(self, record: Record) -> None:
        order = record.json()  # some tills send no JSON
        print(f"pricing order {order['order']}")
        check_postcode(order["postcode"])
        total = sum(price(item) * item["quantity"] for item in order["items"])
        self.charge(order["customer"], total)  # guests have no customer

    def charge(self, customer: str, cents: int) -> None:
        time.sleep(0.03)  # the bank takes its time
        self.charged_cents += cents


def price(item: dict[str, Any]) -> int:
    if item["article"].startswith("old-"):
        found = OLD_CATALOGUE.get(item["article"])
        # An article that is not there has no address, and C reads what is at 0.
        return int(ctypes.string_at(ctypes.addressof(found) if found else 0))
    return int(item["cents"])


def check_postcode(postcode: str) -> None:
    # Each letter more doubles what this has to try, where the end does not match.
    if not POSTCODE.match(postcode):
        raise ValueError(f"no postcode: {postcode}")
