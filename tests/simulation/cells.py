"""Records that run alone, each in a fresh process that ends with it; at most `cells_max` at once."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from streamheal.core.messages import At, Cause, Done, Failed
from tests.simulation.runs import CAUSES, DEADLINE_S, OUTCOMES, Item, Run, attempt

if TYPE_CHECKING:
    from tests.simulation.caution import CautiousSeat
    from tests.simulation.pool import SimPool
    from tests.simulation.seat import SimSeat


class Cell:
    def __init__(self, seat: SimSeat, item: Item) -> None:
        self.seat, self.item = seat, item
        self.run: Run | None = None  # once the processor runs
        self.asked = False  # it waits for a permit, or has had one
        self.over = False  # the process has ended; or nobody is interested any more


class Cells:
    """All cells of this host, oldest wish first."""

    def __init__(self, pool: SimPool, cells_max: int) -> None:
        self._pool, self._world, self._most = pool, pool.world, cells_max
        self._waiting: deque[Cell] = deque()
        self._live: list[Cell] = []

    def wanted(self, seat: SimSeat, item: Item) -> None:
        if any(cell.item is item for cell in (*self._waiting, *self._live)):
            self._world.oracle.fail(f"{item.track.name} is to run alone twice at once")
        self._waiting.append(Cell(seat, item))
        if len(self._waiting) + len(self._live) > self._most:
            self._world.oracle.fail("more cells than allowed")
        self._fill()

    def _fill(self) -> None:
        while self._waiting and len(self._live) < self._most:
            cell = self._waiting.popleft()
            self._live.append(cell)
            self._world.after(self._world.start_s(), self._initialize, cell)

    def _initialize(self, cell: Cell) -> None:
        if cell.over:
            return
        world = self._world
        if world.initialize():
            # The processor could not even begin: that says nothing of the record.
            self._ended(cell, Cause.THROTTLED, "throttled", "OSError", world.now)
            return
        if cell.seat.is_cautious:
            cell.asked = True
            cell.seat.listener.intends((cell.item.named,), alone=True)
        else:
            self._go(cell)

    def permit(self, seat: CautiousSeat, at: At | None) -> bool:
        """The record may run; None: all of this seat may. Returns whether anybody waited for it."""
        found = [
            cell
            for cell in self._live
            if cell.seat is seat and cell.asked and cell.run is None and at in (None, cell.item.at)
        ]
        for cell in found:
            self._go(cell)
        return bool(found)

    def _go(self, cell: Cell) -> None:
        world = self._world
        track = cell.item.track
        world.oracle.starts(cell.seat.stream, track, in_lane=False, asked=cell.asked and cell.seat.is_cautious)
        cell.run = Run(cell.item, world.now)
        world.after(world.latency(), self._runs, cell)

    def _runs(self, cell: Cell) -> None:
        world, run = self._world, cell.run
        if cell.over or run is None:
            return
        stage = world.outcome(cell.seat.stream, run, process=None)
        if stage == "host":
            return  # all of it is about to end
        if stage == "crash":
            self._died(cell, run.like)
        elif stage in ("hang", "freeze"):
            world.after(DEADLINE_S + world.latency(), self._died, cell, "", "deadline")
        else:
            if stage == "ok":
                world.oracle.takes_effect(cell.item.track)
            world.after(world.latency(), self._says, cell, stage)

    def _says(self, cell: Cell, stage: str) -> None:
        if cell.over or cell.run is None:
            return
        cell.item.track.running = False
        if stage in ("ok", "filtered"):
            cell.over = True
            self._world.after(self._world.latency(), self._heard, cell, stage)
        else:
            self._ended(cell, CAUSES[stage], OUTCOMES[CAUSES[stage]], cell.run.like, cell.run.began)

    def _died(self, cell: Cell, like: str, outcome: str = "crash") -> None:
        """It did not come back with an answer; whether it had an effect, nobody knows."""
        if cell.over or cell.run is None:
            return
        cell.item.track.running = False
        cell.item.track.excused += 1
        cause = Cause.OVERRAN if outcome == "deadline" else Cause.CRASHED
        self._ended(cell, cause, outcome, like, cell.run.began)

    def _ended(self, cell: Cell, cause: Cause, outcome: str, like: str, began: float) -> None:
        cell.over = True
        failed = Failed(cell.item.named, cause, began, self._world.now, alone=True, retry_after_s=0.2)
        self._world.after(self._world.latency(), self._heard, cell, failed, outcome, like)

    def _heard(self, cell: Cell, what: str | Failed, outcome: str = "", like: str = "") -> None:
        if cell not in self._live:
            return  # the shard has left
        self._live.remove(cell)
        self._fill()
        if isinstance(what, Failed):
            if cell.run is not None and outcome in ("crash", "deadline"):
                cell.seat.listener.worker_died("cell")
            cell.seat.listener.happened(what, attempt(outcome, like, alone=True))
        else:
            cell.item.settled = True
            cell.seat.listener.happened(Done(cell.item.at, what == "filtered", alone=True))

    def abandon(self, seat: SimSeat) -> None:
        self._waiting = deque(cell for cell in self._waiting if cell.seat is not seat)
        for cell in [cell for cell in self._live if cell.seat is seat]:
            self._put_down(cell)
        self._fill()

    def close(self) -> None:
        self._waiting.clear()
        for cell in list(self._live):
            self._put_down(cell)

    def _put_down(self, cell: Cell) -> None:
        if not cell.over:
            cell.item.track.running = False
        cell.over = True
        self._live.remove(cell)
