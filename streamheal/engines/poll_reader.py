"""Reads one shard to its end, one batch ahead of the runtime.

fetch ──► wait for `answer` ──► slot ──► batch_arrived ──► fetch the next while that one is open
  ▲                                                              │
  └── renewed iterator: expired, refused, or a batch too large ──┘
"""

from __future__ import annotations

import asyncio
import random
from datetime import datetime
from typing import Any, NamedTuple

import botocore.exceptions
import msgspec

from streamheal.config import aws
from streamheal.engines.base import Batch, Log, Sink, Slot
from streamheal.engines.pace import Backoff, Pace, Turn
from streamheal.engines.poll_calls import Calls, Fetched
from streamheal.engines.poll_shards import Begin
from streamheal.engines.threads import Threads
from streamheal.errors import StreamhealError
from streamheal.records import Dialect

_SLOT_WAIT_S = 0.05
_LAG_EVERY_S = 1.0
_LIMIT = 10_000

FAULTS = (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError, msgspec.DecodeError)
_BAD_ITERATOR = frozenset({"ExpiredIteratorException", "InvalidArgumentException"})
_GONE = "ResourceNotFoundException"


class Gone(StreamhealError):
    """The shard (or its stream) is not there any more."""


class Place(NamedTuple):
    """From where to ask for an iterator."""

    kind: str
    at: dict[str, Any]


def place(begin: Begin, begun_at: datetime) -> Place:
    if begin.position is not None:
        # AT and not AFTER: the record may be an aggregate of which only a part is settled.
        return Place("AT_SEQUENCE_NUMBER", {"StartingSequenceNumber": str(begin.position.sequence)})
    if begin.at == "TRIM_HORIZON":
        return Place("TRIM_HORIZON", {})
    # What is the latest moves on: asked for again, it would not be what it was.
    return Place("AT_TIMESTAMP", {"Timestamp": begun_at if begin.at == "LATEST" else begin.at})


