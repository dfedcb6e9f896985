"""A batch's bytes into records: both dialects, aggregates, and what lies before a checkpoint."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import aws_kinesis_agg.aggregator
import pytest

from streamheal.records import Dialect, Position, Record
from streamheal.workers.decode import decoder

from .stand import FIRST, line


def body(*datas: bytes) -> memoryview:
    """As Kinesis answers GetRecords."""
    records = [
        {
            "ApproximateArrivalTimestamp": 1.795424770703e9,
            "Data": base64.b64encode(data).decode(),
            "PartitionKey": f"k{n}",
            "SequenceNumber": str(FIRST + n),
        }
        for n, data in enumerate(datas)
    ]
    return memoryview(json.dumps({"MillisBehindLatest": 0, "NextShardIterator": "AAA", "Records": records}).encode())


def aggregate(*users: tuple[str, bytes, str | None]) -> bytes:
    maker = aws_kinesis_agg.aggregator.RecordAggregator()
    for key, data, hash_key in users:
        maker.add_user_record(key, data, hash_key)
    _, _, raw = maker.clear_and_get().get_contents()
    return bytes(raw)


def get(*datas: bytes, after: Position | None = None) -> list[Record]:
    return decoder("shardId-7")(Dialect.GET_RECORDS, body(*datas), after)


def test_both_dialects_make_the_same_records() -> None:
    read = decoder("shardId-7")
    of_daemon = read(Dialect.DAEMON, memoryview(line([b"one", b"two"])), None)
    of_kinesis = read(Dialect.GET_RECORDS, body(b"one", b"two"), None)
    for one, two in zip(of_daemon, of_kinesis, strict=True):
        assert isinstance(one, Record)
        assert isinstance(two, Record)
        assert (one.data, one.partition_key, one.position) == (two.data, two.partition_key, two.position)
        assert one.shard_id == two.shard_id == "shardId-7"
        assert one.approximate_arrival_timestamp == datetime(2026, 11, 23, 9, 6, 10, 703000, UTC)
        assert two.approximate_arrival_timestamp == one.approximate_arrival_timestamp
        assert (one.attempt, one.explicit_hash_key) == (1, None)


def test_an_aggregate_is_its_user_records_each_with_a_position() -> None:
    packed = aggregate(("a", b"first", None), ("b", b"second", "170141183460469231731687303715884105728"))
    records = get(b"alone", packed, b"alone too")
    assert [(r.data, r.partition_key, r.position.sequence - FIRST, r.sub_sequence_number) for r in records] == [
        (b"alone", "k0", 0, 0),
        (b"first", "a", 1, 0),
        (b"second", "b", 1, 1),
        (b"alone too", "k2", 2, 0),
    ]
    assert records[2].explicit_hash_key == "170141183460469231731687303715884105728"
    assert all(record.shard_id == "shardId-7" for record in records)


def test_records_up_to_the_checkpoint_are_left_out() -> None:
    packed = aggregate(("a", b"first", None), ("a", b"second", None), ("a", b"third", None))
    records = get(packed, b"next", after=Position(FIRST, 1))
    assert [record.data for record in records] == [b"third", b"next"]


def _broken(how: str) -> bytes:
    good = aggregate(("a", b"first", None), ("a", b"second", None))
    match how:
        case "cut":
            return good[:-3]
        case "magic alone":
            return good[:4]
        case "digest of something else":
            return good[:-1] + bytes([good[-1] ^ 1])
    import hashlib

    inside = {"no protobuf": b"\xff" * 40, "a key that is not there": b"\x1a\x04\x08\x05\x1a\x00"}[how]
    return good[:4] + inside + hashlib.md5(inside, usedforsecurity=False).digest()


@pytest.mark.parametrize(
    "how", ["cut", "magic alone", "digest of something else", "no protobuf", "a key that is not there"]
)
def test_a_broken_aggregate_is_delivered_as_it_is(how: str) -> None:
    raw = _broken(how)
    assert [record.data for record in get(b"before", raw, b"after")] == [b"before", raw, b"after"]


def test_the_daemon_has_opened_aggregates_already() -> None:
    packed = aggregate(("a", b"first", None))
    (record,) = decoder("s")(Dialect.DAEMON, memoryview(line([packed])), None)
    assert record.data == packed


def test_nothing_is_no_records() -> None:
    assert get() == []
    empty: Any = memoryview(b'{"action":"processRecords","records":[]}\n')
    assert decoder("s")(Dialect.DAEMON, empty, None) == []
