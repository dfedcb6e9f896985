"""How much memory processes use: one that grows too large is ended before the kernel ends the host.

    one process    past `memory_each`      that one is ended
    all together   past `memory_together`  the largest is ended; but while several records run alone, the
                                           largest of theirs, and it is tried again: that many were our doing

Counted is what only that process uses, anonymous memory: the arena that all share is resident in
each of them. Looked at with everything else, every 50 ms, which costs a few microseconds a process;
what a process takes within that time is why a share of a container is the host's.

What the kernel kills all the same is known by its count of such kills.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamheal import platform
from streamheal.workers.port import Log, WorkerOptions
from streamheal.workers.process import CELL, Process

# Of what it may use: above, a process is let grow no more.
MARK = 0.8
# Why a cell is ended that is too much only together with others.
CROWDED = "crowded"


class Memory:
    def __init__(self, options: WorkerOptions, log: Log) -> None:
        self.each, self.together = options.memory_each, options.memory_together
        self.used = 0
        self._log = log
        self._oom_kills = platform.oom_kills()

    @property
    def limited(self) -> bool:
        return self.each is not None or self.together is not None

    def tell(self) -> None:
        """Once, at the start: what is watched."""
        if self.limited and not platform.WATCHES_MEMORY:
            self._log.warning("memory_not_watched", worker_mib=mib(self.each))
        elif self.limited:
            self._log.info("memory_limited", worker_mib=mib(self.each), workers_together_mib=mib(self.together))

    def look(self, processes: Iterable[Process]) -> None:
        if not self.limited:
            return
        growing = [process for process in processes if process.doomed is None]
        for process in growing:
            process.memory = process.status.anonymous_bytes or 0
            if self.each is not None and process.memory > self.each:
                _end(process, f"grew past {mib(self.each):,} MiB")
        growing = [process for process in growing if process.doomed is None]
        self.used = sum(process.memory for process in growing)
        if self.together is not None and self.used > self.together:
            cells = [process for process in growing if process.label == CELL]
            largest = max(cells if len(cells) > 1 else growing, key=lambda process: process.memory)
            all_of_them = f"all worker processes together passed {mib(self.together):,} MiB"
            if len(cells) > 1:
                largest.grew = f"ended to make room: {all_of_them}"
                largest.kill(CROWDED)
                return
            _end(largest, f"grew past {mib(largest.memory):,} MiB, the largest when {all_of_them}")

    def limit_of(self, process: Process) -> float:
        """What this process may grow to, as things are."""
        left = float("inf") if self.together is None else self.together - self.used
        return min(process.memory + left, float("inf") if self.each is None else self.each)

    def above_mark(self, process: Process) -> bool:
        return self.limited and process.memory > MARK * self.limit_of(process)

    def died(self, process: Process) -> None:
        """Was it the kernel that ended it?"""
        if process.doomed is None and process.signal_name == "SIGKILL" and platform.oom_kills() > self._oom_kills:
            self._oom_kills += 1
            process.grew = "killed by the kernel: the container was out of memory"


def _end(process: Process, why: str) -> None:
    process.grew = why
    process.kill_with_stack("memory")


def mib(size: int | None) -> int | None:
    return None if size is None else size >> 20
