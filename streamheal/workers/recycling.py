"""A worker that leaks, or is of no use as it is, is replaced between records. Nobody is blamed.

    above its mark ──► what ran when it passed it has ended, and it still is: no record's own growth
      └──► drained: it starts nothing more ──► idle: ended, and its seats go on in the spare

A processor that is above its mark from the start is let be, because a new process would be no smaller. One
that comes to it again soon is replaced ever more rarely. Either is said once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from streamheal.workers import wire
from streamheal.workers.memory import MARK, Memory, mib
from streamheal.workers.port import Log
from streamheal.workers.process import Process
from streamheal.workers.watchdog import Watchdog

if TYPE_CHECKING:
    from streamheal.workers.seat import ShardSeat

# Between two replacements in one place; twice as long whenever a new one comes to the mark sooner than that.
_PAUSE_S, _PAUSE_S_MAX = 5.0, 3600.0


class _Watched:
    """One worker's growth, from when its shards were initialized.

    Attributes:
        passed: What ran when it was first seen above the mark; None: it is below.
    """

    def __init__(self, seats: int, memory: int, now: float) -> None:
        self.seats, self.first, self.since = seats, memory, now
        self.passed: dict[Any, Any] | None = None


class Recycler:
    def __init__(self, memory: Memory, watchdog: Watchdog, log: Log) -> None:
        self._memory, self._watchdog, self._log = memory, watchdog, log
        self._watched: dict[Process, _Watched] = {}
        self._pauses: dict[str, float] = {}  # by place
        self._not_before: dict[str, float] = {}
        self._said = False
        self._unwanted: set[Process] = set()

    def replace(self, process: Process) -> None:
        """Another is to go on in its place, as soon as nothing runs in it."""
        self._unwanted.add(process)

    def look(self, workers: Iterable[tuple[Process, list[ShardSeat]]], *, spare: bool, now: float) -> None:
        """After the watchdog has looked. `spare`: a process stands by to take a place."""
        for process, seats in list(workers):
            if process.doomed is not None:
                continue
            if process.draining is None:
                if process in self._unwanted:
                    self._drain(process, seats, spare)
                elif self._memory.limited:
                    self._weigh(process, seats, spare, now)
            elif spare and not process.draining and not any(seat.running() or seat.due is not None for seat in seats):
                self._end(process, now)  # no hook is under way there, either

    def _weigh(self, process: Process, seats: list[ShardSeat], spare: bool, now: float) -> None:
        if not _settled_in(seats):
            return
        watched = self._watched.get(process)
        if watched is None or watched.seats != len(seats):
            watched = self._watched[process] = _Watched(len(seats), process.memory, now)
        limit = self._memory.limit_of(process)
        if not self._memory.above_mark(process):
            watched.passed = None
            return
        runs = self._watchdog.runs(process)
        if watched.passed is None:
            watched.passed = dict(runs)
            return
        if any(runs.get(run) == since for run, since in watched.passed.items()):
            return  # it may be that record's
        if watched.first > MARK * limit or now < self._not_before.get(process.label, now):
            self._say_tight(process, watched, limit, now)
        else:
            self._drain(process, seats, spare)

    def _drain(self, process: Process, seats: list[ShardSeat], spare: bool) -> None:
        if spare and _settled_in(seats) and not any(seat.unstated.owes for seat in seats):
            for seat in seats:
                process.send(wire.Drain(seat.number))
            process.draining = {seat.number for seat in seats}

    def _end(self, process: Process, now: float) -> None:
        if process in self._unwanted:
            process.kill("recycled")
            return
        watched = self._watched[process]
        lived_s = now - watched.since
        pause_s = self._pauses.get(process.label, _PAUSE_S)
        pause_s = _PAUSE_S if lived_s > pause_s else min(_PAUSE_S_MAX, 2 * pause_s)
        self._pauses[process.label], self._not_before[process.label] = pause_s, now + pause_s
        self._log.info("worker_recycled", **self._figures(process, watched, lived_s))
        process.kill("recycled")

    def _say_tight(self, process: Process, watched: _Watched, limit: float, now: float) -> None:
        if not self._said:
            self._said = True
            self._log.warning("worker_memory_tight", **self._figures(process, watched, now - watched.since))

    def _figures(self, process: Process, watched: _Watched, lived_s: float) -> dict[str, Any]:
        limit = int(self._memory.limit_of(process))
        return {
            "worker": process.name,
            "memory_mib": mib(process.memory),
            "began_with_mib": mib(watched.first),
            "limit_mib": mib(limit),
            "lived_s": round(lived_s, 1),
        }

    def buried(self, process: Process) -> None:
        self._watched.pop(process, None)
        self._unwanted.discard(process)


def _settled_in(seats: list[ShardSeat]) -> bool:
    return bool(seats) and all(seat.stage == "in" for seat in seats)
