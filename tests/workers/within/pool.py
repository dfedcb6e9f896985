"""What seats ask of their pool, of its cells, its watchdog, its loop, and its memory: little here does anything."""

from __future__ import annotations

from streamheal.core.messages import At
from streamheal.workers.arena import Arena, Slot
from streamheal.workers.seat import ShardSeat


class Pool:
    """All of that in one.

    Attributes:
        waiting: Seats that wait for a process.
        late_slots: They are free once the process is dead.
    """

    initialize_s_max = hook_s_max = 60.0

    def __init__(self, arena: Arena, *, batches: bool) -> None:
        self.arena, self.batches = arena, batches
        self.loop = self.cells = self.watchdog = self.memory = self.recycler = self
        self.slots: list[Slot] = []
        self.late_slots: list[Slot] = []
        self.waiting: list[ShardSeat] = []
        self.serials = 0

    def time(self) -> float:
        return 0.0

    def next_serial(self) -> int:
        self.serials += 1
        return self.serials

    def take_slot(self) -> Slot:
        slot = self.arena.take()
        assert slot is not None
        self.slots.append(slot)
        return slot

    def give_back(self, slot: Slot) -> None:
        self.slots.remove(slot)
        self.arena.give_back(slot)

    def give_back_later(self, process: object, slots: list[Slot]) -> None:
        self.late_slots += slots

    def seat_waits(self, seat: ShardSeat) -> None:
        self.waiting.append(seat)

    def seat_left(self, seat: ShardSeat) -> None:
        seat.stage, seat.process, seat.due = "out", None, None

    def abandon(self, seat: ShardSeat) -> None: ...
    def replace(self, process: object) -> None: ...

    def seat_began(self, seat: ShardSeat) -> None: ...
    def begun(self, process: object) -> None: ...
    def forget(self, *run: object) -> None: ...

    def since(self, *run: object) -> float:
        return 0.0

    def running(self, seat: object) -> list[At]:
        return []

    def permit(self, seat: object, at: At | None) -> bool:
        return False
