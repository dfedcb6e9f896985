"""Cautious mode in the made-up workers: what would begin is asked for, and begins once that is permitted.

Lanes ── Intends ──► seat ── listener.intends ──► written ──► permit ──► Lanes, or a cell
      ── Over ─────► seat ── listener.through
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from streamheal.core.messages import At, Named
from streamheal.records import Position
from streamheal.workers.permits import Stage
from streamheal.workers.port import Listener

if TYPE_CHECKING:
    from tests.simulation.lanes import Lanes
    from tests.simulation.pool import SimPool
    from tests.simulation.runs import Item
    from tests.simulation.seat import Span

CAUTIOUS_RECORDS_MAX = 10


# --- to the worker ---


class Cautious(NamedTuple):
    wanted: bool


class Permit(NamedTuple):
    at: At


class Drain(NamedTuple):
    """Begin nothing more: another process will be given it all."""


# --- from the worker ---


class Intends(NamedTuple):
    items: tuple[Item, ...]


class Over(NamedTuple):
    items: tuple[Item, ...]


class Heeds(NamedTuple):
    running: tuple[Item, ...]


class Intents:
    """What of one stay is asked for, permitted, or begun."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        # A batch processor is called once at a time, and has told of a call's end before it asks for the next.
        self._calls_max = lanes.width if lanes.batch_max == 1 else 1
        self._asked: dict[At, Sequence[Item]] = {}
        self._permitted: deque[Sequence[Item]] = deque()
        self._begun = set(lanes.running)
        lanes.say(Heeds(tuple(lanes.running)))

    @property
    def permitted(self) -> bool:
        return bool(self._permitted) and self._lanes.calls < self._calls_max

    @property
    def room(self) -> bool:
        return len(self._asked) + len(self._permitted) + self._lanes.calls < self._calls_max

    def ask(self, items: Sequence[Item]) -> None:
        self._lanes.world.hosts.asked()
        self._asked[items[0].at] = items
        self._lanes.say(Intends(tuple(items)))

    def permit(self, at: At) -> None:
        if at in self._asked:
            self._permitted.append(self._asked.pop(at))

    def begin(self) -> Sequence[Item]:
        items = self._permitted.popleft()
        self._begun.update(items)
        return items

    def over(self, items: Sequence[Item]) -> None:
        ended = [item for item in items if item in self._begun]
        if ended:
            self._begun.difference_update(ended)
            self._lanes.say(Over(tuple(ended)))

    def let_go(self) -> list[Item]:
        """At full speed again: what was asked for may all begin."""
        return [item for items in (*self._permitted, *self._asked.values()) for item in items]


class CautiousSeat:
    """What of `port.Seat` is about caution."""

    pool: SimPool
    listener: Listener
    stage: Stage
    spans: dict[int, Span]

    def __init__(self) -> None:
        self.is_cautious = False  # in this process and in the next
        self._unheeded = False  # its worker runs records, and has not said yet that it asks first
        self._heeds_due = 0

    def _put(self, message: object) -> None:
        raise NotImplementedError

    def cautious(self, wanted: bool) -> None:
        if wanted is self.is_cautious:
            return
        self.is_cautious, self._unheeded = wanted, wanted and self.stage == "in"
        if self.stage == "in":
            self._heeds_due += wanted
            self._put(Cautious(wanted))
        elif wanted:
            self._heeds(())
        if not wanted:
            self.pool.cells.permit(self, None)

    def permit(self, at: At) -> None:
        if not self.pool.cells.permit(self, at):
            self._put(Permit(at))

    def places(self, span: int, positions: Collection[Position]) -> tuple[tuple[int, Position], ...]:
        found = [(item.at.nth, Position(item.track.position)) for item in self.spans[span].items]
        return tuple(place for place in found if place[1] in positions)

    def _initialized(self) -> None:
        self._heeds_due = int(self.is_cautious)
        if self.is_cautious:
            self._put(Cautious(True))

    def _asked(self, message: Intends | Over | Heeds) -> None:
        match message:
            case Intends(items) if self.is_cautious:
                self.listener.intends(_named(items))
            case Over(items):
                self.listener.through(tuple(item.at for item in items))
            case Heeds(running):
                self._heeds_due -= 1
                if self._unheeded and not self._heeds_due:
                    self._unheeded = False
                    self._heeds(_named(running))

    def _lost_its_worker(self) -> None:
        if self._unheeded:
            self._unheeded = False
            self._heeds(())

    def _heeds(self, running: tuple[Named, ...]) -> None:
        self.listener.heeds(running, self.pool.cells.running(self))


def _named(items: Sequence[Item]) -> tuple[Named, ...]:
    return tuple(item.named for item in items)
