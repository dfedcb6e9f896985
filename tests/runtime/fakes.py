"""Workers, an engine and a store in memory: what the runtime is held together by, without any process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from streamheal.attempts import Attempt
from streamheal.core.messages import (
    At,
    Cause,
    Done,
    Failed,
    Give,
    Halted,
    Named,
    SpanCounted,
    SpanDone,
    Start,
    Stated,
    Witnessed,
    WorkerDied,
)
from streamheal.engines.base import Batch, Sink
from streamheal.errors import StoreError, StoreUnavailable
from streamheal.quarantine.envelope import Envelope
from streamheal.records import Dialect, Position, Record, Shard
from streamheal.state.base import Conflict, Row
from streamheal.state.marks import Marks
from streamheal.workers.port import Hook, Listener

Handler = Callable[[Record], None]


class FakeSlot:
    def __init__(self) -> None:
        self.view = memoryview(bytearray(64))


class FakeSeat:
    """Runs records at once, each for itself (ordering none). A `SystemExit` is the process's death."""

    def __init__(self, pool: FakePool, listener: Listener) -> None:
        self._pool, self.listener = pool, listener
        self.records: dict[At, Record] = {}
        self.log: list[str] = []
        self.forgotten: set[At] = set()
        self.permitted: list[At] = []
        self.alone: list[At] = []
        self._blocked: set[At] = set()

    def start(self, start: Start) -> None:
        self.log.append("start")
        if self._pool.initialize_failures:
            self._pool.initialize_failures -= 1
            self._soon(lambda: self.listener.initialize_failed(attempt("exception", "OSError")))
        else:
            asyncio.get_running_loop().call_later(self._pool.initialize_s, self.listener.initialized)

    def arrived(self, span: int, slot: object, length: int, dialect: Dialect, after: Position | None) -> None:
        assert isinstance(slot, FakeSlot)
        for place, number in enumerate(bytes(slot.view[:length])):
            self.records[At(span, place)] = Record(b"%d" % number, f"key-{number}", str(number))

    def give(self, give: Give) -> None:
        gone = [nth for nth in give.hold if At(give.span, nth) in self.forgotten]
        assert not gone, f"{gone} of span {give.span} are settled and forgotten, and given again"
        if self._pool.stays:
            return
        self._soon(lambda: self._run_span(give))

    def _run_span(self, give: Give) -> None:
        span = give.span
        mine = sorted(at for at in self.records if at.span == span)
        if give.rest:
            self.listener.happened(SpanCounted(span, len(mine)))
        known = {At(span, place) for place in (*give.hold, *give.skip, *give.queued)}
        for at in mine if give.rest else []:
            if at in known or at in self._pool.settled:
                continue
            try:
                self._pool.handler(self.records[at])
                self._pool.settled.add(at)
                self._bear_witness()
            except SystemExit:
                self.listener.died(at, attempt("crash", None))
                self.listener.happened(WorkerDied(1, (self._named(at),), running_total=1))
                return
            except Exception as error:
                self._fail(at, error, alone=False)
        if self._pool.first_words is not None:
            self.listener.happened(self._pool.first_words)
        if give.rest:
            self.listener.happened(SpanDone(span, len(mine), (mine and self.records[mine[-1]].position) or None))

    def die(self) -> None:
        """The process is gone, with nothing running in it."""
        self.listener.happened(WorkerDied(1, (), by_us=True))

    def _bear_witness(self) -> None:
        now = asyncio.get_running_loop().time()
        self.listener.happened(Witnessed(now, now))

    def _fail(self, at: At, error: Exception, *, alone: bool) -> None:
        self._blocked.add(at)
        now = asyncio.get_running_loop().time()
        failed = Failed(self._named(at), self._pool.cause, now, now, alone=alone)
        self.listener.happened(failed, attempt("exception", type(error).__name__))

    def _named(self, at: At) -> Named:
        before = self.records.get(At(at.span, at.nth - 1))
        return Named(at, self.records[at].position, before and before.position, 1)

    def retry(self, at: At, number: int) -> None:
        self._soon(lambda: self._again(at, alone=False))

    def run_alone(self, at: At, number: int, *, fresh: bool) -> None:
        self.alone.append(at)
        if self._pool.stays:
            return
        self._soon(lambda: self._again(at, alone=True))

    def _again(self, at: At, *, alone: bool) -> None:
        try:
            self._pool.handler(self.records[at])
        except SystemExit:
            now = asyncio.get_running_loop().time()
            self.listener.happened(Failed(self._named(at), Cause.CRASHED, now, now, alone=True), attempt("crash", None))
        except Exception as error:
            self._fail(at, error, alone=alone)
        else:
            self._pool.settled.add(at)
            self.listener.happened(Done(at, alone=alone))

    def settle(self, at: At) -> None:
        self._blocked.discard(at)

    def resumes_after(self, position: Position) -> None: ...

    def limit(self, starts: int | None) -> None:
        self.log.append(f"limit {starts}")

    def curious(self, wanted: bool) -> None: ...

    def cautious(self, wanted: bool) -> None:
        self.log.append("cautious" if wanted else "at full speed")
        if wanted:
            self.listener.heeds(())

    def permit(self, at: At) -> None:
        self.permitted.append(at)

    def places(self, span: int, positions: Collection[Position]) -> tuple[tuple[int, Position], ...]:
        mine = [(at.nth, record.position) for at, record in self.records.items() if at.span == span]
        return tuple((nth, position) for nth, position in mine if position in positions)

    def record(self, at: At) -> Record:
        assert "abandon" not in self.log, f"{at} is asked for, and nothing is kept any more"
        return self.records[at]

    def forget(self, at: At) -> None:
        self.forgotten.add(at)

    def marked_done(self) -> int:
        return 0

    def first_open(self, span: int) -> int | None:
        places = sorted(at.nth for at in self.records if at.span == span and at not in self._pool.settled)
        return places[0] if places else None

    def peek(self, at: At) -> Record | None:
        return self.records.get(at)

    def arrival(self) -> float | None:
        return None

    def end(self, hook: Hook) -> None:
        self.log.append(hook)
        if self._pool.last_words is not None:
            self.listener.happened(self._pool.last_words)
        self._soon(self.listener.ended)

    def halt(self) -> None:
        self.log.append("halt")
        self._soon(lambda: self.listener.happened(self._pool.left))

    def abandon(self) -> None:
        self.log.append("abandon")

    def _soon(self, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(call)


class FakePool:
    def __init__(self, handler: Handler, initialize_failures: int = 0) -> None:
        self.handler = handler
        self.initialize_s = 0.0
        self.cause = Cause.RAISED
        self.initialize_failures = initialize_failures
        self.settled: set[At] = set()
        # What a processor that states its own progress says: in each span, and in its last hook.
        self.first_words: Stated | None = None
        self.last_words: Stated | None = None
        self.stays = False  # whatever is given never ends
        self.left = Halted()  # what a seat finds when it is halted
        self.seats: dict[str, FakeSeat] = {}

    def take_slot(self) -> FakeSlot:
        return FakeSlot()

    def give_back(self, slot: object) -> None: ...

    def seat(self, shard: Shard, listener: Listener) -> FakeSeat:
        """One that `stays` does nothing by itself; its `listener` hears what a test says."""
        seat = self.seats[shard.shard_id] = FakeSeat(self, listener)
        return seat

    async def open(self) -> Any: ...
    async def close(self) -> None: ...


class FakeEngine:
    """Brings one shard's batches; a batch is the numbers of its records, each below 256."""

    def __init__(self, *batches: bytes) -> None:
        self.batches = list(batches)
        self.answered = asyncio.Event()
        self.checkpoints: list[Position] = []
        self.completed: list[str] = []
        self.left: list[str] = []
        self.refuse_checkpoints = 0

    async def open(self) -> None: ...

    async def run(self, sink: Sink) -> None:
        sink.shard_started(Shard("shard-0", "orders"), None)
        for numbers in self.batches:
            await self._may()
            # A stream that trickles, so that there is somebody to ask after every try.
            await asyncio.sleep(0.005)
            slot = sink.take_slot()
            assert slot is not None
            slot.view[: len(numbers)] = numbers
            sink.batch_arrived("shard-0", Batch(slot, len(numbers), Dialect.DAEMON))
        await self._may()
        sink.shard_ended("shard-0")

    async def _may(self) -> None:
        await self.answered.wait()
        self.answered.clear()

    def answer(self, shard_id: str) -> None:
        self.answered.set()

    async def checkpoint(self, shard_id: str, position: Position) -> None:
        if self.refuse_checkpoints:
            self.refuse_checkpoints -= 1
            raise StoreUnavailable("the checkpoint's table does not answer")
        self.checkpoints.append(position)

    async def shard_complete(self, shard_id: str) -> None:
        self.completed.append(shard_id)

    def shard_left(self, shard_id: str) -> None:
        self.left.append(shard_id)

    @property
    def has_brought_all(self) -> bool:
        return True

    async def close(self) -> None: ...


class FakeShelf:
    def __init__(self, refusals: int = 0) -> None:
        self.kept: list[Envelope] = []
        self._refusals = refusals

    def put(self, envelopes: Sequence[Envelope]) -> list[StoreError | StoreUnavailable | None]:
        if self._refusals:
            self._refusals -= 1
            return [StoreUnavailable("it does not answer")] * len(envelopes)
        self.kept += envelopes
        return [None] * len(envelopes)


class FakeStarts:
    def __init__(self) -> None:
        self.counted: list[tuple[str, Position | None]] = []
        self.taken_back: list[str] = []
        self.doubts: list[Position | None] = []
        self.before = 0  # starts of lives before this one

    def take_back(self, shard_id: str, position: Position | None, count: int) -> None:
        self.taken_back.append(shard_id)

    def count(self, shard_id: str, position: Position | None) -> int:
        self.counted.append((shard_id, position))
        return self.before + 1

    def doubt(self, shard_id: str) -> Position | None:
        return self.doubts[-1] if self.doubts else None

    def set_doubt(self, shard_id: str, doubt: Position | None) -> None:
        self.doubts.append(doubt)


def attempt(outcome: str, exception_type: str | None) -> Attempt:
    return Attempt(
        number=0, started_at="2026-01-01T00:00:00Z", duration_s=0.0, outcome=outcome, exception_type=exception_type
    )  # type: ignore[arg-type]


class MemoryState:
    """Rows of one kind or many, in a dict that outlives hosts."""

    url = "memory:"

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}

    def check(self) -> None: ...
    def own(self, application: str, owner: str, *, at_once: bool = False) -> None: ...
    def keep_owning(self) -> None: ...
    def disown(self) -> None: ...
    def close(self) -> None: ...

    def read(self, kind: str, key: str) -> Row | None:
        return self.rows.get((kind, key))

    def write(self, kind: str, key: str, value: dict[str, Any], *, replaces: int | None) -> int:
        row = self.rows.get((kind, key))
        if (row.version if row else None) != replaces:
            raise Conflict(key)
        self.rows[kind, key] = Row(key, value, (replaces or 0) + 1)
        return (replaces or 0) + 1

    def scan(self, kind: str, key_prefix: str = "") -> Iterator[Row]:
        return (row for (of, key), row in sorted(self.rows.items()) if of == kind and key.startswith(key_prefix))

    def delete(self, kind: str, key: str) -> None:
        self.rows.pop((kind, key), None)


def no_marks() -> Marks:
    return Marks(MemoryState(), "shop", "orders")
