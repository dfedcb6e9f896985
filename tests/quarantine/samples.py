"""Envelopes for tests."""

from __future__ import annotations

import base64
from typing import Any

from streamheal.attempts import Attempt
from streamheal.quarantine.envelope import Code, Envelope, envelope_id

SEQUENCE = 49638000000000000000000000000000000000000000000000000000


def attempt(**fields: Any) -> Attempt:
    return Attempt(
        **{
            "number": 1,
            "started_at": "2026-11-24T12:04:03.100Z",
            "duration_s": 0.0008,
            "outcome": "exception",
            "exception_type": "KeyError",
            "message": "'customer'",
            "traceback": "Traceback (most recent call last):\n …\nKeyError: 'customer'\n",
            "frames": ("orders.py:process_record",),
            "where": "orders.py:23 in process_record",
            **fields,
        }
    )


CODE = Code(
    processor="shop.orders:Orders",
    version="3f9c2d1",
    python="3.12.1",
    packages={"boto3": "1.44.5"},
    config_hash="0" * 12,
)


def envelope(nth: int = 1, **fields: Any) -> Envelope:
    """The nth record of a shard, in quarantine since n seconds after noon."""
    application = fields.get("application", "shop-orders")
    stream = fields.get("stream", "orders")
    shard_id = fields.get("shard_id", "shardId-000000000000")
    sequence_number = str(SEQUENCE + nth)
    return Envelope(
        **{
            "id": envelope_id(application, stream, shard_id, sequence_number, 0),
            "application": application,
            "stream": stream,
            "shard_id": shard_id,
            "sequence_number": sequence_number,
            "sub_sequence_number": 0,
            "partition_key": f"cust-{nth % 7}",
            "explicit_hash_key": None,
            "approximate_arrival_timestamp": "2026-11-24T11:59:58.500Z",
            "quarantined_at": f"2026-11-24T12:{nth // 60:02}:{nth % 60:02}.000Z",
            "data_base64": base64.b64encode(b'{"order": %d}' % nth).decode(),
            "data_ref": None,
            "reason": "exception",
            "fingerprint": "1e9a37ac41ae",
            "title": "KeyError: 'customer', orders.py:23 in process_record",
            "verdict": "It failed 3 times in 1.9 s.",
            "attempts": [attempt()],
            "code": CODE,
            "host": "ip-10-0-0-1",
            **fields,
        }
    )
