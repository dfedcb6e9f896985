"""Quarantined records as a source of records: the same runtime, isolation and deadlines.

    selection (frozen) ──► by shard, in stream order ──► batches of few ──► the runtime
                                                                              │ checkpoint: healed up to here
    ledger  ◄── healed ──────────────────────────────────────────────────────┘ quarantined: it stays

A checkpoint says that every record up to it is settled. Those that were not set aside again
are healed. Batches are small, so that a killed replay runs few records twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from streamheal.engines.base import Batch, Sink
from streamheal.records import Dialect, Position, Record, Shard

_RECORDS_A_BATCH = 50
_SLOT_WAIT_S = 0.05


class Replayed(NamedTuple):
    """A quarantined record about to be tried again."""

    id: str
    record: Record


class Desk(Protocol):
    """Where records to replay come from, and where it is written what became of them. Blocking."""

    def bring(self, ids: Sequence[str]) -> Sequence[Replayed]:
        """Those of the records that are not settled yet, in any order."""

    def healed(self, ids: Sequence[str]) -> None:
        """The processor has handled them."""

    def stayed(self) -> frozenset[str]:
        """Ids of those that failed again in this replay, so far."""


class _ShardReplay:
    def __init__(self, shard_id: str, records: list[Replayed]) -> None:
        self.shard_id = shard_id
        self.waiting = records
        self.given: list[Replayed] = []
        self.may_bring = asyncio.Event()


class ReplayEngine:
    """Implements `engines.base.Engine` over a frozen list of ids.

    Args:
        ids_by_shard: What was selected, in stream order.
        rate: Records a second over all shards; None: as fast as they are handled.
        progress: Called with how many records more are settled, after each checkpoint.
    """

    def __init__(
        self,
        stream: str,
        ids_by_shard: dict[str, list[str]],
        desk: Desk,
        *,
        rate: float | None = None,
        progress: Callable[[int], None] = lambda settled: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._ids = ids_by_shard
        self._desk = desk
        self._rate = rate
        self._progress = progress
        self._clock = clock
        self._next_at = 0.0
        self._shards: dict[str, _ShardReplay] = {}

    async def open(self) -> None:
        """Nothing to try: the store was tried when the selection was made."""

    async def run(self, sink: Sink) -> None:
        async with asyncio.TaskGroup() as group:
            for shard_id, ids in self._ids.items():
                found = await asyncio.to_thread(self._desk.bring, ids)
                found = sorted(found, key=lambda replayed: replayed.record.position)
                replay = self._shards[shard_id] = _ShardReplay(shard_id, found)
                group.create_task(self._bring(replay, sink))

    async def _bring(self, replay: _ShardReplay, sink: Sink) -> None:
        sink.shard_started(Shard(shard_id=replay.shard_id, stream=self._stream), None)
        while replay.waiting:
            await replay.may_bring.wait()
            replay.may_bring.clear()
            batch = await self._next(replay)
            while (slot := sink.take_slot()) is None:  # noqa: ASYNC110 - slots come back without a word
                await asyncio.sleep(_SLOT_WAIT_S)
            line = _line(batch)
            slot.view[: len(line)] = line
            replay.given += batch
            sink.batch_arrived(replay.shard_id, Batch(slot, len(line), Dialect.DAEMON, records=len(batch)))
        await replay.may_bring.wait()
        sink.shard_ended(replay.shard_id)

    async def _next(self, replay: _ShardReplay) -> list[Replayed]:
        """The next batch, as many as the rate allows now; at least one."""
        most = _RECORDS_A_BATCH
        if self._rate is not None:
            most = max(1, min(most, int(self._rate / 10)))
        batch, replay.waiting = replay.waiting[:most], replay.waiting[most:]
        if self._rate is not None:
            now = self._clock()
            due = max(now, self._next_at)
            self._next_at = due + len(batch) / self._rate
            await asyncio.sleep(due - now)
        return batch

    @property
    def has_brought_all(self) -> bool:
        return True

    def answer(self, shard_id: str) -> None:
        self._shards[shard_id].may_bring.set()

    async def checkpoint(self, shard_id: str, position: Position) -> None:
        replay = self._shards[shard_id]
        passed = [one for one in replay.given if one.record.position <= position]
        stayed = self._desk.stayed()
        await asyncio.to_thread(self._desk.healed, [one.id for one in passed if one.id not in stayed])
        replay.given = [one for one in replay.given if one.record.position > position]
        self._progress(len(passed))

    async def shard_complete(self, shard_id: str) -> None:
        """Nothing follows a shard here."""

    def shard_left(self, shard_id: str) -> None:
        """Nobody else waits for it."""

    async def close(self) -> None:
        """Nothing is held."""


class _Line(msgspec.Struct):
    records: list[dict[str, object]]
    action: str = "processRecords"


def _line(batch: list[Replayed]) -> bytes:
    """A batch as the daemon would write it: the dialect that workers read already."""
    return msgspec.json.encode(_Line([_wire(replayed.record) for replayed in batch]))


def _wire(record: Record) -> dict[str, object]:
    wire: dict[str, object] = {
        "data": record.data,
        "partitionKey": record.partition_key,
        "sequenceNumber": record.sequence_number,
        "subSequenceNumber": record.sub_sequence_number,
        "approximateArrivalTimestamp": round(record.approximate_arrival_timestamp.timestamp() * 1000),
    }
    if record.explicit_hash_key is not None:
        wire["explicitHashKey"] = record.explicit_hash_key
    return wire
