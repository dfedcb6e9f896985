from __future__ import annotations

import base64
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from streamheal.config.aws import AwsOptions
from streamheal.errors import StoreError, StoreUnavailable, UsageError
from streamheal.quarantine import kinesis
from streamheal.quarantine.base import Selection, Store
from streamheal.quarantine.open import open_store
from streamheal.state.sqlite import SqliteState
from tests.quarantine.promises import EVERY, check_store
from tests.quarantine.samples import attempt, envelope

MiB = 1 << 20


@pytest.fixture
def state(tmp_path: Path) -> Iterator[SqliteState]:
    state = SqliteState(tmp_path / "state.db")
    yield state
    state.close()


@pytest.fixture
def opened(stream: Callable[..., str], bucket: Callable[[], str], state: SqliteState) -> Callable[[], Store]:
    """One stream and bucket, opened anew with each call."""
    url = f"kinesis://{stream(shards=3)}?spill=s3://{bucket()}/spilled"
    return lambda: open_store(url, state=state)


def payload(size: int) -> bytes:
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


def test_kinesis_keeps_every_promise_of_a_store(opened: Callable[[], Store]) -> None:
    check_store(opened)


def test_the_envelope_is_the_record_under_the_original_key(
    aws: Any, stream: Callable[..., str], state: SqliteState
) -> None:
    name = stream()
    open_store(f"kinesis://{name}", state=state).put([envelope(1)])
    client = aws.client("kinesis")
    iterator = client.get_shard_iterator(
        StreamName=name, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    (record,) = client.get_records(ShardIterator=iterator)["Records"]
    assert record["PartitionKey"] == "cust-1"
    assert record["Data"].startswith(b'{"streamheal":1,"id":"')


def test_bytes_without_room_in_the_stream_spill_and_come_back(opened: Callable[[], Store], aws: Any) -> None:
    large = envelope(1, data_base64=base64.b64encode(payload(900_000)).decode())
    assert opened().put([large, envelope(2)]) == [None, None]
    (listed, _) = opened().scan(EVERY)
    assert listed.data_base64 is None
    assert listed.data_ref is not None
    assert listed.data_ref.endswith(f"/application=shop-orders/stream=orders/date=2026-11-24/{large.id}.bin")
    assert opened().get(large.id).data == payload(900_000)
    bucket, _, key = listed.data_ref.removeprefix("s3://").partition("/")
    assert aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read() == payload(900_000)


def test_a_stream_that_takes_large_records_is_given_them(
    aws: Any, stream: Callable[..., str], state: SqliteState
) -> None:
    """The limit is the stream's own: MaxRecordSizeInKiB."""
    name = stream(MaxRecordSizeInKiB=4096)
    store = open_store(f"kinesis://{name}", state=state)
    large = envelope(1, data_base64=base64.b64encode(payload(2 * MiB)).decode())
    assert store.put([large]) == [None]
    assert store.get(large.id) == large


def test_without_a_place_to_spill_to_a_large_record_is_an_error(stream: Callable[..., str], state: SqliteState) -> None:
    name = stream()
    store = open_store(f"kinesis://{name}", state=state)
    with structlog.testing.capture_logs() as logs:
        store.check()
    assert [(log["event"], log["record_bytes_max"]) for log in logs] == [("quarantine_cannot_spill", MiB)]
    large = envelope(1, data_base64=base64.b64encode(payload(MiB)).decode())
    refused, kept = store.put([large, envelope(2)])
    assert isinstance(refused, StoreError)
    assert "expected kinesis://stream?spill=s3://bucket/prefix" in str(refused)
    assert kept is None


def test_long_stories_are_cut_before_a_record_is_refused(opened: Callable[[], Store]) -> None:
    """25 tries of 64 KiB are more than a stream's record has room for."""
    tries = [attempt(number=nth, traceback="x" * 65_000, log="y" * 16_000) for nth in range(1, 26)]
    assert opened().put([envelope(1, attempts=tries)]) == [None]
    found = opened().get(envelope(1).id)
    assert len(found.attempts) == 25
    assert "bytes cut" in (found.attempts[0].traceback or "")
    assert found.data == envelope(1).data, "the bytes did not have to go"


def test_a_masked_payload_stays_masked_when_its_bytes_spill(opened: Callable[[], Store]) -> None:
    large = base64.b64encode(payload(MiB)).decode()
    opened().put([envelope(1, data_base64=large, masked_base64=base64.b64encode(b"*" * MiB).decode())])
    (found,) = opened().scan(EVERY)
    assert found.shown == b"*" * 64 * 1024


def test_more_than_a_request_holds_goes_in_several(opened: Callable[[], Store]) -> None:
    some = [envelope(nth, data_base64="A" * (20_000 if nth < 300 else 8)) for nth in range(1100)]
    assert opened().put(some) == [None] * 1100
    assert [one.id for one in opened().scan(EVERY)] == [one.id for one in some]


def test_strange_records_hide_no_envelope(aws: Any, stream: Callable[..., str], state: SqliteState) -> None:
    name = stream()
    store = open_store(f"kinesis://{name}", state=state)
    store.put([envelope(1)])
    for data in (b"not json", b'{"order": 1}', b'{"streamheal": "probe"}'):
        aws.client("kinesis").put_record(StreamName=name, Data=data, PartitionKey="x")
    store.put([envelope(2)])
    with structlog.testing.capture_logs() as logs:
        assert [one.id for one in store.scan(EVERY)] == [envelope(1).id, envelope(2).id]
    assert [log["event"] for log in logs] == ["envelope_unreadable", "envelope_unreadable"]


def test_a_resharded_stream_is_read_from_its_oldest_shards_on(
    aws: Any, stream: Callable[..., str], state: SqliteState
) -> None:
    name = stream()
    store = open_store(f"kinesis://{name}", state=state)
    store.put([envelope(1), envelope(2)])
    client = aws.client("kinesis")
    client.split_shard(StreamName=name, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**127))
    client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    store.put([envelope(1, verdict="a second copy"), envelope(3), envelope(4)])
    assert list(store.scan(EVERY)) == [envelope(nth) for nth in (1, 2, 3, 4)]
    assert store.get(envelope(4).id) == envelope(4)


