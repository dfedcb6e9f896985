"""A bare host for workers: a pool of real processes, seats, and an ear that keeps what it hears.

The ear can also play the simplest core: it settles what fails, and after a death has whoever ran
tried alone. What a handler did is told by the handler itself, in a file of effects.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from streamheal.attempts import Attempt
from streamheal.core.messages import (
    At,
    Cause,
    Done,
    Event,
    Failed,
    Give,
    Named,
    SpanCounted,
    SpanDone,
    Start,
    WorkerDied,
)
from streamheal.records import Dialect, Position, Shard
from streamheal.workers.pool import WorkerPool
from streamheal.workers.port import Hook, TargetFacts, Timed, WorkerOptions

FIRST = 49590338271490256608559692538361571095921575989136588898
WAIT_S = 60.0


class Log:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def debug(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    info = warning = error = debug

    def of(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.events if name == event]

    def printed(self) -> list[str]:
        return [fields["line"] for fields in self.of("worker_output")]


def line(payloads: Sequence[Any], *, first: int = 0, keys: Callable[[int], str] = lambda n: f"k{n}") -> bytes:
    """A processRecords line of the daemon; payloads are JSON values, or bytes as they are."""
    records = [
        {
            "action": "record",
            "data": base64.b64encode(p if isinstance(p, bytes) else json.dumps(p).encode()).decode(),
            "partitionKey": keys(first + n),
            "sequenceNumber": str(FIRST + first + n),
            "subSequenceNumber": 0,
            "approximateArrivalTimestamp": 1795424770703,
        }
        for n, p in enumerate(payloads)
    ]
    return json.dumps({"action": "processRecords", "records": records, "millisBehindLatest": 0}).encode() + b"\n"


class Ear:
    """One shard's listener. `heal`: also plays the simplest core."""

    def __init__(self, stand: Stand, shard_id: str, *, heal: bool = False) -> None:
        self.events: list[Event] = []
        self.attempts: dict[At, list[Attempt]] = {}
        self.masked: dict[At, bytes | None] = {}
        self.deaths: list[str] = []
        self.times: dict[Timed, list[float]] = {"took": [], "waited": []}
        self.uninitialized: list[Attempt] = []
        self.hook_failures: list[tuple[Hook, Attempt]] = []
        self.up = self.over = False
        self.counts: dict[int, int] = {}
        self.reported: set[int] = set()
        self.settled: set[At] = set()
        self.aside: dict[At, str] = {}
        self.shared: set[At] = set()
        self.permits = True  # whatever is intended, at once
        self.intents: list[tuple[At, ...]] = []
        self.ended_there: list[At] = []
        self.ran_before: tuple[At, ...] | None = None
        self.alone_before: tuple[At, ...] = ()
        self._heal = heal
        self._spans: dict[int, dict[int, str]] = {}  # known records: queued, hand, settled
        self._stand = stand
        self._changed = asyncio.Event()
        self.seat = stand.pool.seat(Shard(shard_id=shard_id, stream="orders"), self)

    # -- workers.port.Listener

    def initialized(self) -> None:
        self.up = True
        if self._heal and self._spans:
            self._give_all()
        self._changed.set()

    def initialize_failed(self, attempt: Attempt) -> None:
        self.uninitialized.append(attempt)
        self._changed.set()

    def happened(self, event: Event, attempt: Attempt | None = None, masked: bytes | None = None) -> None:
        self.events.append(event)
        if isinstance(event, Failed) and attempt is not None:
            self.attempts.setdefault(event.record.at, []).append(attempt)
            self.masked[event.record.at] = masked
        self._follow(event)
        if self._heal:
            self._play_core(event)
        self._changed.set()

    def died(self, at: At, attempt: Attempt) -> None:
        self.attempts.setdefault(at, []).append(attempt)

    def worker_died(self, cause: str) -> None:
        self.deaths.append(cause)

    def timed(self, what: Timed, seconds: float) -> None:
        self.times[what].append(seconds)

    def hook_failed(self, hook: Hook, attempt: Attempt) -> None:
        self.hook_failures.append((hook, attempt))

    def ended(self) -> None:
        self.over = True
        self._changed.set()

    def intends(self, records: tuple[Named, ...], *, alone: bool = False) -> None:
        self.intents.append(tuple(record.at for record in records))
        if self.permits:
            self.seat.permit(records[0].at)
        self._changed.set()

    def through(self, ats: tuple[At, ...]) -> None:
        self.ended_there += ats
        self._changed.set()

    def heeds(self, running: tuple[Named, ...], alone: tuple[Named, ...] = ()) -> None:
        self.alone_before = tuple(record.at for record in alone)
        self.ran_before = tuple(record.at for record in running)
        self._changed.set()

    # -- for tests

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def start(self, *, lanes_max: int | None = None, limit: int | None = None) -> Ear:
        self.up = False
        self.seat.start(Start(lanes_max, limit, 0.0))
        await self.until(lambda: self.up or self.uninitialized)
        return self

    def bring(
        self, span: int, raw: bytes, dialect: Dialect = Dialect.DAEMON, after: Position | None = None, **give: Any
    ) -> None:
        slot = self._stand.pool.take_slot()
        assert slot is not None
        slot.view[: len(raw)] = raw
        self._spans[span] = {}
        self.seat.arrived(span, slot, len(raw), dialect, after)
        self.seat.give(Give(span, **give))

    async def span_done(self, span: int) -> SpanDone:
        await self.until(lambda: any(done.span == span for done in self.of(SpanDone)))
        found: SpanDone = next(done for done in self.of(SpanDone) if done.span == span)
        return found

    async def failed(self, at: At, times: int = 1) -> Failed:
        await self.until(lambda: sum(f.record.at == at for f in self.of(Failed)) >= times)
        found: Failed = [f for f in self.of(Failed) if f.record.at == at][-1]
        return found

    # -- the simplest core

    def _follow(self, event: Event) -> None:
        match event:
            case SpanCounted(span, records):
                assert span not in self.counts, "counted twice"
                self.counts[span] = records
            case SpanDone(span, records):
                assert self.counts.setdefault(span, records) == records
                assert span not in self.reported, "reported twice"
                self.reported.add(span)
            case Failed(record):
                assert record.at.span in self.counts, "names a record of a span that was not counted"
                assert record.position == Position(record.position.sequence, record.position.sub_sequence)
            case _:
                pass

    def _play_core(self, event: Event) -> None:
        match event:
            case SpanDone(span, _, _, _, held):
                for named in held:
                    self._spans[span][named.at.nth] = "queued"
            case Failed(record, cause):
                self._spans[record.at.span][record.at.nth] = "hand"
                if cause is Cause.SUSPECTED:
                    self.seat.run_alone(record.at, 1, fresh=False)
                elif cause is Cause.THROTTLED and event.alone:
                    self.seat.run_alone(record.at, 2, fresh=True)
                elif event.used:
                    self.seat.run_alone(record.at, 3, fresh=True)
                elif cause is Cause.THROTTLED:
                    self.seat.retry(record.at, 2)
                else:
                    self._settle(record.at, cause.name)
            case Done(at, _, alone):
                if alone:
                    self._settle(at, "")
                else:
                    self._spans[at.span][at.nth] = "settled"
                    self.seat.forget(at)
                self.settled.add(at)
            case WorkerDied():
                self._died(event)

    def _settle(self, at: At, why: str) -> None:
        self._spans[at.span][at.nth] = "settled"
        self.settled.add(at)
        if why:
            self.aside[at] = why
        if self.up:
            self.seat.settle(at)
        self.seat.forget(at)

    def _died(self, died: WorkerDied) -> None:
        self.up = False
        for at, _ in died.done:
            self._spans[at.span][at.nth] = "settled"
            self.settled.add(at)
            self.seat.forget(at)
        alone = []
        for named in died.running:
            state = self._spans[named.at.span].get(named.at.nth)
            assert state in (None, "queued"), f"{named.at} ran, but is {state}"
            self._spans[named.at.span][named.at.nth] = "hand"
            if not died.by_us:
                self.shared.add(named.at)
                alone.append(named.at)
            else:
                self._spans[named.at.span][named.at.nth] = "queued"
        self.seat.start(Start(None, None, 0.0))
        for at in alone:
            self.seat.run_alone(at, 2, fresh=False)

    def _give_all(self) -> None:
        for span, states in self._spans.items():
            by: dict[str, list[int]] = {"queued": [], "hand": [], "settled": []}
            for nth, state in sorted(states.items()):
                by[state].append(nth)
            self.seat.give(
                Give(span, span not in self.reported, tuple(by["queued"]), tuple(by["hand"]), tuple(by["settled"]))
            )

    @property
    def open(self) -> int:
        """Records not settled, of spans reported; spans not reported count as one more."""
        known = sum(state != "settled" for states in self._spans.values() for state in states.values())
        return known + len(self._spans) - len(self.reported)


