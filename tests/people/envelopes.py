"""Envelopes to show, as a run would have left them."""

from __future__ import annotations

import base64
import io
from typing import Any

from rich.console import Console

from streamheal.attempts import Attempt
from streamheal.quarantine.envelope import Code, Envelope, envelope_id

TITLE = "KeyError: 'customer', orders.py:23 in process_record"


CODE = Code(
    processor="shop.orders:Orders",
    version="3f9c2d1",
    python="3.12.1",
    packages={"boto3": "1.44.5"},
    config_hash="c0ffee",
)


def attempt(number: int = 1, **changes: Any) -> Attempt:
    fields: dict[str, Any] = {
        "number": number,
        "started_at": f"2026-11-24T12:04:03.{number}00Z",
        "duration_s": 0.0008,
        "outcome": "exception",
        "exception_type": "KeyError",
        "message": "'customer'",
        "where": "orders.py:23 in process_record",
    }
    return Attempt(**(fields | changes))


def envelope(nth: int = 1, *, data: bytes | None = b'{"order": 4711}', **changes: Any) -> Envelope:
    fields: dict[str, Any] = {
        "id": envelope_id("orders", "orders", "shardId-000000000002", str(nth), 0),
        "application": "orders",
        "stream": "orders",
        "shard_id": "shardId-000000000002",
        "sequence_number": f"4963812345678901234567890123456789012345678901234567{nth:04d}",
        "sub_sequence_number": 0,
        "partition_key": "cust-7",
        "explicit_hash_key": None,
        "approximate_arrival_timestamp": "2026-11-24T12:04:01.100Z",
        "quarantined_at": f"2026-11-24T12:04:{nth % 60:02d}.000Z",
        "data_base64": None if data is None else base64.b64encode(data).decode(),
        "data_ref": None,
        "reason": "exception",
        "fingerprint": "0a1b2c3d4e5f",
        "title": TITLE,
        "verdict": "It failed 3 times in 1.9 s, while other records of this shard succeeded.",
        "attempts": [attempt(1), attempt(2), attempt(3, alone=True)],
        "code": CODE,
        "host": "ip-10-0-0-7",
    }
    return Envelope(**(fields | changes))


def console(width: int = 80, **options: Any) -> Console:
    return Console(file=io.StringIO(), width=width, height=options.pop("height", 40), **options)


def printed(on: Console) -> str:
    """What was printed, without the blanks that fill lines up."""
    assert isinstance(on.file, io.StringIO)
    return "\n".join(line.rstrip() for line in on.file.getvalue().split("\n"))