class ShardReader:
    """One shard's reading.

    Args:
        begin: Where to start.
        begun_at: When that was decided, by Kinesis' clock: LATEST means this.
        iterator: One for that place, if there is one already; for LATEST, more exact than the time.
    """

    def __init__(
        self,
        begin: Begin,
        *,
        stream: str,
        begun_at: datetime,
        iterator: str | None,
        sink: Sink,
        calls: Calls,
        threads: Threads,
        pace: Pace,
        log: Log,
    ) -> None:
        self.shard_id = begin.shard_id
        self.answered = asyncio.Event()
        self._sink, self._calls, self._threads, self._log = sink, calls, threads, log
        self._pace = pace
        self._turn = Turn(pace)
        self._place = place(begin, begun_at)
        self._names = {"stream": stream, "shard_id": begin.shard_id}
        self._after = begin.position
        self._is_open = begin.is_open
        self._iterator = iterator
        self._limit = _LIMIT

    async def run(self) -> list[str]:
        """Bring everything; then the shards that follow this one.

        Raises:
            Gone: There is no such shard any more. Called again, it goes on where it was.
        """
        while True:
            fetched = await self._fetch()
            if fetched.last is not None:
                await self._until_answered(fetched)
                if not await self._bring(fetched):
                    continue
            self._is_open &= fetched.next_iterator is not None
            self._sink.lag_measured(self.shard_id, fetched.behind_s, fetched.behind_s == 0 and self._is_open)
            if fetched.next_iterator is None:
                await self.answered.wait()
                return fetched.children

    async def _bring(self, fetched: Fetched) -> bool:
        slot = await self._slot()
        if len(fetched.body) > len(slot.view):
            self._sink.give_back(slot)
            self._ask_for_less(fetched, len(slot.view))
            return False
        self._look_for_a_gap(fetched)
        slot.view[: len(fetched.body)] = fetched.body
        after, self._after = self._after, None
        self._place = Place("AFTER_SEQUENCE_NUMBER", {"StartingSequenceNumber": str(fetched.last)})
        self.answered.clear()
        self._sink.batch_arrived(self.shard_id, Batch(slot, len(fetched.body), Dialect.GET_RECORDS, after))
        self._limit = _LIMIT
        return True

    def _ask_for_less(self, fetched: Fetched, room: int) -> None:
        records = fetched.records()
        if records == 1:
            raise StreamhealError(
                f"{self.shard_id}: record {fetched.last} takes {len(fetched.body):,} bytes in GetRecords' answer, "
                f"and a batch has room for {room:,}"
            )
        self._limit = max(1, min(records - 1, records * room // len(fetched.body) * 3 // 4))
        self._iterator = fetched.by

    async def _slot(self) -> Slot:
        while (slot := self._sink.take_slot()) is None:  # noqa: ASYNC110 - a sink does not tell when one is free
            await asyncio.sleep(_SLOT_WAIT_S)
        return slot

    async def _until_answered(self, fetched: Fetched) -> None:
        """Wait until the next batch may come. The lag grows meanwhile, and people want to see it grow."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        while not self.answered.is_set():
            try:
                async with asyncio.timeout(_LAG_EVERY_S):
                    await self.answered.wait()
            except TimeoutError:
                self._sink.lag_measured(self.shard_id, fetched.behind_s + loop.time() - since, False)

    async def _fetch(self) -> Fetched:
        """The next answer of GetRecords, however long that takes."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._turn.wait_s(loop.time()))
        asked_at = loop.time()
        fetched = await self._insist()
        self._turn.called(asked_at, fetched.payload_bytes, fetched.behind_s == 0)
        self._iterator = fetched.next_iterator
        return fetched

    async def _insist(self) -> Fetched:
        """Ask until there is an answer. Whatever was right at the start may come right again."""
        backoff = Backoff(self._pace.fault_s_min, self._pace.fault_s_max)
        while True:
            try:
                fetched = await self._ask()
            except FAULTS as error:
                if aws.code(error) == _GONE:
                    raise Gone(str(aws.explain(error, f"read {self.shard_id}"))) from error
                wait_s = backoff.wait_s(random.random())
                self._tell(error, wait_s)
                await asyncio.sleep(wait_s)
            else:
                if backoff.faults:
                    self._log.info("read_recovered", **self._names, faults=backoff.faults)
                return fetched

    async def _ask(self) -> Fetched:
        iterator, limit = self._iterator or await self._new_iterator(), self._limit
        self._iterator = iterator
        try:
            return await self._threads.call(lambda: self._calls.records(iterator, limit))
        except FAULTS as error:
            if aws.code(error) in _BAD_ITERATOR or aws.code(error) == _GONE:
                self._iterator = None
            raise

    async def _new_iterator(self) -> str:
        kind, at = self._place
        try:
            return await self._threads.call(lambda: self._calls.iterator(self.shard_id, kind, **at))
        except FAULTS as error:
            if "SEQUENCE_NUMBER" in kind and aws.code(error) == "InvalidArgumentException":
                self._log.warning("records_trimmed", **self._names, before=at["StartingSequenceNumber"])
                self._place, self._after = Place("TRIM_HORIZON", {}), None
            raise

    def _look_for_a_gap(self, fetched: Fetched) -> None:
        """A number that the stream has trimmed may be taken as its horizon, without a word."""
        if self._after is not None and fetched.first != self._after.sequence:
            self._log.warning("records_trimmed", **self._names, before=str(fetched.first))

    def _tell(self, error: BaseException, wait_s: float) -> None:
        if aws.code(error) in _BAD_ITERATOR:
            self._log.info("iterator_renewed", **self._names, because=aws.code(error))
        elif aws.is_throttling(error):
            self._log.warning("read_throttled", **self._names, because=aws.code(error), wait_s=round(wait_s, 3))
        else:
            told = str(aws.explain(error, f"read {self.shard_id}"))
            self._log.warning("read_failed", **self._names, error=told, wait_s=round(wait_s, 3))
