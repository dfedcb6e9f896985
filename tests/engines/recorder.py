"""A runtime's place taken by a recorder: keeps what an engine brings, and answers as told."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from streamheal.engines.base import Batch, Engine, Slot
from streamheal.records import Position, Shard

_PATIENCE_S = 20.0


class MemorySlot:
    def __init__(self, size: int) -> None:
        self.view = memoryview(bytearray(size))


class Lag(NamedTuple):
    lag_s: float
    at_tip: bool


class RecorderSink:
    """Implements `engines.base.Sink`; `done_by_itself` completes ended shards and answers batches.

    Attributes:
        told: Everything that was told, in order: (event, shard id).
        records: By shard, as GetRecords wrote them, `Data` as bytes.
    """

    def __init__(self, engine: Engine, *, done_by_itself: bool = True, slot_bytes: int = 16 << 20) -> None:
        self.engine = engine
        self.done_by_itself = done_by_itself
        self.told: list[tuple[str, str]] = []
        self.started_after: dict[str, Position | None] = {}
        self.records: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.batches: dict[str, list[Batch]] = defaultdict(list)
        self.lags: dict[str, list[Lag]] = defaultdict(list)
        self.slots_out = 0
        self._slot_bytes = slot_bytes
        self._changed = asyncio.Condition()
        self._chores: set[asyncio.Task[None]] = set()

    def shard_started(self, shard: Shard, after: Position | None) -> None:
        self.started_after[shard.shard_id] = after
        self._note("started", shard.shard_id)
        if self.done_by_itself:
            self.engine.answer(shard.shard_id)

    def take_slot(self) -> Slot | None:
        self.slots_out += 1
        return MemorySlot(self._slot_bytes)

    def give_back(self, slot: Slot) -> None:
        self.slots_out -= 1

    def batch_arrived(self, shard_id: str, batch: Batch) -> None:
        self.slots_out -= 1
        self.batches[shard_id].append(batch)
        for record in json.loads(bytes(batch.slot.view[: batch.length]))["Records"]:
            record["Data"] = base64.b64decode(record["Data"])
            self.records[shard_id].append(record)
        self._note("batch", shard_id)
        if self.done_by_itself:
            self.engine.answer(shard_id)

    def lag_measured(self, shard_id: str, lag_s: float, at_tip: bool) -> None:
        self.lags[shard_id].append(Lag(lag_s, at_tip))
        self._spawn(self._notify())

    def shard_ended(self, shard_id: str) -> None:
        self._note("ended", shard_id)
        if self.done_by_itself:
            self._spawn(self.complete(shard_id))

    def lease_lost(self, shard_id: str) -> None:
        self._note("lost", shard_id)

    def shutdown_requested(self, shard_id: str) -> None:
        self._note("shutdown", shard_id)

    async def complete(self, shard_id: str) -> None:
        self.told.append(("complete", shard_id))
        await self.engine.shard_complete(shard_id)
        await self._notify()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; fail with what was told when it does not come to hold."""
        try:
            async with asyncio.timeout(_PATIENCE_S), self._changed:
                await self._changed.wait_for(holds)
        except TimeoutError:
            last = {shard_id: lags[-2:] for shard_id, lags in self.lags.items()}
            raise AssertionError(f"it did not come to hold; told: {self.told[-20:]}, lags: {last}") from None

    def data(self, *shard_ids: str) -> list[bytes]:
        """The payloads of these shards (or of all), in the order in which they came."""
        return [record["Data"] for one in (shard_ids or self.records) for record in self.records[one]]

    def at_tip(self, shard_id: str) -> bool:
        return bool(self.lags[shard_id]) and self.lags[shard_id][-1].at_tip

    def events(self, event: str) -> list[str]:
        return [shard_id for told, shard_id in self.told if told == event]

    def _note(self, event: str, shard_id: str) -> None:
        self.told.append((event, shard_id))
        self._spawn(self._notify())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _spawn(self, chore: Any) -> None:
        task = asyncio.get_running_loop().create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


class Remembered(NamedTuple):
    position: Position | None = None
    ended: bool = False
    began: str | None = None


class MemoryCheckpoints:
    """Implements `engines.poll.Checkpoints`; lives as long as the test, over several engines."""

    def __init__(self) -> None:
        self.rows: dict[str, Remembered] = {}

    def read_all(self) -> dict[str, Remembered]:
        return dict(self.rows)

    def begin(self, shard_id: str, at: str) -> None:
        self.rows[shard_id] = self.rows.get(shard_id, Remembered())._replace(began=at)

    def write(self, shard_id: str, position: Position) -> None:
        self.rows[shard_id] = self.rows.get(shard_id, Remembered())._replace(position=position)

    def write_ended(self, shard_id: str) -> None:
        self.rows[shard_id] = self.rows.get(shard_id, Remembered())._replace(ended=True)

    def forget(self, shard_id: str) -> None:
        self.rows.pop(shard_id, None)


class RecorderLog:
    """Keeps events for tests to look at."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    warning = info

    def named(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.events if name == event]
