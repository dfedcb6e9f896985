"""The poll engine against AWS on loopback, over real HTTP."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streamheal.config.aws import AwsOptions
from streamheal.engines.poll import Pace, PollEngine
from streamheal.errors import StreamhealError, UsageError
from streamheal.records import Dialect, Position
from tests.engines.proxy import DROPPED, FaultProxy
from tests.engines.recorder import MemoryCheckpoints, RecorderLog, RecorderSink

pytestmark = pytest.mark.anyio

QUICK = Pace(100, float("inf"), quiet_s_min=0.02, quiet_s_max=0.05, fault_s_min=0.01, fault_s_max=0.05)
FIRST = "shardId-000000000000"


def shard(number: int) -> str:
    return f"shardId-{number:012d}"


class Reading:
    """An engine at work, and what it brings."""

    def __init__(self, engine: PollEngine, sink: RecorderSink, log: RecorderLog) -> None:
        self.engine, self.sink, self.log = engine, sink, log
        self.task: asyncio.Task[None]


@asynccontextmanager
async def reading(
    stream: str,
    checkpoints: MemoryCheckpoints | None = None,
    *,
    pace: Pace = QUICK,
    done_by_itself: bool = True,
    slot_bytes: int = 16 << 20,
    **options: Any,
) -> AsyncIterator[Reading]:
    log = RecorderLog()
    engine = PollEngine(stream, checkpoints=checkpoints or MemoryCheckpoints(), pace=pace, log=log, **options)
    sink = RecorderSink(engine, done_by_itself=done_by_itself, slot_bytes=slot_bytes)
    await engine.open()
    found = Reading(engine, sink, log)
    found.task = asyncio.create_task(engine.run(sink))
    try:
        yield found
    finally:
        found.task.cancel()
        await asyncio.gather(found.task, return_exceptions=True)
        await engine.close()


def put(aws: Any, stream: str, *payloads: bytes) -> list[str]:
    """Put records of keys spread over the shards; their sequence numbers."""
    records = [{"Data": payload, "PartitionKey": f"key-{nth}"} for nth, payload in enumerate(payloads)]
    answer = aws.client("kinesis").put_records(StreamName=stream, Records=records)
    return [record["SequenceNumber"] for record in answer["Records"]]


def numbered(first: int, last: int) -> list[bytes]:
    return [str(number).encode() for number in range(first, last)]


async def test_every_shard_is_read_to_its_tip(aws: Any, stream: Callable[..., str]) -> None:
    name = stream(4)
    put(aws, name, *numbered(0, 300))
    async with reading(name) as found:
        sink = found.sink
        await sink.until(lambda: len(sink.data()) == 300 and all(sink.at_tip(shard(n)) for n in range(4)))
        assert sorted(sink.data(), key=int) == numbered(0, 300)
        assert {batch.dialect for batches in sink.batches.values() for batch in batches} == {Dialect.GET_RECORDS}
        put(aws, name, *numbered(300, 400))
        await sink.until(lambda: len(sink.data()) == 400)
    assert sink.slots_out == 0
    assert found.engine.retention_s == 24 * 3600


async def test_no_batch_comes_before_it_is_asked_for_and_one_is_fetched_ahead(
    aws: Any, stream: Callable[..., str]
) -> None:
    name = stream()
    with FaultProxy(aws.url) as proxy:
        async with reading(name, aws=AwsOptions(endpoint_url=proxy.url), done_by_itself=False) as found:
            sink, engine = found.sink, found.engine
            await sink.until(lambda: sink.told == [("started", FIRST)])
            put(aws, name, b"1")
            engine.answer(FIRST)
            await sink.until(lambda: sink.data() == [b"1"])
            await sink.until(lambda: len(sink.lags[FIRST]) > 2)
            put(aws, name, b"2")
            await sink.until(lambda: bool(sink.lags[FIRST]) and not sink.lags[FIRST][-1].at_tip)
            asked = len(proxy.asked("GetRecords"))
            assert sink.data() == [b"1"], "the second is fetched, but not asked for yet"
            engine.answer(FIRST)
            await sink.until(lambda: sink.data() == [b"1", b"2"])
            assert len(proxy.asked("GetRecords")) <= asked + 1


async def test_children_begin_when_both_parents_are_complete(aws: Any, stream: Callable[..., str]) -> None:
    """Two shards are merged and the result is split while they are read."""
    name, kinesis = stream(2), aws.client("kinesis")
    async with reading(name, done_by_itself=False) as found:
        sink, engine = found.sink, found.engine
        await sink.until(lambda: len(sink.events("started")) == 2)
        put(aws, name, *numbered(0, 20))
        kinesis.merge_shards(StreamName=name, ShardToMerge=shard(0), AdjacentShardToMerge=shard(1))
        put(aws, name, *numbered(20, 40))
        kinesis.split_shard(StreamName=name, ShardToSplit=shard(2), NewStartingHashKey=str(2**127))
        put(aws, name, *numbered(40, 60))
        for parent in (shard(0), shard(1)):
            engine.answer(parent)
        await sink.until(lambda: len(sink.events("batch")) == 2)
        assert not sink.events("ended"), "the last batch is not answered yet"
        for parent in (shard(0), shard(1)):
            engine.answer(parent)
        await sink.until(lambda: len(sink.events("ended")) == 2)
        await sink.complete(shard(0))
        assert sink.events("started") == [shard(0), shard(1)], "the other parent is not complete yet"
        await sink.complete(shard(1))
        assert sink.events("started") == [shard(0), shard(1), shard(2)], "started before completing returns"

        sink.done_by_itself = True
        engine.answer(shard(2))
        await sink.until(lambda: len(sink.data()) == 60)
        assert sink.events("started")[3:] == [shard(3), shard(4)]
        assert sorted(sink.data(shard(0), shard(1)), key=int) == numbered(0, 20)
        assert sink.data(shard(2)) == numbered(20, 40)
        assert sorted(sink.data(shard(3), shard(4)), key=int) == numbered(40, 60)


async def test_a_restart_goes_on_at_the_checkpoint_and_says_what_is_settled(
    aws: Any, stream: Callable[..., str]
) -> None:
    """The record at the checkpoint comes again, because it may be an aggregate: `after` tells what of it is settled."""
    name, checkpoints = stream(), MemoryCheckpoints()
    sequence_numbers = [int(put(aws, name, payload)[0]) for payload in numbered(0, 10)]
    async with reading(name, checkpoints) as found:
        await found.sink.until(lambda: len(found.sink.data()) == 10)
        assert found.sink.started_after == {FIRST: None}
        await found.engine.checkpoint(FIRST, Position(sequence_numbers[6], 3))
    async with reading(name, checkpoints) as found:
        sink = found.sink
        await sink.until(lambda: len(sink.data()) == 4)
        assert sink.started_after == {FIRST: Position(sequence_numbers[6], 3)}
        assert sink.data() == numbered(6, 10)
        put(aws, name, b"10")
        await sink.until(lambda: len(sink.data()) == 5)
        assert [batch.after for batch in sink.batches[FIRST]] == [Position(sequence_numbers[6], 3), None]
        assert not found.log.named("records_trimmed")


async def test_what_is_complete_is_not_read_again(aws: Any, stream: Callable[..., str]) -> None:
    name, checkpoints = stream(), MemoryCheckpoints()
    put(aws, name, *numbered(0, 5))
    aws.client("kinesis").split_shard(StreamName=name, ShardToSplit=FIRST, NewStartingHashKey=str(2**127))
    put(aws, name, *numbered(5, 10))
    async with reading(name, checkpoints) as found:
        await found.sink.until(lambda: len(found.sink.data()) == 10)
    async with reading(name, checkpoints) as found:
        await found.sink.until(lambda: len(found.sink.data()) == 5)
        assert found.sink.events("started") == [shard(1), shard(2)]


async def test_a_shard_that_was_closed_before_has_no_tip(aws: Any, stream: Callable[..., str]) -> None:
    """Who runs until all is caught up would else be through before its children begin."""
    name = stream()
    put(aws, name, *numbered(0, 5))
    aws.client("kinesis").split_shard(StreamName=name, ShardToSplit=FIRST, NewStartingHashKey=str(2**127))
    async with reading(name) as found:
        sink = found.sink
        await sink.until(lambda: all(sink.at_tip(shard(n)) for n in (1, 2)))
        assert sink.lags[FIRST]
        assert not any(lag.at_tip for lag in sink.lags[FIRST])


async def test_latest_skips_what_was_there_and_nothing_after_opening(aws: Any, stream: Callable[..., str]) -> None:
    name = stream()
    aws.client("kinesis").split_shard(StreamName=name, ShardToSplit=FIRST, NewStartingHashKey=str(2**127))
    put(aws, name, *numbered(0, 10))
    log = RecorderLog()
    engine = PollEngine(name, checkpoints=MemoryCheckpoints(), start_at="LATEST", pace=QUICK, log=log)
    await engine.open()
    put(aws, name, *numbered(10, 20))
    sink = RecorderSink(engine)
    running = asyncio.create_task(engine.run(sink))
    await sink.until(lambda: len(sink.data()) == 10)
    assert sorted(sink.data(), key=int) == numbered(10, 20)
    assert sink.events("started") == [shard(1), shard(2)], "a closed shard has nothing to give"
    aws.client("kinesis").split_shard(StreamName=name, ShardToSplit=shard(1), NewStartingHashKey=str(2**126))
    put(aws, name, *numbered(20, 30))
    await sink.until(lambda: len(sink.data()) == 20)
    assert sorted(sink.data(), key=int) == numbered(10, 30), "what follows a shard that was read is read wholly"
    running.cancel()
    await engine.close()


async def test_a_restart_before_the_first_checkpoint_begins_where_latest_was(
    aws: Any, stream: Callable[..., str]
) -> None:
    """By Kinesis' clock, and not before what was there then."""
    name, checkpoints = stream(), MemoryCheckpoints()
    put(aws, name, b"before")
    async with reading(name, checkpoints, start_at="LATEST") as found:
        await found.sink.until(lambda: found.sink.at_tip(FIRST))
    put(aws, name, b"while nobody read")
    async with reading(name, checkpoints, start_at="LATEST") as found:
        await found.sink.until(lambda: found.sink.data() == [b"while nobody read"])


