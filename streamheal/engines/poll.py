"""Records from Kinesis in one process, by GetRecords: the embedded engine.

    ListShards ──► Lineage ──► a ShardReader each ──► the runtime
                      ▲                                  │
                      └────────── shard_complete ◄───────┘

For a laptop, tests and small streams: there are no leases. Several containers take `kcl`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from streamheal.config import aws
from streamheal.config.aws import AwsOptions
from streamheal.engines.asking import Asking
from streamheal.engines.base import Log, Sink
from streamheal.engines.pace import Backoff, Pace
from streamheal.engines.poll_calls import CALLS_AT_ONCE, Calls
from streamheal.engines.poll_reader import FAULTS, Gone, ShardReader
from streamheal.engines.poll_shards import Begin, Checkpoint, Checkpoints, Lineage, Listed, StartAt
from streamheal.engines.threads import Threads
from streamheal.errors import StreamhealError, Unavailable
from streamheal.records import Position, Shard

__all__ = ["Checkpoint", "Checkpoints", "Pace", "PollEngine", "StartAt"]

# Shards appear by splits and merges, which the end of a parent tells; listing them again
# finds what that may have missed.
_LIST_EVERY_S = 30.0
_START_PATIENCE_S = 10.0
_LISTED_LATE = 5

_AS_BOTO3 = AwsOptions()
_AS_KINESIS = Pace()


class PollEngine:
    """Implements `engines.base.Engine`.

    Args:
        stream: Its name or ARN.
        start_at: Where a shard without a checkpoint starts.
        patience_s: How long `open` tries an endpoint that does not answer.
    """

    def __init__(
        self,
        stream: str,
        *,
        checkpoints: Checkpoints,
        start_at: StartAt = "TRIM_HORIZON",
        aws: AwsOptions = _AS_BOTO3,
        pace: Pace = _AS_KINESIS,
        log: Log | None = None,
        patience_s: float = _START_PATIENCE_S,
    ) -> None:
        self._stream = stream
        self._name = stream.rsplit("/", 1)[-1] if stream.startswith("arn:") else stream
        self._checkpoints, self._start_at, self._options, self._pace = checkpoints, start_at, aws, pace
        self._log: Log = structlog.get_logger() if log is None else log
        self._patience_s = patience_s
        self._threads = Threads(CALLS_AT_ONCE, "kinesis")
        self._readers: dict[str, ShardReader] = {}
        self._children: dict[str, list[str]] = {}
        self._calls: Calls | None = None
        self._asking: Asking
        self._lineage: Lineage | None = None
        self._retention_s: float | None = None
        # What `open` found, for `run` to begin with; None of it is written down before that.
        self._first: list[Begin] = []
        self._latest: dict[str, str] = {}
        self._begun_at = datetime.fromtimestamp(0, UTC)
        self._sink: Sink | None = None
        self._group: asyncio.TaskGroup | None = None

    @property
    def retention_s(self) -> float | None:
        """How long the stream keeps a record; known after `open`."""
        return self._retention_s

    # -- before a record is read ---------------------------------------------------------

    async def open(self) -> None:
        calls = self._calls = await self._threads.call(lambda: Calls(self._stream, self._options))
        asking = self._asking = Asking(self._name, calls, self._threads, self._patience_s)
        summary = await asking.summary()
        self._retention_s = summary["RetentionPeriodHours"] * 3600.0
        shards, told = await asking.patiently(calls.shards)
        self._begun_at = _agreed(datetime.now(UTC), told)
        self._lineage = Lineage(await asking.patiently(self._checkpoints.read_all), self._start_at)
        self._lineage.listed(shards)
        self._first = self._lineage.next()
        for begin in self._first:
            if begin.at == "LATEST" and begin.position is None:
                # Asked for now, so that nothing is missed that is put once we say that we run.
                self._latest[begin.shard_id] = await asking.latest_of(begin.shard_id)
        await asking.try_to_read(shards, self._latest)

    # -- reading ---------------------------------------------------------------------------

    async def run(self, sink: Sink) -> None:
        assert self._lineage is not None, "not open"
        self._sink = sink
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._start(self._first)
                while True:
                    await asyncio.sleep(_LIST_EVERY_S)
                    await self._list()
                    await self._start(self._lineage.next())
        except BaseExceptionGroup as errors:
            # Shards fail alike: one of them is enough to say what happened.
            first = errors.exceptions[0]
            raise first from first.__cause__
        finally:
            self._group = None

    async def _start(self, begins: list[Begin]) -> None:
        assert self._sink is not None
        await self._forget()
        for begin in begins:
            if not begin.remembered:
                await self._remember(begin)
        if self._group is None:
            return
        for begin in begins:
            reader = self._reader(begin)
            self._readers[begin.shard_id] = reader
            self._sink.shard_started(Shard(shard_id=begin.shard_id, stream=self._name), begin.position)
            self._log.info("reading_began", stream=self._name, shard_id=begin.shard_id, at=_told(begin))
            self._group.create_task(self._read(reader), name=begin.shard_id)

    async def _forget(self) -> None:
        """What is remembered of a stream that was deleted and made again."""
        assert self._lineage is not None
        while foreign := self._lineage.foreign:
            shard_id = foreign.pop()
            self._log.warning("checkpoint_of_another_stream", stream=self._name, shard_id=shard_id)
            await self._keep(lambda shard_id=shard_id: self._checkpoints.forget(shard_id))  # type: ignore[misc]  # mypy infers no lambda with defaults

    async def _remember(self, begin: Begin) -> None:
        at = "TRIM_HORIZON"
        if begin.at != "TRIM_HORIZON":
            at = (begin.at if isinstance(begin.at, datetime) else self._begun_at).isoformat()
        await self._keep(lambda: self._checkpoints.begin(begin.shard_id, at))

    async def _keep(self, write: Callable[[], None]) -> None:
        backoff = Backoff(self._pace.fault_s_min, self._pace.fault_s_max)
        while True:
            try:
                await asyncio.to_thread(write)
                return
            except Unavailable as error:
                self._log.warning("state_unavailable", stream=self._name, error=str(error))
                await asyncio.sleep(backoff.wait_s(random.random()))

    def _reader(self, begin: Begin) -> ShardReader:
        assert self._calls is not None
        assert self._sink is not None
        return ShardReader(
            begin,
            stream=self._name,
            begun_at=self._begun_at,
            iterator=self._latest.pop(begin.shard_id, None),
            sink=self._sink,
            calls=self._calls,
            threads=self._threads,
            pace=self._pace,
            log=self._log,
        )

    async def _read(self, reader: ShardReader) -> None:
        assert self._sink is not None
        while True:
            try:
                self._children[reader.shard_id] = await reader.run()
                break
            except Gone as error:
                if not await self._is_listed(reader.shard_id):
                    self._log.warning("shard_trimmed", stream=self._name, shard_id=reader.shard_id, error=str(error))
                    await reader.answered.wait()
                    break
                # Deleted and made again, faster than we could see it: the shard of that name is
                # another, and is read from its beginning.
                await asyncio.sleep(self._pace.fault_s_max * random.random())
        self._sink.shard_ended(reader.shard_id)

    async def _is_listed(self, shard_id: str) -> bool:
        return any(shard.shard_id == shard_id for shard in await self._list())

    async def _list(self) -> list[Listed]:
        assert self._calls is not None
        assert self._lineage is not None
        backoff = Backoff(self._pace.fault_s_min, self._pace.fault_s_max)
        while True:
            try:
                shards, _ = await self._threads.call(self._calls.shards)
                break
            except FAULTS as error:
                if aws.code(error) == "ResourceNotFoundException":
                    raise StreamhealError(
                        f"stream {self._name} in {self._asking.where} was deleted while read"
                    ) from error
                wait_s = backoff.wait_s(random.random())
                told = str(aws.explain(error, "list shards"))
                self._log.warning("list_failed", stream=self._name, error=told, wait_s=round(wait_s, 3))
                await asyncio.sleep(wait_s)
        self._lineage.listed(shards)
        return shards

    # -- what the runtime says -----------------------------------------------------------------

    @property
    def has_brought_all(self) -> bool:
        return True  # children are started before their parent is over

    def answer(self, shard_id: str) -> None:
        if reader := self._readers.get(shard_id):
            reader.answered.set()

    async def checkpoint(self, shard_id: str, position: Position) -> None:
        await asyncio.to_thread(self._checkpoints.write, shard_id, position)

    async def shard_complete(self, shard_id: str) -> None:
        """The shard's children have been started when this returns."""
        assert self._lineage is not None
        await asyncio.to_thread(self._checkpoints.write_ended, shard_id)
        self._readers.pop(shard_id, None)
        self._lineage.complete(shard_id)
        if self._group is None:
            return
        await self._list_children(self._children.pop(shard_id, []))
        await self._start(self._lineage.next())

    async def _list_children(self, told: list[str]) -> None:
        """Listed and not only told of, because the list says what else is known of them."""
        assert self._lineage is not None
        backoff = Backoff(self._pace.fault_s_min, self._pace.fault_s_max)
        await self._list()
        while backoff.faults < _LISTED_LATE:
            missing = [child for child in told if not self._lineage.knows(child)]
            if not missing:
                return
            self._log.warning("shards_not_listed", stream=self._name, shard_ids=missing)
            await asyncio.sleep(backoff.wait_s(random.random()))
            await self._list()

    def shard_left(self, shard_id: str) -> None:
        """Nobody else waits for it."""

    async def close(self) -> None:
        self._threads.close()
        if self._calls is not None:
            self._calls.close()


def _agreed(ours: datetime, told: datetime) -> datetime:
    """The time by Kinesis' clock. It tells whole seconds; ours may say more exactly when within that one."""
    return min(max(ours, told), told + timedelta(seconds=1))


def _told(begin: Begin) -> str:
    if begin.position is not None:
        return str(begin.position.sequence)
    return begin.at.isoformat() if isinstance(begin.at, datetime) else begin.at
