"""The poll engine against AWS on loopback, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from streamheal.config.aws import AwsOptions
from streamheal.engines.poll import Pace, PollEngine
from streamheal.errors import StreamhealError, UsageError
from streamheal.records import Dialect, Position
from tests.engines.recorder import MemoryCheckpoints, RecorderLog, RecorderSink

pytestmark = pytest.mark.anyio

QUICK = Pace(calls_per_s=100, bytes_per_s=float("inf"), quiet_s_min=0.02, quiet_s_max=0.05)
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