async def test_a_time_starts_with_the_first_record_since(aws: Any, stream: Callable[..., str]) -> None:
    name, kinesis = stream(), aws.client("kinesis")
    start = kinesis.get_shard_iterator(StreamName=name, ShardId=FIRST, ShardIteratorType="TRIM_HORIZON")
    records: list[dict[str, Any]] = []
    while len({record["ApproximateArrivalTimestamp"] for record in records}) < 3:
        put(aws, name, b"%d" % len(records))
        records = kinesis.get_records(ShardIterator=start["ShardIterator"])["Records"]
    since = sorted(record["ApproximateArrivalTimestamp"] for record in records)[1]
    expected = [record["Data"] for record in records if record["ApproximateArrivalTimestamp"] >= since]
    async with reading(name, start_at=since) as found:
        await found.sink.until(lambda: found.sink.data() == expected)


async def test_expired_iterators_throttling_and_lost_connections_are_waited_out(
    aws: Any, stream: Callable[..., str]
) -> None:
    name = stream()
    put(aws, name, *numbered(0, 5))
    with FaultProxy(aws.url) as proxy:
        async with reading(name, aws=AwsOptions(endpoint_url=proxy.url)) as found:
            sink = found.sink
            await sink.until(lambda: len(sink.data()) == 5)
            # botocore tries each but the first once more by itself.
            proxy.refuse("GetRecords", "ExpiredIteratorException", "ExpiredIteratorException")
            proxy.refuse("GetShardIterator", *["ProvisionedThroughputExceededException"] * 2)
            proxy.refuse("GetRecords", *["ProvisionedThroughputExceededException"] * 2)
            proxy.refuse("GetRecords", *["KMSThrottlingException"] * 2, DROPPED, DROPPED)
            proxy.refuse("GetRecords", "InternalFailure", "InternalFailure", status=500)
            proxy.refuse("GetRecords", "AccessDeniedException")
            put(aws, name, *numbered(5, 10))
            await sink.until(lambda: len(sink.data()) == 10)
            await sink.until(lambda: bool(found.log.named("read_recovered")))
    assert sink.data() == numbered(0, 10), "each once, in order"
    assert {fields["because"] for fields in found.log.named("iterator_renewed")} == {"ExpiredIteratorException"}
    assert {fields["because"] for fields in found.log.named("read_throttled")} == {
        "ProvisionedThroughputExceededException",
        "KMSThrottlingException",
    }
    failed = " ".join(fields["error"] for fields in found.log.named("read_failed"))
    assert "InternalFailure" in failed
    assert "AWS does not allow it" in failed
    assert all(fields["shard_id"] == FIRST for _, fields in found.log.events)


