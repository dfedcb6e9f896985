"""Processors that say by themselves how far they are done, as those written for amazon_kclpy do.

    a call returns ──► kept in memory ── stated, now or later ──► only now it has its effect
                            │
                            └─ the process dies: all of it is lost, and must run again

What a processor owes is counted by the real `Owed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from streamheal.core.messages import RunsAgain, Stated
from streamheal.records import Position
from streamheal.workers.child.owed import Owed
from tests.simulation.runs import DONE, OPEN, Item, Run

if TYPE_CHECKING:
    from tests.simulation.lanes import Lanes
    from tests.simulation.oracle import Track
    from tests.simulation.seat import SimSeat


class Stating:
    """The processor of one stay."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes, self._world = lanes, lanes.world
        self._owed = Owed()
        self._owed.tell = self._tell
        self._memory: dict[int, Item] = {}  # by position: returned from, and without effect
        self._born_at = 0.0  # the reading of its shard that this is a stay of

    def _tell(self, place: tuple[int, int] | None, owes: bool) -> None:
        self._lanes.say(Stated(None if place is None else Position(*place), owes))

    def called(self, runs: Sequence[Run]) -> None:
        """A call of the processor, that goes well; before it returns it may state what it has."""
        places = sorted(_place(run.item) for run in runs)
        self._owed.called(places[0], places[-1])
        self._born_at = runs[0].item.track.stream.born_at
        for run in runs:
            self._memory[run.item.track.position] = run.item
            self._world.oracle.keeps(run.item.track)
        if self._world.chance(0.4):
            self._takes_effect()
            self._owed.state_part()
        self._owed.returned(places)
        if self._world.chance(0.2):
            self._world.after(5 * self._world.latency(), self._later)

    def _later(self) -> None:
        if self._lanes.process.able and not self._lanes.gone and not self._lanes.calls:
            self.states_all()

    def hook(self) -> None:
        """Before its end, where there is still somebody to tell."""
        if self._world.chance(0.8):
            self.states_all()

    def states_all(self) -> None:
        self._takes_effect()
        self._owed.state_all()

    def _takes_effect(self) -> None:
        for position in sorted(self._memory):
            track = self._memory.pop(position).track
            if self._is_of_this_reading(track):
                self._world.oracle.takes_effect(track)
            else:
                track.ever = track.ever or "effect"

    def _is_of_this_reading(self, track: Track) -> bool:
        """Its last hook may run for so long that the shard is back meanwhile, and begun again."""
        return track.stream.born_at == self._born_at

    def dies(self) -> None:
        """With its process. What a record did in its memory is gone, and is worth one more run."""
        for item in self._memory.values():
            if self._is_of_this_reading(item.track):
                self._world.oracle.forgets(item.track)

    def missed(self) -> None:
        """The host hears of it."""
        for item in self._memory.values():
            item.track.forgot_at = self._world.now


class Unstated:
    """What the host keeps of one stay, in case its process dies; as the real one, without its bytes."""

    def __init__(self, seat: SimSeat) -> None:
        self._seat = seat
        self.clear()

    def clear(self) -> None:
        self._owes = False
        self._upto: Position | None = None
        self._kept: dict[int, Item] = {}

    def stated(self, said: Stated) -> None:
        if not said.owes:
            self.clear()
            return
        self._owes, self._upto = True, said.position
        if said.position is not None:
            self._kept = {at: item for at, item in self._kept.items() if at > said.position.sequence}

    def settled(self, items: Iterable[Item]) -> None:
        """Reported with their span, or in their lane."""
        if self._owes:
            kept = (item for item in items if item.mark == DONE and self._beyond(item))
            self._kept.update((item.track.position, item) for item in kept)

    def _beyond(self, item: Item) -> bool:
        return self._owes and (self._upto is None or item.track.position > self._upto.sequence)

    def lost(self, in_bulk: Iterable[Item]) -> None:
        """Of these only their marks say that they are done. Behind all others they are open again where they are."""
        last = max(self._kept, default=0)
        for item in in_bulk:
            if item.mark == DONE and self._beyond(item):
                if item.track.position < last:
                    self._kept[item.track.position] = item
                else:
                    item.mark = OPEN
                    self._excuse(item)

    def runs_again(self) -> tuple[bool, RunsAgain | None]:
        """Whether all of it can run again, and the span in which what the host was told of does."""
        seat = self._seat
        found = [item for _, item in sorted(self._kept.items()) if self._beyond(item)]
        self.clear()
        if not found:
            return True, None
        slot = seat.pool.take_slot() if not seat.world.chance(0.05) else None
        if slot is None:
            for item in found:
                seat.world.oracle.loses(item.track)
            return False, None
        for item in found:
            self._excuse(item)
        slot.tracks = [item.track for item in found]
        return True, RunsAgain(seat.arrives_again(slot), len(found), len(found))

    def _excuse(self, item: Item) -> None:
        """What came out of turn may run again though it was stated: only how far all is stated is known."""
        item.track.excused += item.track.fate == "effect"


def stated_alone(seat: SimSeat, item: Item) -> bool:
    """A record has succeeded alone. Its processor is told that its process ends, so that it can state it."""
    stated = seat.world.chance(0.9)
    if stated:
        seat.world.oracle.takes_effect(item.track)
    else:
        seat.world.oracle.loses(item.track)
    return stated


def _place(item: Item) -> tuple[int, int]:
    return item.track.position, 0
