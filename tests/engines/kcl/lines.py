"""Lines as the daemon writes them: Jackson's, without spaces, each field where it puts it."""

from __future__ import annotations

import json
from typing import Any

SHARD = "shardId-000000000000"

LEASE_LOST = b'{"action":"leaseLost"}\n'
SHARD_ENDED = b'{"action":"shardEnded"}\n'
SHUTDOWN_REQUESTED = b'{"action":"shutdownRequested"}\n'


def record(number: int, data: str = "cmVj") -> dict[str, Any]:
    return {
        "data": data,
        "partitionKey": f"key-{number}",
        "sequenceNumber": str(number),
        "approximateArrivalTimestamp": None,
        "subSequenceNumber": 0,
        "action": "record",
    }


def batch(records: list[Any], lag: int | None = 0) -> bytes:
    return _line({"action": "processRecords", "records": records, "millisBehindLatest": lag})


def initialize(at: str = "TRIM_HORIZON", sub: int = 0, shard_id: str = SHARD) -> bytes:
    return _line({"action": "initialize", "shardId": shard_id, "sequenceNumber": at, "subSequenceNumber": sub})


def checkpointed(said: dict[str, Any], error: str | None = None) -> bytes:
    """The answer to what we said: its numbers come back."""
    return _line({**said, "error": error})


def status(action: str) -> dict[str, Any]:
    """What we say, as the daemon reads it."""
    return {"action": "status", "responseFor": action}


def checkpoint(sequence: int | None, sub: int | None = 0) -> dict[str, Any]:
    if sequence is None:
        return {"action": "checkpoint", "sequenceNumber": None, "subSequenceNumber": None}
    return {"action": "checkpoint", "sequenceNumber": str(sequence), "subSequenceNumber": sub}


def _line(said: dict[str, Any]) -> bytes:
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