async def test_a_stream_made_again_under_its_name_is_read_from_its_beginning(
    aws: Any, stream: Callable[..., str]
) -> None:
    """Nothing that is remembered of the one before may hide a record of this one."""
    name, checkpoints, kinesis = stream(2), MemoryCheckpoints(), aws.client("kinesis")
    put(aws, name, *numbered(0, 5))
    kinesis.merge_shards(StreamName=name, ShardToMerge=shard(0), AdjacentShardToMerge=shard(1))
    [last] = put(aws, name, b"5")
    async with reading(name, checkpoints) as found:
        await found.sink.until(lambda: len(found.sink.data()) == 6)
        await found.engine.checkpoint(shard(2), Position(int(last)))
    kinesis.delete_stream(StreamName=name)
    kinesis.create_stream(StreamName=name, ShardCount=3)
    put(aws, name, *numbered(6, 60))
    async with reading(name, checkpoints) as found:
        await found.sink.until(lambda: len(found.sink.data()) == 54)
        foreign = [fields["shard_id"] for fields in found.log.named("checkpoint_of_another_stream")]
        assert sorted(foreign) == [shard(0), shard(1), shard(2)]
        assert found.sink.started_after == {shard(0): None, shard(1): None, shard(2): None}
    assert {row.ended for row in checkpoints.rows.values()} == {False}