class Stand:
    """A pool over processors written into a folder, which is the working folder meanwhile."""

    def __init__(self, folder: Path, facts: TargetFacts, pool: WorkerPool, log: Log) -> None:
        self.folder, self.facts, self.pool, self.log = folder, facts, pool, log

    def ear(self, shard_id: str = "shardId-000000000000", *, heal: bool = False) -> Ear:
        return Ear(self, shard_id, heal=heal)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.pool._living]

    def effects(self) -> list[str]:
        file = self.folder / "effects"
        return file.read_text().splitlines() if file.exists() else []

    def counts(self) -> Counter[str]:
        return Counter(self.effects())


@asynccontextmanager
async def standing(folder: Path, code: str, target: str = "app:App", **options: Any) -> AsyncIterator[Stand]:
    """A pool, opened, over `code` as module `app`; closed at the end, with nobody left."""
    (folder / "app.py").write_text(_PRELUDE + code)
    log = Log()
    times = {name: options.pop(name) for name in ("ready_s_max", "initialize_s_max", "hook_s_max") if name in options}
    before = os.getcwd()
    os.chdir(folder)
    pool = WorkerPool(WorkerOptions(target=target, **options), log, **times)
    try:
        facts = await pool.open()
        yield Stand(folder, facts, pool, log)
    finally:
        processes = list(pool._living)
        await pool.close()
        os.chdir(before)
        assert all(gone(process.pid) for process in processes)


async def until(condition: Callable[[], object]) -> None:
    """For what other processes do in their own time, and cannot say by themselves."""
    never = asyncio.Event()
    async with asyncio.timeout(WAIT_S):
        while not condition():
            with suppress(TimeoutError):
                await asyncio.wait_for(never.wait(), 0.005)


def gone(pid: int) -> bool:
    """No process of this group is left, zombies aside."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == pid and fields[0] != "Z":
            return False
    return True


def numbers(found: Iterable[str]) -> list[int]:
    return [int(text.split()[0]) for text in found]


_PRELUDE = """
import ctypes, os, signal, sys, threading, time
from streamheal import DecodeError, Poison, Record, RecordProcessor, Retry, Shard, Throttled

def effect(text):
    fd = os.open("effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{text}\\n".encode())
    os.close(fd)

def die(how):
    if how == "segv": ctypes.string_at(0)
    elif how == "kill": os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit": os._exit(7)
    elif how == "hang": ctypes.PyDLL(None).sleep(1000)
"""
