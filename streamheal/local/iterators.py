"""Shard iterators: where in which shard to read on, good for five minutes."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from streamheal.local.faults import Fault, invalid_argument

VALID_S = 300.0


class Iterator(NamedTuple):
    stream: str
    shard_id: str
    after: int
    issued: float

    def sealed(self) -> str:
        """As clients carry it: text that means nothing to them."""
        text = "\n".join((self.stream, self.shard_id, str(self.after), repr(self.issued)))
        return base64.b64encode(text.encode()).decode()


def opened(sealed: str, now: float) -> Iterator:
    """
    Raises:
        Fault: It is none of ours, or too old.
    """
    try:
        stream, shard_id, after, issued = base64.b64decode(sealed, validate=True).decode().split("\n")
        iterator = Iterator(stream, shard_id, int(after), float(issued))
    except (ValueError, binascii.Error) as error:
        raise invalid_argument("Invalid ShardIterator.") from error
    if now - iterator.issued > VALID_S:
        raise Fault(
            "ExpiredIteratorException",
            f"Iterator expired. The iterator was created at time {iterator.issued:.0f} while right now it is {now:.0f} "
            f"which is further in the future than the tolerated delay of {VALID_S * 1000:.0f} milliseconds.",
        )
    return iterator