async def test_a_stream_made_again_while_it_is_read_is_read_from_its_beginning(
    aws: Any, stream: Callable[..., str]
) -> None:
    name, kinesis = stream(), aws.client("kinesis")
    put(aws, name, b"old")
    async with reading(name) as found:
        await found.sink.until(lambda: found.sink.data() == [b"old"] and found.sink.at_tip(FIRST))
        kinesis.delete_stream(StreamName=name)
        kinesis.create_stream(StreamName=name, ShardCount=1)
        put(aws, name, b"new")
        await found.sink.until(lambda: found.sink.data() == [b"old", b"new"])
        assert not found.sink.events("ended")


async def test_a_checkpoint_that_the_stream_no_longer_knows_begins_at_its_horizon(
    aws: Any, stream: Callable[..., str]
) -> None:
    """The stream knew it when the shards were listed, and has trimmed it since."""
    name, checkpoints = stream(), MemoryCheckpoints()
    [last] = put(aws, name, b"0")
    checkpoints.write(FIRST, Position(int(last) + 10**20))
    put(aws, name, b"1")
    with FaultProxy(aws.url) as proxy:
        async with reading(name, checkpoints, aws=AwsOptions(endpoint_url=proxy.url), done_by_itself=False) as found:
            await found.sink.until(lambda: found.sink.events("started") == [FIRST])
            proxy.refuse("GetShardIterator", "InvalidArgumentException")
            found.engine.answer(FIRST)
            await found.sink.until(lambda: bool(found.sink.batches[FIRST]))
    assert found.sink.data() == [b"0", b"1"]
    assert found.log.named("records_trimmed")[0]["before"] == str(int(last) + 10**20)
    assert found.sink.batches[FIRST][0].after is None


async def test_a_gap_after_the_checkpoint_is_told(aws: Any, stream: Callable[..., str]) -> None:
    """Kinesis may take a trimmed number for its horizon without a word."""
    name, checkpoints = stream(), MemoryCheckpoints()
    [first] = put(aws, name, b"0")
    [second] = put(aws, name, b"1")
    checkpoints.write(FIRST, Position(int(first) + 1))
    async with reading(name, checkpoints) as found:
        await found.sink.until(lambda: found.sink.data() == [b"1"])
        assert [fields["before"] for fields in found.log.named("records_trimmed")] == [second]


async def test_records_of_10_mib_arrive_whole(aws: Any, stream: Callable[..., str]) -> None:
    name = stream(MaxRecordSizeInKiB=10_240)
    large = bytes(range(256)) * 4 * 1024 * 10
    put(aws, name, b"before")
    put(aws, name, large)
    put(aws, name, b"after")
    async with reading(name) as found:
        await found.sink.until(lambda: len(found.sink.data()) == 3)
        assert found.sink.data() == [b"before", large, b"after"]


