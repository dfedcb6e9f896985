"""Time, processes, cells, a store and an engine around the core; carries out what it decides."""

from __future__ import annotations

import random
from collections.abc import Callable

from streamheal.core.host import Host
from streamheal.core.messages import Cause, Decision, Event, Quarantine, Signal, SpanCounted, WorkerDied
from tests.simulation.generate import Rec, Spec
from tests.simulation.lanes import Lanes, Mark, Run
from tests.simulation.oracle import Oracle, Track
from tests.simulation.side import Side

DEADLINE_S = 30.0
TIME_MAX, STEPS_MAX, RECORDS_MAX = 8_000.0, 60_000, 500


class Process:
    """A worker process, of one shard or of all."""

    def __init__(self) -> None:
        self.lanes: list[Lanes] = []
        self.frozen = False

    def running(self) -> list[Run]:
        return [run for lanes in self.lanes for run in lanes.running.values()]


class World:
    def __init__(self, spec: Spec, transcript: list[str] | None = None) -> None:
        self.spec, self.transcript = spec, transcript
        self.dice = random.Random(spec.seed + 1)
        self.now, self.steps, self.deaths = 0.0, 0, 0
        self.oracle = Oracle(self)
        self.host = Host(spec.policy)
        self.likeness: dict[Track, str] = {}
        self.condemned: list[Process] = []
        self.broken = False
        self._processes: dict[int, Process] = {}
        self.sides: list[Side] = []
        for number, records in enumerate(spec.shards):
            self.sides.append(Side(self, number, records))

    def note(self, line: str, worth: bool = True) -> None:
        if self.transcript is not None and worth:
            self.transcript.append(line)

    def process_of(self, side: Side) -> Process:
        return self._processes.setdefault(-1 if self.spec.shared else side.number, Process())

    def unfinished(self) -> list[Side]:
        return [side for side in self.sides if not side.finished]

    # -- what running does -------------------------------------------------------------

    def outcome(self, side: Side, run: Run, *, in_lane: bool, company: bool) -> str:
        """What becomes of this try: ok, filtered, raise, poison, throttle, hang or crash."""
        track, kind, dice = run.track, run.track.rec.kind, self.dice
        track.own = False
        if kind == "filtered":
            track.ever, track.fate = track.ever or "filtered", "filtered"
            return "filtered"
        if self.broken and not in_lane:
            return "crash"
        for down in self.spec.outages:
            if down.hits(side.number, self.now):
                track.hit_by.add(down)
                return self._fails(run, down.how, down.like)
        track.own = True
        if kind in ("flaky", "throttle") and track.times:
            track.times -= 1
            return self._fails(run, "raise" if kind == "flaky" else "throttle", track.rec.like)
        if kind == "bad" or (kind == "perhaps" and dice.random() < 0.2):
            return self._fails(run, "raise", track.rec.like)
        crashes = kind == "crash" or (kind == "company" and company) or (kind == "perhaps" and dice.random() < 0.4)
        if crashes:
            if in_lane:
                self.oracle.killed(track)
            return self._fails(run, "crash", "SIGSEGV")
        if kind == "poison":
            return self._fails(run, "poison", track.rec.like)
        if kind == "freeze" and in_lane and side.lanes is not None:
            side.lanes.process.frozen = True
        if kind in ("hang", "freeze"):
            return self._fails(run, "hang", track.rec.like)
        return "ok"

    def _fails(self, run: Run, how: str, like: str) -> str:
        run.like = self.likeness[run.track] = like
        run.track.excused += how not in ("hang", "crash")  # the death it ends in excuses those
        return how

    # -- deaths ------------------------------------------------------------------------

    def kill(self, process: Process, overran: tuple[Run, ...] = (), by_us: bool = False) -> None:
        """All shards of the process hear of it, after all that was said before."""
        self.deaths += 1
        self.oracle.seen["worker deaths"] += 1
        runs = process.running()
        for where in [where for where, one in self._processes.items() if one is process]:
            del self._processes[where]
        for run in runs:
            if run.track.running:
                run.track.running = False
                run.track.excused += 1
                run.track.shared |= not by_us
        for lanes in list(process.lanes):
            side = lanes.side
            side.deaths += 1
            for event in lanes.outbox:
                side.tell(event)
            if side.finished or side.core.over:
                continue
            named = [at for at, mark in side.marks.items() if mark is Mark.RUNNING]
            ended = [(at, mark) for at, mark in side.marks.items() if mark in (Mark.DONE, Mark.FILTERED)]
            done = tuple((at, mark is Mark.FILTERED) for at, mark in ended)
            for at in named:
                side.marks[at] = Mark.OPEN
            late = tuple(run.at for run in overran if run.at in named and lanes.running.get(run.at) is run)
            open_spans = side.core.ledger.spans
            for span in sorted({at.span for at in named} & set(open_spans)):
                side.tell(SpanCounted(span, len(side.spans[span])))
            running = tuple(side.named(at) for at in named)
            side.tell(WorkerDied(self.deaths, running, done, late, len(runs), by_us))
            if side.halting and not side.core.over:
                side.lanes = None
                side.tell(side.left())
        process.lanes.clear()  # it may be condemned by more than one shard

    def _restart(self, sides: list[Side]) -> None:
        for side in sides:
            if side.finished:
                continue
            cautious = side.core.cautious
            side.suspects = {track.position for track in side.tracks if track.running} if cautious else set()
            for _, item in side.later:  # a write on its way may have arrived
                if isinstance(item, Quarantine) and self.dice.random() < 0.5:
                    track = side.at[item.at]
                    track.ever = track.ever or "stored"
            side.begin()

    def _fault(self, what: str, which: int) -> None:
        sides = self.unfinished()
        match what:
            case "kill":
                processes = [process for process in self._processes.values() if process.lanes]
                if processes:
                    self.kill(processes[which % len(processes)])
            case "oom":  # an out-of-memory killer, once at most for each record
                cells = [
                    (side, run)
                    for side in sides
                    for run in side.cells.values()
                    if run.track.rec.kind not in ("crash", "perhaps") and not run.track.kills
                ]
                if cells:
                    side, run = cells[which % len(cells)]
                    run.track.kills, run.track.own = 1, False
                    run.like = self.likeness[run.track] = "SIGKILL"
                    side.cell_died(run, Cause.CRASHED)
            case "broken":
                self.broken = True  # from now on every process dies as soon as it starts
            case "host":
                self.host, self._processes = Host(self.spec.policy), {}
                for side in sides:
                    side.cells, side.lanes = {}, None
                self._restart(self.sides)
            case "lease" | "shutdown" if sides:
                side = sides[which % len(sides)]
                if not side.core.over:
                    side.tell(Signal.LEASE_LOST if what == "lease" else Signal.SHUTDOWN_REQUESTED)

    # -- time --------------------------------------------------------------------------

    def _actions(self) -> list[tuple[Callable[..., None], object]]:
        found: list[tuple[Callable[..., None], object]] = []
        for side in self.unfinished():
            if side.core.over:
                found.append((self._restart, [side]))  # another owner, or the next deployment
                continue
            lanes = side.lanes
            if lanes is not None and self.now >= lanes.begins_at and not lanes.process.frozen:
                if lanes.can_read:
                    found.append((_call, lanes.read))
                if lanes.can_deal:
                    found.append((_call, lanes.deal))
                if lanes.can_begin:
                    found.append((_call, lanes.begin))
                found += [(lanes.step, call) for call in lanes.calls if not call.hangs]
            if lanes is not None and lanes.outbox:
                found.append((self._deliver, lanes))
            found += [(side.step_cell, run) for run in side.cells.values() if run.stage != "hang"]
            found += [(self._acknowledge, (side, item)) for item in side.later if item[0] <= self.now]
            if side.can_bring:
                found.append((_call, side.bring))
        return found

    def _deliver(self, lanes: Lanes) -> None:
        lanes.side.tell(lanes.outbox.pop(0))

    def _acknowledge(self, what: tuple[Side, tuple[float, Decision | Event]]) -> None:
        side, item = what
        side.later.remove(item)
        side.acknowledged(item[1])

    def _tick(self) -> None:
        """The host's clock: keeps deadlines, wakes the cores."""
        for side in self.unfinished():
            if side.core.over:
                continue
            wakes = side.core.wakes_at
            if wakes is not None and wakes <= self.now:
                side.tell(Signal.TICKED)
            for run in list(side.cells.values()):
                if self.now >= run.began + DEADLINE_S:
                    side.cell_died(run, Cause.OVERRAN)
        for process in list(self._processes.values()):
            late = tuple(run for run in process.running() if self.now >= run.began + DEADLINE_S)
            if late:
                self.kill(process, late if self.spec.batch_max == 1 else ())

    def _jump(self) -> None:
        """Nothing can happen now: on to the next thing that time alone brings about."""
        times = [self.now + 40]
        for side in self.unfinished():
            if side.core.over:
                continue
            times.append(side.core.wakes_at or self.now + 40)
            times += [due for due, _ in side.later]
            times += [run.began + DEADLINE_S for run in side.cells.values()]
            times += [track.rec.arrives for track in side.tracks[side.next : side.next + 1]]
            if side.lanes is not None:
                times.append(side.lanes.begins_at)
        times += [run.began + DEADLINE_S for process in self._processes.values() for run in process.running()]
        self.now = max(self.now + 0.001, min(time for time in times if time > self.now) + 1e-6)

    def _trickle(self) -> None:
        """Whatever else is open, the stream goes on; at the end its shards end."""
        every_s = self.spec.trickle_s
        for side in self.unfinished():
            if side.core.over or side.next < len(side.tracks):
                continue
            settled = side.core.ledger.first_open() is None
            last = side.tracks[-1]
            if every_s and not settled and self.now >= last.rec.arrives + every_s and len(side.tracks) < RECORDS_MAX:
                side.append(Rec(f"t{last.position}", arrives=self.now))
            elif not side.told_end and (settled or not every_s):
                side.told_end = True
                side.tell(Signal.SHARD_ENDED)

    def run(self) -> World:
        faults = list(self.spec.faults)
        while self.unfinished():
            self.steps += 1
            while faults and faults[0].step <= self.steps:
                fault = faults.pop(0)
                self._fault(fault.what, fault.which)
            if self.steps % 7 == 0:
                self._tick()
                self._trickle()
            self._put_down()
            found = self._actions()
            if found:
                self.now += self.dice.random() * self.spec.pace_s
                action, what = self.dice.choice(found)
                action(what)
            else:
                self._jump()
                self._tick()
                self._trickle()
            if self.now > TIME_MAX or self.steps > STEPS_MAX:
                for side in self.unfinished():
                    self.oracle.at_the_end_of_time(side)
                break
        return self

    def _put_down(self) -> None:
        if self.broken:
            up = [one for one in self._processes.values() if any(self.now >= lanes.begins_at for lanes in one.lanes)]
            for process in up:
                self.kill(process)
        while self.condemned:
            self.kill(self.condemned.pop(), by_us=True)


def _call(method: Callable[[], None]) -> None:
    method()
