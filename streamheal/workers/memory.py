"""How much memory processes use: one that grows too large is ended before the kernel ends the host.

    one process    past `memory_each`      that one is ended
    all together   past `memory_together`  who has grown most is ended; but a record that runs alone yields, and
                                           is tried again, unless it is too much by itself

*Grown* is what a process uses beyond its own beginnings: import, `initialize`. A record that runs alone is *too
much by itself* if it would not have had room beside the others as they were when it began, or if they hardly grew
since. While several run alone nobody knows that: that many at once were our doing. One that has yielded twice
yields no more, and then who else has grown is ended, so that nobody is crowded out for ever.

Counted is what only that process uses, anonymous memory: the arena that all share is resident in
each of them. Looked at with everything else, every 50 ms, which costs a few microseconds a process;
what a process takes within that time is why a share of a container is the host's.

What the kernel kills all the same is known by its count of such kills. Where a process can have a control group of
its own, the kernel holds it to `memory_each` as well (`cgroups`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from streamheal import platform
from streamheal.workers.cgroups import Group, Groups, NotPossible
from streamheal.workers.port import Log, WorkerOptions
from streamheal.workers.process import CELL, Process

# Of what it may use: above, a process is let grow no more.
MARK = 0.8
# Why a cell is ended that is too much only together with others.
CROWDED: Final = "crowded"
# A record is tried again and again only because others grow: after so many times it is their turn to yield.
_YIELDS_MAX = 2
# Processes breathe. That others grew by less than this share of what a record took is no reason for anything:
# else whoever takes all there is, slowly, is found to have come to the limit a page after another did.
_NOISE = 0.125
_NO_MEMORY = "killed by the kernel: the container was out of memory"


class _Alone(NamedTuple):
    """A record that runs alone: how often it has yielded, and what others used when it began."""

    yields: int
    beside: dict[Process, int]


class Memory:
    def __init__(self, options: WorkerOptions, log: Log) -> None:
        self.each, self.together = options.memory_each, options.memory_together
        self.used = 0
        self._processes: list[Process] = []  # at the last look
        self._alone: dict[Process, _Alone] = {}
        self._log = log
        self._groups: Groups | None = None
        self._why_not: str | None = None
        self._oom_kills = 0

    @property
    def limited(self) -> bool:
        return self.each is not None or self.together is not None

    def open(self) -> None:
        """Before the first process: have the kernel limit each, where that is possible."""
        if self.each is not None:
            try:
                self._groups = Groups(self.each)
            except NotPossible as why:
                self._why_not = str(why)
        self._oom_kills = platform.oom_kills()

    def tell(self) -> None:
        """Once, at the start: what is watched."""
        if self.limited and not platform.WATCHES_MEMORY:
            self._log.warning("memory_not_watched", worker_mib=mib(self.each))
        elif self.limited:
            self._log.info(
                "memory_limited",
                worker_mib=mib(self.each),
                workers_together_mib=mib(self.together),
                enforced_by="host" if self._groups is None else "cgroup",
                **({} if self._why_not is None else {"no_cgroup_because": self._why_not}),
            )

    def new_group(self) -> Group | None:
        """For a process that is about to be born."""
        if self._groups is None:
            return None
        try:
            return self._groups.make()
        except OSError as error:
            self._group_failed(f"{error.strerror}: {error.filename}")
            return None

    def left(self, group: Group | None) -> None:
        """Nobody is in it any more, or ever will be."""
        if group is not None and self._groups is not None:
            self._groups.died(group)

    def imported(self, process: Process) -> None:
        """It should be in its group by now."""
        lives = process.status.state not in ("", "Z", "X")
        if process.group is not None and lives and not process.group.has(process.pid):
            self._group_failed(f"{process.name} could not enter it")

    def _group_failed(self, why: str) -> None:
        if self._why_not is None:
            self._why_not = why
            self._log.warning("memory_group_failed", why=why)

    def close(self) -> None:
        if self._groups is not None:
            self._groups.close()

    def look(self, processes: Iterable[Process]) -> None:
        if not self.limited:
            return
        growing = [process for process in processes if process.doomed is None]
        for process in growing:
            self._weigh(process)
            if self.each is not None and process.memory > self.each:
                _end(process, f"grew past {mib(self.each):,} MiB")
        self._processes = [process for process in growing if process.doomed is None]
        self.used = sum(process.memory for process in self._processes)
        if self.together is not None and self.used > self.together:
            self._make_room(f"all worker processes together passed {mib(self.together):,} MiB")

    def _weigh(self, process: Process) -> None:
        before, process.memory = process.memory, process.status.anonymous_bytes or 0
        if process.beginning:
            process.began_with += process.memory - before

    def begins(self, process: Process) -> None:
        """A shard's processor is about to be initialized in it, which may be over before anybody looks."""
        if self.limited and not process.beginning:
            self._weigh(process)
        process.beginning = True

    def begun(self, process: Process) -> None:
        """From here on records run in it; what it has taken until now is its processor's own."""
        if self.limited and process.beginning:
            self._weigh(process)
        process.beginning = False

    def begins_alone(self, process: Process, yields: int) -> None:
        """One record begins in it, that was ended so often to make room."""
        self.begun(process)
        if self.together is None:
            return
        others = [one for one in self._processes if one.doomed is None]
        for other in others:
            self._weigh(other)  # what one has just given back must not be held against this one
        self._alone[process] = _Alone(yields, {other: other.memory for other in others})

    def _make_room(self, why: str) -> None:
        by_growth = sorted(self._processes, key=lambda one: (one.grown, one.memory), reverse=True)
        cells = [process for process in by_growth if process.label == CELL]
        yielding = [cell for cell in cells if cell not in self._alone or self._alone[cell].yields < _YIELDS_MAX]
        if len(cells) > 1 and yielding:
            _crowd_out(yielding[0], why)
            return
        for process in by_growth:
            if process.grown <= 0:
                break
            if process.label == CELL and not self._too_much_by_itself(process):
                if process in yielding:
                    _crowd_out(process, why)
                    return
                continue
            grown, memory = mib(process.grown), mib(process.memory)
            _end(process, f"grew by {grown:,} MiB to {memory:,} MiB, the most when {why}")
            return
        # Whoever is left has not grown, or has yielded often enough: no end is held against a record.
        first = by_growth[0]
        if first.label == CELL:
            _crowd_out(first, why)
        else:
            _end(first, f"grew past {mib(first.memory):,} MiB, the largest when {why}")

    def _too_much_by_itself(self, cell: Process) -> bool:
        """Had the others stayed as they were, it would have had no room either; or they nearly did."""
        assert self.together is not None
        alone = self._alone.get(cell)
        if alone is None:
            return False
        others = 0
        for one in self._processes:
            if one is not cell:
                before = one.began_with if one.label == CELL else alone.beside.get(one, one.began_with)
                others += min(one.memory, before)
        if cell.memory + others > self.together:
            return True
        return self.used - cell.memory - others < _NOISE * cell.grown

    def limit_of(self, process: Process) -> float:
        """What this process may grow to, as things are."""
        left = float("inf") if self.together is None else self.together - self.used
        return min(process.memory + left, float("inf") if self.each is None else self.each)

    def above_mark(self, process: Process) -> bool:
        return self.limited and process.memory > MARK * self.limit_of(process)

    def died(self, process: Process) -> None:
        """Was it the kernel that ended it?"""
        self._alone.pop(process, None)
        if process.doomed is None and process.signal_name == "SIGKILL":
            kills = platform.oom_kills()
            if process.group is not None and process.group.killed:
                full = self.each is not None and process.group.was_full
                process.grew = f"grew past {mib(self.each):,} MiB, and was killed by the kernel" if full else _NO_MEMORY
                self._oom_kills = kills  # counted with the container's, or not
            elif kills > self._oom_kills:
                self._oom_kills += 1
                process.grew = _NO_MEMORY
        self.left(process.group)


def _end(process: Process, why: str) -> None:
    process.grew = why
    process.kill_with_stack("memory")


def _crowd_out(cell: Process, why: str) -> None:
    cell.grew = f"ended to make room: {why}"
    cell.kill(CROWDED)


def mib(size: int | None) -> int | None:
    return None if size is None else size >> 20
