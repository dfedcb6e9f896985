"""A seat's part in cautious mode: what its worker or a cell would begin, the runtime permits.

worker ── Intends ──► listener.intends ──► made durable ──► permit ──► worker, or cell
       ── Over ─────► listener.through
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Literal

from streamheal.core.messages import At, Named
from streamheal.records import Position
from streamheal.workers import wire
from streamheal.workers.books import Books
from streamheal.workers.port import Listener

if TYPE_CHECKING:
    from streamheal.workers.pool import WorkerPool
    from streamheal.workers.process import Process

# Where a shard stands: it has no place; waits for a process, maybe for a while; initializes its processor there;
# runs; calls its last hook.
Stage = Literal["out", "waiting", "initializing", "in", "ending"]


class CautiousSeat:
    """What of `port.Seat` is about caution."""

    listener: Listener
    books: Books
    number: int
    stage: Stage
    process: Process | None
    _pool: WorkerPool

    def __init__(self) -> None:
        self.is_cautious = False  # in this process and in the next
        self._unheeded = False  # its worker runs records, and has not said yet that it asks first
        self._heeds_due = 0  # so often has this worker been told, and not said that it heeds

    def _send(self, message: wire.Message) -> None:
        raise NotImplementedError(f"{type(self).__name__} has nobody to send {type(message).__name__} to")

    def cautious(self, wanted: bool) -> None:
        if wanted is self.is_cautious:
            return
        self.is_cautious, self._unheeded = wanted, wanted and self.stage == "in"
        if self.stage == "in":
            self._heeds_due += wanted
            self._send(wire.Cautious(self.number, wanted))
        elif wanted:
            self._heeds(())  # it runs nothing, and will be told before it is given anything
        if not wanted:
            self._pool.cells.permit(self, None)
            if self.process is not None and self.process.facts is not None and self.process.facts.keys:
                self._pool.recycler.replace(self.process)  # all its records are in one lane; see `child/intents`

    def permit(self, at: At) -> None:
        if not self._pool.cells.permit(self, at):
            self._send(wire.Permit(self.number, *at))

    def places(self, span: int, positions: Collection[Position]) -> tuple[tuple[int, Position], ...]:
        return self.books.places(span, positions)

    def _initialized(self) -> None:
        """A worker is ready, and has been given nothing yet."""
        self._heeds_due = int(self.is_cautious)
        if self.is_cautious:
            self._send(wire.Cautious(self.number, True))

    def _asked(self, message: wire.Intends | wire.Over | wire.Heeds) -> None:
        match message:
            case wire.Intends(_, places) if self.is_cautious and not self._heeds_due:
                # What it asked for before it was told otherwise in between, it has begun, or asks for again.
                if named := self._named(places):
                    self.listener.intends(named)
            case wire.Over(_, places):
                self.listener.through(tuple(At(*place) for place in places))
            case wire.Heeds(_, running):
                self._heeds_due -= 1
                if self._unheeded and not self._heeds_due:
                    self._unheeded = False
                    self._heeds(self._named(running))

    def _lost_its_worker(self) -> None:
        """The next will be told before it is given anything."""
        if self._unheeded:
            self._unheeded = False
            self._heeds(())

    def _heeds(self, running: tuple[Named, ...]) -> None:
        self.listener.heeds(running, tuple(self.named(at) for at in self._pool.cells.running(self)))

    def named(self, at: At) -> Named:
        return self.books.known(at).named

    def _named(self, places: Iterable[tuple[int, int]]) -> tuple[Named, ...]:
        found = (self.books.look_up(At(*place)) for place in places)
        return tuple(named for named in found if named is not None)
