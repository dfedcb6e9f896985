"""Records that run alone: each in a fresh process, or in one where another has just succeeded.

wanted ──► a warm process ──► initialized ──► its output read, then Go ──► said what came of it
                          ┌─► ready again ─┘  └─ in cautious mode: permitted ─┘ │   └──► died, or overran
                          └──── succeeded, and another waits that needs no fresh one

A used cell is never idle: it takes another record of its shard at once, or ends. One in which
anything is odd ends, too, before it is said to begin.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from streamheal.attempts import Attempt
from streamheal.core.messages import At, Cause, Done, Failed, Stated
from streamheal.records import Record
from streamheal.workers import wire
from streamheal.workers.deaths import cause_of, death_attempt, raised_attempt
from streamheal.workers.frames import task_title
from streamheal.workers.memory import CROWDED
from streamheal.workers.process import CELL, Process

if TYPE_CHECKING:
    from streamheal.workers.permits import CautiousSeat
    from streamheal.workers.pool import WorkerPool
    from streamheal.workers.seat import ShardSeat


# A used cell has nothing to do but to say that it is ready.
_READY_S_MAX = 1.0


class Cell:
    """One record's stay alone. `used`: in a process where others have run; they are of the same shard."""

    __slots__ = ("at", "began", "due", "fresh", "record", "seat", "stage", "used")

    def __init__(self, seat: ShardSeat, at: At, record: Record, fresh: bool) -> None:
        self.seat, self.at, self.record, self.fresh = seat, at, record, fresh
        self.stage = "waiting"  # initializing or readying, permit, running
        self.used = False
        self.began = self.due = 0.0


