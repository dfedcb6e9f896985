"""A whole host around one processor, without a stream and without a state: what is measured is between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from bench.memory_engine import MemoryEngine
from streamheal.core.policy import Policy
from streamheal.engines.base import Engine
from streamheal.quarantine.folder import FolderStore
from streamheal.records import Position
from streamheal.runtime.chronicle import Chronicle, Listener
from streamheal.runtime.keeper import Keeper
from streamheal.runtime.runtime import Runtime
from streamheal.runtime.sealing import Sealer
from streamheal.state.marks import Found, Running
from streamheal.workers.pool import WorkerPool
from streamheal.workers.port import WorkerOptions

structlog.configure(
    logger_factory=structlog.ReturnLoggerFactory(), wrapper_class=structlog.make_filtering_bound_logger(40)
)


class NoStarts:
    """Of a shard's first start, or of one from which hosts have died."""

    def __init__(self, starts: int) -> None:
        self._starts = starts

    def count(self, shard_id: str, position: Position | None) -> int:
        return self._starts

    def take_back(self, shard_id: str, position: Position | None, count: int) -> None: ...

    def doubt(self, shard_id: str) -> bool:
        return False

    def set_doubt(self, shard_id: str, doubt: bool) -> None: ...


class NoMarks:
    def begin(self, shard_id: str, life: str, after: Position | None, now: float) -> Found:
        return Found()

    def write(self, shard_id: str, life: str, running: Sequence[Running], *, claim: bool = False) -> bool:
        return True

    def clear(self, shard_id: str, life: str, kept: Collection[Position] = ()) -> None: ...

    def leave(self, shard_id: str, life: str) -> None: ...


@dataclass(frozen=True)
class Outcome:
    took_s: float
    done: int
    quarantined: int


class Hosted:
    """A host that is up: its pool is open, its runtime not yet run."""

    def __init__(
        self,
        target: str,
        engine: Engine,
        store: Any,
        policy: dict[str, Any] | None,
        options: dict[str, Any],
        *,
        starts: int = 1,
        listen: Listener | None = None,
    ) -> None:
        self._chronicle, self._starts = Chronicle(structlog.get_logger()), starts
        if listen is not None:
            self._chronicle.listen(listen)
        self.pool = WorkerPool(WorkerOptions(target=target, **options), self._chronicle)
        self._engine, self._store, self._policy = engine, store, policy or {}

    async def __aenter__(self) -> Runtime:
        facts = await self.pool.open()
        self.keeper = Keeper(self._store, self._chronicle)
        return Runtime(
            engine=self._engine,
            pool=self.pool,
            policy=Policy(**{"batches": facts.mode == "batch", "checkpoint_s": 1.0, **self._policy}),
            keeper=self.keeper,
            seal=Sealer("bench", facts, "0"),
            starts=NoStarts(self._starts),
            marks=NoMarks(),
            chronicle=self._chronicle,
        )

    async def __aexit__(self, *error: object) -> None:
        await self.pool.close()
        await self.keeper.close()


async def host(
    target: str,
    engine: Engine,
    store: Any,
    *,
    policy: dict[str, Any] | None = None,
    until: asyncio.Event | None = None,
    enough: int | None = None,
    starts: int = 1,
    listen: Listener | None = None,
    **options: Any,
) -> Outcome:
    """Run the engine to its end, or `until` something; timed over the whole run, not over the start.

    Args:
        enough: Stop once so many records are done. What is sick at the very end waits for a
            witness that no backlog behind it brings; that wait is no throughput.
        starts: How often a host has begun here, this time included; from the second on it is cautious.
    """
    async with Hosted(target, engine, store, policy, options, starts=starts, listen=listen) as runtime:
        if until is not None:
            asyncio.ensure_future(until.wait()).add_done_callback(lambda _: runtime.stop())
        began = time.perf_counter()
        running = asyncio.ensure_future(runtime.run())
        if enough is not None:
            while not running.done() and sum(one.done for one in runtime.figures()) < enough:
                await asyncio.sleep(0.005)
            took_s = time.perf_counter() - began
            runtime.stop()
        await running
        if enough is None:
            took_s = time.perf_counter() - began
        figures = runtime.figures()
    return Outcome(took_s, sum(one.done for one in figures), sum(one.quarantined for one in figures))


async def rate_once_warm(target: str, engine: Engine, store: Any, records: int) -> float:
    """Records a second of an endless engine, from a tenth of the records on to the last."""
    async with Hosted(target, engine, store, None, {}) as runtime:
        await engine.open()
        running = asyncio.ensure_future(runtime.run())
        marks: list[tuple[float, int]] = []
        for wanted in (records // 10, records):
            while (done := sum(one.done for one in runtime.figures())) < wanted:
                await asyncio.sleep(0.002)
            marks.append((time.perf_counter(), done))
        runtime.stop()
        await running
        await engine.close()
    (began, first), (ended, last) = marks
    return (last - first) / (ended - began)


def run(target: str, lines: dict[str, Iterator[bytes]], folder: Path, **options: Any) -> Outcome:
    """As `host`, over ready-made lines, with a folder for what is set aside."""
    return asyncio.run(host(target, MemoryEngine(lines), FolderStore(folder), **options))
