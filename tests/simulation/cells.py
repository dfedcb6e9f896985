"""Records that run alone, in a fresh process or where another has just succeeded; at most `cells_max` at once.

Whoever succeeds may leave a thread behind, which ends or holds the process while another runs there.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from streamheal.core.messages import At, Cause, Done, Failed, Named, Stated
from tests.simulation.runs import CAUSES, DEADLINE_S, OUTCOMES, Item, Run, attempt
from tests.simulation.stating import stated_alone

if TYPE_CHECKING:
    from tests.simulation.caution import CautiousSeat
    from tests.simulation.pool import SimPool
    from tests.simulation.seat import SimSeat


class Cell:
    def __init__(self, seat: SimSeat, item: Item, fresh: bool) -> None:
        self.seat, self.item, self.fresh = seat, item, fresh
        self.used = self.haunted = False  # others have run there; one of them has left a thread behind
        self.run: Run | None = None  # once the processor runs
        self.asked = False  # it waits for a permit, or has had one
        self.lost = False  # its processor has not stated that it is done, and will not
        self.over = False  # the process has ended; or nobody is interested any more


class Cells:
    """All cells of this host, oldest wish first."""

    def __init__(self, pool: SimPool, cells_max: int) -> None:
        self._pool, self._world, self._most = pool, pool.world, cells_max
        self._waiting: deque[Cell] = deque()
        self._live: list[Cell] = []
        self._telling = False  # of a success: its process may be free for whoever is wanted now

    def wanted(self, seat: SimSeat, item: Item, *, fresh: bool) -> None:
        if any(cell.item is item for cell in (*self._waiting, *self._live)):
            self._world.oracle.fail(f"{item.track.name} is to run alone twice at once")
        self._waiting.append(Cell(seat, item, fresh))
        if len(self._waiting) + len(self._live) > self._most:
            self._world.oracle.fail("more cells than allowed")
        if not self._telling:
            self._fill()

    def _use_again(self, free: Cell) -> None:
        """The process of one that has succeeded is another's, if one waits that needs no fresh one."""
        world = self._world
        for cell in self._waiting:
            if cell.seat is free.seat and not cell.fresh:
                self._waiting.remove(cell)
                cell.used, cell.haunted = True, free.haunted or world.chance(world.spec.leftovers)
                self._live.append(cell)
                world.after(world.latency(), self._ready, cell)
                return

    def _ready(self, cell: Cell) -> None:
        if cell.over:
            return
        if self._world.chance(0.05):
            # Something is odd, or it does not answer: another process.
            self._live.remove(cell)
            cell.used = cell.haunted = False
            self._waiting.appendleft(cell)
            self._fill()
        else:
            self._begin(cell)

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
        self._begin(cell)

    def _begin(self, cell: Cell) -> None:
        if cell.seat.is_cautious:
            cell.asked = True
            cell.seat.listener.intends((cell.item.named,), alone=True)
        else:
            self._go(cell)

    def running(self, seat: CautiousSeat) -> tuple[Named, ...]:
        return tuple(cell.item.named for cell in self._live if cell.seat is seat and cell.run is not None)

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
        asked = cell.asked and cell.seat.is_cautious
        world.oracle.starts(cell.seat.stream, track, in_lane=False, asked=asked, used=cell.used)
        cell.run = Run(cell.item, world.now)
        world.after(world.latency(), self._runs, cell)

    def _runs(self, cell: Cell) -> None:
        world, run = self._world, cell.run
        if cell.over or run is None:
            return
        stage = (cell.haunted and world.haunted(run)) or world.outcome(cell.seat.stream, run, process=None)
        if stage == "host":
            return  # all of it is about to end
        if stage == "crash":
            self._died(cell, run.like)
        elif stage in ("hang", "freeze"):
            world.after(DEADLINE_S + world.latency(), self._died, cell, "", "deadline")
        else:
            if stage == "ok" and world.spec.states:
                cell.lost = not stated_alone(cell.seat, cell.item)
            elif stage == "ok":
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
        named, now = cell.item.named, self._world.now
        failed = Failed(named, cause, began, now, alone=True, retry_after_s=0.2, used=cell.used)
        self._world.after(self._world.latency(), self._heard, cell, failed, outcome, like)

    def _heard(self, cell: Cell, what: str | Failed, outcome: str = "", like: str = "") -> None:
        if cell not in self._live:
            return  # the shard has left
        self._live.remove(cell)
        if isinstance(what, Failed):
            self._fill()
            if cell.run is not None and outcome in ("crash", "deadline"):
                cell.seat.listener.worker_died("cell")
            cell.seat.listener.happened(what, attempt(outcome, like, alone=not cell.used))
        else:
            cell.item.settled = True
            self._telling = True
            if cell.lost:
                cell.seat.listener.happened(Stated(None, owes=True, gone=True))
            cell.seat.listener.happened(Done(cell.item.at, what == "filtered", alone=True))
            self._telling = False
            if not self._world.spec.states:
                self._use_again(cell)
            self._fill()

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