def test_a_replay_reads_what_a_scan_has_found(opened: Callable[[], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one, within what is kept and beyond it."""
    monkeypatch.setattr(kinesis, "_KEPT_BYTES_MAX", 5_000)
    store = opened()
    some = [envelope(nth) for nth in range(20)]
    store.put(some)
    ids = [one.id for one in store.scan(Selection())]
    assert [store.get(id) for id in ids] == some


def test_a_missing_stream_is_said_with_what_would_make_it(aws: Any, state: SqliteState) -> None:
    store = open_store("kinesis://nobody-made-it", state=state)
    with pytest.raises(UsageError, match="aws kinesis create-stream --stream-name nobody-made-it"):
        store.check()
    (outcome,) = store.put([envelope(1)])
    assert isinstance(outcome, StoreError)


def test_a_check_writes_nothing_that_others_would_read(
    aws: Any, stream: Callable[..., str], state: SqliteState
) -> None:
    name = stream()
    open_store(f"kinesis://{name}", state=state).check()
    client = aws.client("kinesis")
    iterator = client.get_shard_iterator(
        StreamName=name, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    assert client.get_records(ShardIterator=iterator)["Records"] == []


def test_an_endpoint_that_refuses_is_waited_for(aws: Any, state: SqliteState) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = AwsOptions(endpoint_url=f"http://127.0.0.1:{free.getsockname()[1]}")
    store = open_store("kinesis://orders", state=state, aws=nobody)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        store.check()
    assert [type(outcome) for outcome in store.put([envelope(1)])] == [StoreUnavailable]
