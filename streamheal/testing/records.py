"""Records made of whatever a test has at hand."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from streamheal.records import Record

# As long as Kinesis' own, so that code which cuts, pads or compares them meets the real thing.
_FIRST = 49_600_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000
_FIRST_ARRIVAL = datetime(2025, 1, 1, tzinfo=UTC)
_numbers = itertools.count(1)


def record(
    data: Any = b"",
    partition_key: str | None = None,
    *,
    sequence_number: str | int | None = None,
    sub_sequence_number: int = 0,
    shard_id: str = "shardId-000000000000",
    approximate_arrival_timestamp: datetime | None = None,
    explicit_hash_key: str | None = None,
) -> Record:
    """A record as it would come from a stream, each later than the one made before it.

    Args:
        data: Bytes and text as they are; anything else is written as JSON.
        partition_key: None: a key of its own, so that it waits for no other record.
        sequence_number: None: the next one.
    """
    number = next(_numbers)
    return Record(
        data=_bytes(data),
        partition_key=f"key-{number}" if partition_key is None else partition_key,
        sequence_number=str(_FIRST + number if sequence_number is None else sequence_number),
        sub_sequence_number=sub_sequence_number,
        approximate_arrival_timestamp=approximate_arrival_timestamp or _FIRST_ARRIVAL + timedelta(seconds=number),
        explicit_hash_key=explicit_hash_key,
        shard_id=shard_id,
    )


def as_records(given: Iterable[Any]) -> list[Record]:
    if isinstance(given, bytes | str | dict | Record):
        raise TypeError(f"heal takes a list of records; this is one {type(given).__name__}: write [it]")
    return [one if isinstance(one, Record) else record(one) for one in given]


def _bytes(data: Any) -> bytes:
    match data:
        case bytes():
            return data
        case bytearray() | memoryview():
            return bytes(data)
        case str():
            return data.encode()
        case _:
            return msgspec.json.encode(data)
