"""Who has run for too long. The host alone keeps time: workers write none, and cannot stop this.

Every 50 ms the marks are compared with what they were: a record that is seen running at one
look after another has been running since the first of them. A coroutine past its deadline is
cancelled; everything else, and one that does not end, is stopped with its process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from streamheal.core.messages import At
from streamheal.workers import wire
from streamheal.workers.journal import CALLS_WORD
from streamheal.workers.process import LOOK_EVERY_S, Process

if TYPE_CHECKING:
    from streamheal.workers.seat import ShardSeat

# A gap between two looks counts as no more than this: what passes while nobody looks, because the host
# was stopped or starved, is held against no record.
_STEP_S_MAX = 2 * LOOK_EVERY_S
_GRACE_S_MIN, _GRACE_S_MAX = 0.1, 1.0
# Who can run takes a message at once. An event loop that stands, or an interpreter that is held, keeps everybody
# waiting.
_HEEDS_S_MAX = 0.1

_Run = tuple["ShardSeat", At]


class _Since(NamedTuple):
    """`awake_s` is the process's own time, in which records are late; `at` is everybody's."""

    at: float
    awake_s: float


class Watchdog:
    def __init__(self) -> None:
        self.deadline_s = float("inf")
        self._seen: dict[Process, dict[_Run, _Since]] = {}
        self._calls: dict[Process, int] = {}
        self._pinged: dict[Process, float] = {}
        self._asked: dict[Process, dict[_Run, float]] = {}
        self.now = 0.0  # of the last look

    @property
    def grace_s(self) -> float:
        """How long a coroutine that was cancelled may take to end."""
        return min(_GRACE_S_MAX, max(_GRACE_S_MIN, self.deadline_s / 10))

    def step(self, now: float) -> float:
        """A look begins. Returns how much time has passed that counts."""
        step_s, self.now = min(now - self.now, _STEP_S_MAX), now
        return step_s

    def look(self, process: Process, seats: list[ShardSeat]) -> dict[ShardSeat, set[At]]:
        """Compare with the last look. Returns what is past its deadline, by shard."""
        before = self._seen.get(process, {})
        calls = process.journal.words[CALLS_WORD]
        if self._calls.get(process) != calls:
            # The same records in another call of a batch processor is another run.
            self._calls[process], before = calls, {}
        first = _Since(self.now, process.awake_s)
        running = {(seat, at): before.get((seat, at), first) for seat in seats for at in seat.running()}
        self._seen[process] = running
        late: dict[ShardSeat, set[At]] = {}
        for (seat, at), since in running.items():
            if process.awake_s - since.awake_s > self.deadline_s:
                late.setdefault(seat, set()).add(at)
        return late

    def late_hook(self, process: Process, seats: list[ShardSeat]) -> ShardSeat | None:
        """Whose `initialize`, or last hook, has taken longer than it may. Ask after `look`.

        Only coroutines' run beside one another; others come one after another, and where records do so, too, after
        the one that runs. Whose turn has not come is not late.
        """
        due = [seat for seat in seats if seat.due is not None]
        if process.facts is not None and process.facts.mode != "async":
            due.sort(key=lambda seat: seat.began)
            turns = 0 if process.one_by_one and self._seen.get(process) else 1
            for seat in due[turns:]:
                seat.not_due_yet(process)
            due = due[:turns]
        return next((seat for seat in due if seat.late(process)), None)

    def held_out(self, process: Process, late: dict[ShardSeat, set[At]]) -> bool:
        """Whether one of these is still running although it was asked to end, some time ago.

        Only coroutines can be asked; all others have had their time. Threads are let run a moment longer, to see
        whether their process still takes a message. If not, one of them holds it, and the others are late for that.
        """
        facts = process.facts
        if facts is None or process.one_by_one:
            return bool(late)
        asked, now = self._asked.get(process, {}), process.awake_s
        still = {(seat, at): asked.get((seat, at)) for seat, ats in late.items() for at in ats}
        new = [run for run, since in still.items() if since is None]
        for seat, at in new if facts.mode == "async" else ():
            process.send(wire.Cancel(seat.number, at.span, at.nth))
        if new and facts.mode != "async":
            process.send(wire.Ping(new[0][0].number))
        self._asked[process] = {run: now if since is None else since for run, since in still.items()}
        grace_s = self.grace_s if facts.mode == "async" else 0.0
        waited = [(now - since, process.heeded_s >= since) for since in still.values() if since is not None]
        process.stood_still = not any(heeded for _, heeded in waited)
        return any(waited_s > (grace_s if heeded else _HEEDS_S_MAX) for waited_s, heeded in waited)

    def deaf(self, process: Process, seats: list[ShardSeat]) -> bool:
        """Whether it takes nothing it is told, though something is open and nothing runs: no record holds it up.

        A thread that user code left behind may hold the interpreter, or our descriptors are closed. It is
        asked once in a deadline, whatever else it was told: a try that is due may never have reached it.
        """
        busy = self._seen.get(process) or any(seat.due is not None for seat in seats)
        if busy or not (process.draining or any(seat.books.spans for seat in seats)):
            self._pinged.pop(process, None)
            return False
        now, pinged = process.awake_s, self._pinged.get(process)
        late = pinged is not None and now - pinged > self.deadline_s
        if pinged is None or (late and process.heeded_s >= pinged):
            self._pinged[process] = now
            process.send(wire.Ping(seats[0].number))
            return False
        return late

    def runs(self, process: Process) -> dict[_Run, _Since]:
        """What ran at the last look; a record that runs again is another run."""
        return self._seen.get(process, {})

    def since(self, process: Process, seat: ShardSeat, at: At) -> float:
        """When it was first seen running; where it never was, the last look."""
        since = self._seen.get(process, {}).get((seat, at))
        return self.now if since is None else since.at

    def forget(self, process: Process, seat: ShardSeat, at: At) -> None:
        """It failed: running again would be another run."""
        if process in self._seen:
            self._seen[process].pop((seat, at), None)

    def buried(self, process: Process) -> None:
        self._seen.pop(process, None)
        self._calls.pop(process, None)
        self._asked.pop(process, None)
        self._pinged.pop(process, None)
