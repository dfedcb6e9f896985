"""Where shards stand: each place has one process, and the seats of any number of shards.

place 0 … W-1     for all; a few shards at a time initialize their processors there
apart             for one shard whose `initialize` has hung, or ended processes: nobody else's records
                  run beside it, until a process in which it did begin has ended
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamheal.workers.process import Process
    from streamheal.workers.seat import ShardSeat


class Place:
    """A worker's, with the process that has it now, if any."""

    def __init__(self, index: int, *, apart: bool = False) -> None:
        self.index, self.apart = index, apart
        self.process: Process | None = None
        self.seats: dict[ShardSeat, None] = {}  # in the order in which they came

    @property
    def awaited(self) -> bool:
        """It has no process, and somebody waits for one."""
        return self.process is None and any(seat.stage == "waiting" for seat in self.seats)


class Places:
    """All of one host.

    Attributes:
        beginners_max: So many shards initialize at once in one process. More would be suspects if it ends.
    """

    def __init__(self, workers: int) -> None:
        self._all = [Place(index) for index in range(workers)]
        self._workers = workers
        self.beginners_max = 1

    def __iter__(self) -> Iterator[Place]:
        return iter(self._all)

    def of(self, process: Process) -> Place | None:
        return next((place for place in self._all if place.process is process), None)

    def take(self, seat: ShardSeat) -> Place:
        """The seat's place; from now on, if it had none."""
        if seat.place is None:
            if seat.apart:
                taken = {place.index for place in self._all}
                seat.place = Place(next(n for n in range(len(taken) + 1) if n not in taken), apart=True)
                self._all.append(seat.place)
            else:
                seat.place = min(self._all[: self._workers], key=lambda place: len(place.seats))
            seat.place.seats[seat] = None
        return seat.place

    def leave(self, seat: ShardSeat) -> Process | None:
        """Returns the process that nobody uses any more, if its place is gone with the seat."""
        place, seat.place = seat.place, None
        if place is None:
            return None
        del place.seats[seat]
        if not place.apart:
            return None
        self._all.remove(place)
        return place.process

    def next_to_begin(self, place: Place) -> ShardSeat | None:
        """Who may initialize in the place's process now."""
        process = place.process
        if process is None or process.doomed is not None or process.draining is not None:
            return None
        if sum(seat.stage == "initializing" for seat in place.seats) >= self.beginners_max:
            return None
        return next((seat for seat in place.seats if seat.stage == "waiting"), None)