async def test_a_batch_larger_than_a_slot_is_asked_for_in_parts(aws: Any, stream: Callable[..., str]) -> None:
    name = stream()
    payloads = [bytes([nth]) * 1000 for nth in range(100)]
    put(aws, name, *payloads)
    with FaultProxy(aws.url) as proxy:
        async with reading(name, slot_bytes=20_000, aws=AwsOptions(endpoint_url=proxy.url)) as found:
            await found.sink.until(lambda: len(found.sink.data()) == 100 and found.sink.at_tip(FIRST))
    assert found.sink.data() == payloads
    assert found.sink.slots_out == 0
    limits = [call.request["Limit"] for call in proxy.asked("GetRecords")[1:]]
    assert limits[0] == 10_000
    assert 1 < limits[1] < 20
    assert limits[2] == 10_000, "asked for all again, once it was handed over"


async def test_a_quiet_shard_is_asked_about_once_a_second(aws: Any, stream: Callable[..., str]) -> None:
    """Calls 0.25, 0.5 and 1 s apart, looked at as a whole: single gaps shift on a busy machine."""
    name = stream()
    with FaultProxy(aws.url) as proxy:
        async with reading(name, pace=Pace(), aws=AwsOptions(endpoint_url=proxy.url)):
            await asyncio.to_thread(proxy.until_asked, "GetRecords", 5)
        at = [call.at for call in proxy.asked("GetRecords")[1:]]
    assert at[3] - at[0] > 1.2


async def test_being_stopped_does_not_wait_for_an_answer(aws: Any, stream: Callable[..., str]) -> None:
    name = stream()
    with socket.create_server(("127.0.0.1", 0)) as silent, FaultProxy(aws.url) as proxy:
        async with reading(name, aws=AwsOptions(endpoint_url=proxy.url)) as found:
            await found.sink.until(lambda: found.sink.at_tip(FIRST))
            proxy.hand_over_to(silent.getsockname()[1])
            await asyncio.to_thread(proxy.until_asked, "GetRecords", len(proxy.asked("GetRecords")) + 1)
            began = time.monotonic()
        assert time.monotonic() - began < 2


async def test_a_stream_deleted_while_it_is_read_is_said_to_be(aws: Any, stream: Callable[..., str]) -> None:
    name = stream(2)
    async with reading(name) as found:
        await found.sink.until(lambda: found.sink.at_tip(FIRST))
        aws.client("kinesis").delete_stream(StreamName=name)
        with pytest.raises(StreamhealError, match=f"stream {name} in us-east-1 at http.* was deleted while read"):
            await asyncio.wait_for(found.task, 20)


async def opening(stream: str, **options: Any) -> str:
    """What is said when the engine cannot be opened."""
    engine = PollEngine(stream, checkpoints=MemoryCheckpoints(), log=RecorderLog(), **options)
    with pytest.raises(UsageError) as raised:
        await engine.open()
    await engine.close()
    return str(raised.value)


async def test_a_stream_that_is_not_there_is_named_with_the_one_meant(aws: Any, stream: Callable[..., str]) -> None:
    name = stream()
    said = await opening(name[:-1])
    assert said.startswith(f"no stream {name[:-1]} in us-east-1 at {aws.url}. Did you mean {name}")


async def test_an_endpoint_that_refuses_is_tried_for_a_while(aws: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    said = await opening("orders", aws=AwsOptions(endpoint_url=url), patience_s=0.5)
    assert said == f"cannot read stream orders: {url} does not answer (tried for 0.5 s)"


async def test_an_endpoint_that_comes_up_late_is_enough(aws: Any, stream: Callable[..., str]) -> None:
    name = stream()
    with FaultProxy(aws.url) as proxy:
        proxy.refuse("DescribeStreamSummary", DROPPED, DROPPED, DROPPED)
        async with reading(name, aws=AwsOptions(endpoint_url=proxy.url)) as found:
            await found.sink.until(lambda: found.sink.at_tip(FIRST))


@pytest.mark.parametrize("operation", ["DescribeStreamSummary", "ListShards", "GetShardIterator", "GetRecords"])
async def test_a_missing_permission_is_known_before_anything_is_read(
    aws: Any, stream: Callable[..., str], operation: str
) -> None:
    with FaultProxy(aws.url) as proxy:
        proxy.refuse(operation, "AccessDeniedException")
        name = stream()
        said = await opening(name, aws=AwsOptions(endpoint_url=proxy.url))
    assert said == f"cannot read stream {name}: AWS does not allow it. by the proxy (AccessDeniedException)"
