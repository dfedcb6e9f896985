"""What the runtime sees of the workers: a seat a shard, and what is heard from it.

    runtime                     pool                         worker process
      seat.arrived(span, slot)    keeps the bytes
      seat.give(Give)       ──►   one datagram           ──►  decodes in place, runs, marks
      listener.happened(…)  ◄──   adds what the marks say ◄─  SpanDone, Failed, Done, Witnessed

A seat carries out what the core decided for one shard, and decides nothing itself. All calls
are made in the event loop's thread and return at once.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, Protocol

import msgspec

from streamheal.attempts import Attempt
from streamheal.core.messages import At, Event, Give, Named, Start
from streamheal.records import Dialect, Position, Record, Shard

Mode = Literal["plain", "async", "batch"]
Timed = Literal["took", "waited"]
Hook = Literal["shard_ended", "lease_lost", "shutdown_requested"]


class WorkerOptions(msgspec.Struct, kw_only=True, frozen=True):
    """How workers run user code. None leaves it to the processor, then to the default.

    Attributes:
        workers: Processes that shards are dealt out to.
        ordering: "shard", "key" or "none"; class attributes of the processor win.
        concurrency: Records at once per shard; default 1 plain, 100 async.
        deadline_s: Per record; per call for batches.
        memory_each: Bytes that a process may grow to; None: no limit.
        memory_together: Bytes that all of them may use; None: no limit.
    """

    target: str
    workers: int = 1
    ordering: str = "key"
    concurrency: int | None = None
    deadline_s: float = 30.0
    cells_max: int = 4
    memory_each: int | None = None
    memory_together: int | None = None


class TargetFacts(msgspec.Struct, kw_only=True):
    """What a worker found out about the processor when it imported it.

    `ordering`, `concurrency`, `deadline_s` are what is in force (class attribute, else option,
    else default); `attempts_max` is the class attribute or None.
    """

    name: str
    class_name: str
    mode: Mode
    ordering: Literal["shard", "key", "none"]
    concurrency: int
    deadline_s: float
    attempts_max: int | None
    overrides: dict[str, int | float | str]
    masks: bool
    version: str | None
    python: str
    packages: dict[str, str]


class Log(Protocol):
    """The part of a structlog logger that is used here."""

    def debug(self, event: str, **fields: Any) -> Any: ...
    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...


class Listener(Protocol):
    """One shard's ear in the runtime."""

    def initialized(self) -> None:
        """The processor's `initialize` has returned; after each `Seat.start`."""

    def initialize_failed(self, attempt: Attempt) -> None:
        """It raised, or the process died or overran in it. The seat is empty: `start` it again, later."""

    def happened(self, event: Event, attempt: Attempt | None = None, masked: bytes | None = None) -> None:
        """An event for the core, in the order of the worker's own doing.

        `attempt` comes with every `Failed` but SUSPECTED. For a `WorkerDied` with running
        records, `died` comes first, once for each of them.
        """

    def died(self, at: At, attempt: Attempt) -> None:
        """What a process's death or a passed deadline looked like to one record that ran in it."""

    def worker_died(self, cause: str) -> None:
        """For the metrics, see `deaths.cause_of`; in a cell `cell`. Once a process, told to one of its shards."""

    def timed(self, what: Timed, seconds: float) -> None:
        """For the metrics. `took`: a record, or a call of a batch processor; told of a few. `waited`:
        records behind a sick one of their key, all of them together; told when its lane goes on."""

    def hook_failed(self, hook: Hook, attempt: Attempt) -> None: ...

    def ended(self) -> None:
        """The hook that `Seat.end` asked for has returned, raised or run out of time."""

    # In cautious mode.

    def intends(self, records: tuple[Named, ...], *, alone: bool = False) -> None:
        """These would begin now, together: one, or a call of a batch processor. They wait for `Seat.permit`.

        `alone`: in a cell. Whatever waits in a worker that dies is not waited for any more.
        """

    def through(self, ats: tuple[At, ...]) -> None:
        """These have ended in their worker; with a cell, `happened` says so."""

    def heeds(self, running: tuple[Named, ...], alone: tuple[Named, ...] = ()) -> None:
        """`Seat.cautious` is obeyed from here on. These began before, in the worker; each is `through` one day.

        `alone`: and these in cells, of which a `Done` or `Failed` is all that is heard.
        """


class Seat(Protocol):
    """One shard's place in a worker, its spans' bytes, and its cells."""

    def start(self, start: Start) -> None:
        """Take (or after a death: take again) a place; the processor is initialized there first."""

    def resumes_after(self, position: Position) -> None:
        """The shard's checkpoint, for processors that are told of it when they are initialized."""

    def arrived(self, span: int, slot: object, length: int, dialect: Dialect, after: Position | None) -> None:
        """Keep a batch's bytes until nothing of it is open. Before the core hears of the span."""

    def give(self, give: Give) -> None: ...

    def limit(self, starts: int | None) -> None: ...

    def retry(self, at: At, number: int) -> None:
        """Run the blocked record again; `number` becomes its `record.attempt`."""

    def settle(self, at: At) -> None: ...

    def run_alone(self, at: At, number: int, *, fresh: bool) -> None:
        """In a process with nothing else in it. `fresh`: nor has anything ever been; else another record of the
        shard may have run there, and succeeded, just before. `Failed.used` says if so."""

    def curious(self, wanted: bool) -> None:
        """Whether to report successes as they come (`Witnessed`)."""

    def cautious(self, wanted: bool) -> None:
        """Whether to ask before anything begins, in this worker, the next ones and in cells."""

    def permit(self, at: At) -> None:
        """What `intends` told of, with this record first, may begin."""

    def places(self, span: int, positions: Collection[Position]) -> tuple[tuple[int, Position], ...]:
        """Which of these records are in the span, and where. Decodes it."""

    def record(self, at: At) -> Record:
        """A known record's own copy, for quarantine. Good until it is forgotten."""

    def forget(self, at: At) -> None:
        """The record is settled: its copy may go."""

    def marked_done(self) -> int:
        """Records done that the core has not heard of: their span is not reported yet. For people,
        to whom a span of 10,000 slow records would seem to stand still."""

    def first_open(self, span: int) -> int | None:
        """Place of the first record that is open in a span under way, as its marks say; None: it is not begun."""

    def peek(self, at: At) -> Record | None:
        """A record that is open, known or not: for people, and without becoming known by it."""

    def arrival(self) -> float | None:
        """Unix time at which the oldest record still kept arrived in the stream, as far as known."""

    def end(self, hook: Hook) -> None:
        """Nothing more will be given: call the processor's hook, then give the place up."""

    def halt(self) -> None:
        """Stop what runs of this shard at once, and keep what its marks say: `Halted` follows, once
        nothing runs any more. Kills the process where something runs; all its shards hear
        `WorkerDied(by_us=True)` first. Only `abandon` may come after it."""

    def abandon(self) -> None:
        """Stop what runs of this shard at once, and forget all of it. Kills the process where
        something runs; its other shards hear `WorkerDied(by_us=True)`."""


class Pool(Protocol):
    """All worker processes of this host."""

    async def open(self) -> TargetFacts:
        """Import the processor in a first worker, and warm a spare.

        Raises:
            TargetError: It cannot be imported, dies or hangs while importing, or is no processor.
        """

    def take_slot(self) -> object | None: ...

    def give_back(self, slot: object) -> None: ...

    def seat(self, shard: Shard, listener: Listener) -> Seat: ...

    async def close(self) -> None:
        """Stop every process of every group, and wait until none is left."""