class Cells:
    """All cells of this host, at most `cells_max` at once, oldest wish first."""

    def __init__(self, pool: WorkerPool, cells_max: int) -> None:
        self._pool, self._most = pool, cells_max
        self._waiting: deque[Cell] = deque()
        self._live: dict[Process, Cell] = {}
        self._telling = False  # of a success: its process may be free for whoever is wanted now

    def wanted(self, seat: ShardSeat, at: At, record: Record, *, fresh: bool) -> None:
        self._waiting.append(Cell(seat, at, record, fresh))
        if not self._telling:
            self._pool.tend()

    @property
    def lacking(self) -> int:
        """How many processes could be used now."""
        return min(len(self._waiting), self._most - len(self._live))

    def take(self, process: Process) -> None:
        """Use this warm process for the next record."""
        process.label = CELL
        self._give(process, self._waiting.popleft(), "initializing", self._pool.initialize_s_max)

    def _give(self, process: Process, cell: Cell, stage: str, seconds: float) -> None:
        self._live[process] = cell
        cell.stage, cell.used = stage, stage == "readying"
        cell.began, cell.due = self._pool.loop.time(), process.due_in(seconds)
        process.send(wire.Alone(cell.seat.shard.shard_id, cell.seat.shard.stream, cell.record, cell.seat.after))

    def heard(self, process: Process, message: wire.ToHost) -> None:
        cell = self._live[process]
        match message:
            case wire.Ready():
                if cell.stage == "readying" and self._is_odd(process):
                    self._elsewhere(process)
                elif cell.seat.is_cautious:
                    cell.stage, cell.due = "permit", float("inf")
                    cell.seat.listener.intends((cell.seat.named(cell.at),), alone=True)
                else:
                    self._go(process, cell)
            case wire.Unready(_, began, ended, raised):
                attempt = raised_attempt(raised, began, ended, process, alone=True)
                self._failed(process, Cause.THROTTLED, began, ended, attempt)
            case wire.Stated():
                cell.seat.listener.happened(Stated(None, owes=True, gone=True))
            case wire.Succeeded(_, _, _, filtered, again):
                self._succeeded(process, cell, filtered, again)
            case wire.Failure() as failure:
                assert failure.raised is not None
                attempt = raised_attempt(failure.raised, failure.began, failure.ended, process, alone=not cell.used)
                cause = Cause[failure.cause]
                self._failed(
                    process,
                    cause,
                    failure.began,
                    failure.ended,
                    attempt,
                    retry_after_s=failure.retry_after_s,
                    masked=failure.masked,
                )

    def _succeeded(self, process: Process, cell: Cell, filtered: bool, again: bool) -> None:
        del self._live[process]
        process.read_output()
        process.tail.clear()
        self._telling = True
        try:
            cell.seat.listener.happened(Done(cell.at, filtered, alone=True))
        finally:
            self._telling = False
        able = again and process.doomed is None and not self._is_odd(process)
        suited = (other for other in self._waiting if other.seat is cell.seat and not other.fresh)
        if able and (following := next(suited, None)) is not None:
            self._waiting.remove(following)
            self._give(process, following, "readying", _READY_S_MAX)
        else:
            process.kill("retired")
        self._pool.tend()

    def _is_odd(self, process: Process) -> bool:
        """It prints although nothing runs in it, or in the middle of a line; or it has grown."""
        process.read_output()
        return process.tail.text() is not None or process.mid_line or self._pool.memory.above_mark(process)

    def _elsewhere(self, process: Process) -> None:
        """The record has not begun here, and is not going to."""
        cell = self._live.pop(process)
        cell.stage, cell.used = "waiting", False
        self._waiting.appendleft(cell)
        process.kill("retired")
        self._pool.tend()

    def _go(self, process: Process, cell: Cell) -> None:
        # What it prints from here on is the attempt's.
        process.read_output()
        process.tail.clear()
        cell.stage = "running"
        cell.began = self._pool.loop.time()
        cell.due = process.due_in(self._pool.watchdog.deadline_s)
        self._pool.memory.begins_alone(process, cell.seat.books.known(cell.at).yields)
        process.send(wire.Go())

    def running(self, seat: CautiousSeat) -> list[At]:
        """Whose records of this seat have begun."""
        return [cell.at for cell in self._live.values() if cell.seat is seat and cell.stage == "running"]

    def permit(self, seat: CautiousSeat, at: At | None) -> bool:
        """The record may run; None: all of this seat may. Returns whether anybody waited for it."""
        found = [
            (process, cell)
            for process, cell in self._live.items()
            if cell.seat is seat and cell.stage == "permit" and at in (None, cell.at)
        ]
        for process, cell in found:
            self._go(process, cell)
        return bool(found)

    def look(self) -> None:
        for process, cell in list(self._live.items()):
            if process.awake_s <= cell.due or process.doomed is not None:
                continue
            if cell.stage == "readying":
                self._elsewhere(process)
            else:
                process.kill_with_stack("overran", show=[wire.Show(0, 0, 0)])

    def died(self, process: Process) -> None:
        """It did not come back with an answer."""
        cell = self._live.get(process)
        if cell is None:
            return
        if cell.stage == "readying":
            cell.seat.listener.worker_died(cause_of(process, in_cell=True))
            self._elsewhere(process)
            return
        overran = process.doomed == "overran"
        attempt = death_attempt(process, cell.began, overran=overran, alone=not cell.used, title=task_title(0, 0, 0))
        cause = Cause.OVERRAN if overran else Cause.CRASHED
        if cell.stage != "running":
            # The processor could not even begin: that says nothing of the record.
            attempt.message = f"while initialize ran: {attempt.message}"
            attempt.outcome, cause = "throttled", Cause.THROTTLED
        elif process.doomed in (CROWDED, "stopped"):
            cell.seat.books.known(cell.at).yields += process.doomed == CROWDED
            attempt.outcome, cause = "throttled", Cause.THROTTLED
        cell.seat.listener.worker_died(cause_of(process, in_cell=True))
        self._failed(process, cause, cell.began, self._pool.loop.time(), attempt)

    def _failed(
        self,
        process: Process,
        cause: Cause,
        began: float,
        ended: float,
        attempt: Attempt,
        *,
        retry_after_s: float = 0.0,
        masked: bytes | None = None,
    ) -> None:
        cell = self._retire(process)
        named = cell.seat.named(cell.at)
        event = Failed(named, cause, began, ended, alone=True, retry_after_s=retry_after_s, used=cell.used)
        cell.seat.listener.happened(event, attempt, masked)

    def _retire(self, process: Process) -> Cell:
        cell = self._live.pop(process)
        process.kill("retired")
        self._pool.tend()
        return cell

    def abandon(self, seat: ShardSeat) -> None:
        self._waiting = deque(cell for cell in self._waiting if cell.seat is not seat)
        for process in [process for process, cell in self._live.items() if cell.seat is seat]:
            self._retire(process)

    def has(self, process: Process) -> bool:
        return process in self._live
