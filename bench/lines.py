"""Batches as they come: lines of KCL's daemon, and bodies of GetRecords. Made, not recorded from anybody's stream."""

from __future__ import annotations

import base64
import json
import random

_FIRST = 49590338271490256608559692538361571095921575989136588898
_ARRIVED_MS = 1795424770703


def records(number: int, size: int, first: int, keys: int = 1000, seed: int = 7) -> list[dict[str, object]]:
    """Records of random payloads, with sequence numbers of real length."""
    dice = random.Random(seed + first)
    return [
        {
            "data": base64.b64encode(dice.randbytes(size)).decode(),
            "partitionKey": f"customer-{dice.randrange(keys):08d}",
            "sequenceNumber": str(_FIRST + first + place),
            "approximateArrivalTimestamp": _ARRIVED_MS,
            "subSequenceNumber": 0,
            "action": "record",
        }
        for place in range(number)
    ]


def daemon_line(number: int, size: int, first: int = 0, keys: int = 1000) -> bytes:
    """A processRecords line, as the MultiLangDaemon of KCL 3.1.3 writes it."""
    line = {"action": "processRecords", "records": records(number, size, first, keys), "millisBehindLatest": 0}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def get_records_body(number: int, size: int, first: int, iterator: str) -> bytes:
    """The body of a GetRecords response."""
    found = [
        {
            "SequenceNumber": record["sequenceNumber"],
            "ApproximateArrivalTimestamp": _ARRIVED_MS / 1000,
            "Data": record["data"],
            "PartitionKey": record["partitionKey"],
        }
        for record in records(number, size, first)
    ]
    body = {"Records": found, "NextShardIterator": iterator, "MillisBehindLatest": 0}
    return json.dumps(body, separators=(",", ":")).encode()
