"""Time, processes, cells, a store and an engine around the core; carries out what it decides."""

from __future__ import annotations

import random
from collections.abc import Callable

from streamheal.core.healer import Healer
from streamheal.core.host import Host
from streamheal.core.messages import (
    At,
    CallHuman,
    Cause,
    Checkpoint,
    Checkpointed,
    Decision,
    Done,
    Event,
    Failed,
    Give,
    Limit,
    Named,
    Order,
    Quarantine,
    Retry,
    RunAlone,
    Settle,
    Signal,
    SpanArrived,
    SpanCounted,
    Start,
    Stored,
    StoreFailed,
    Verdict,
    Witnessed,
    WorkerDied,
)
from streamheal.records import Position
from tests.simulation.generate import Rec, Spec
from tests.simulation.lanes import CAUSES, Lanes, Mark, Run
from tests.simulation.oracle import Oracle, Track, Violation

DEADLINE_S = 30.0
TIME_MAX, STEPS_MAX, RECORDS_MAX = 8_000.0, 60_000, 500


class Process:
    """A worker process, of one shard or of all."""

    def __init__(self) -> None:
        self.lanes: list[Lanes] = []
        self.frozen = False

    def running(self) -> list[Run]:
        return [run for lanes in self.lanes for run in lanes.running.values()]


class Side:
    """One shard: its records, its core, and what is on its way between them."""

    def __init__(self, world: World, number: int, records: tuple[Rec, ...]) -> None:
        self.world, self.number = world, number
        self.tracks: list[Track] = []
        self._last_of: dict[str, Track] = {}
        for rec in records:
            self.append(rec)
        self.checkpoint = self.checked = 0
        self.starts, self._started_at, self.doubt = 0, -1, False
        self.suspects: set[int] = set()
        self.finished = False
        self.nobody_else = self.deaths = 0
        self.begin()

    def append(self, rec: Rec) -> None:
        track = Track(rec, len(self.tracks) + 1, times=rec.times)
        ordering = self.world.spec.ordering
        lane = rec.key if ordering == "key" else "shard" if ordering == "shard" else str(track.position)
        track.prev = self._last_of.get(lane)
        self._last_of[lane] = track
        self.tracks.append(track)

    def begin(self) -> None:
        """A new life: from the checkpoint, knowing only what is durable."""
        world = self.world
        world.oracle.seen["lives"] += 1
        self.starts = self.starts + 1 if self.checkpoint == self._started_at else 1
        self.born_at = world.now
        self._started_at = self.began_after = self.next = self.checkpoint
        self.core = Healer(
            str(self.number), world.spec.policy, world.host, starts=self.starts, doubt=self.doubt
        )
        self.spans: dict[int, list[Track]] = {}
        self.at: dict[At, Track] = {}
        self.marks: dict[At, Mark] = {}
        self.cells: dict[At, Run] = {}
        self.later: list[tuple[float, Decision | Event]] = []
        self.judged: set[At] = set()
        self.witnessed_since = float("-inf")
        self.may_bring, self.told_end, self._curious = True, False, self.core.curious
        self.lanes: Lanes | None = None
        for track in self.tracks:
            track.new_life()
        self._carry_out(self.core.begin())

    def named(self, at: At) -> Named:
        before = self.world.at_position(self.at[At(at.span, at.nth - 1)].position) if at.nth else None
        return Named(at, self.world.at_position(self.at[at].position), before, 1)

    # -- the engine --------------------------------------------------------------------

    @property
    def can_bring(self) -> bool:
        return self.may_bring and self.next < len(self.tracks) and self._arrived(self.tracks[self.next])

    def _arrived(self, track: Track) -> bool:
        return track.rec.arrives <= self.world.now

    def bring(self) -> None:
        most = min(self.core.span_records_max or 99, self.world.dice.choice([0, 1, 3, 10, 99, 99]))
        tracks = [track for track in self.tracks[self.next : self.next + most] if self._arrived(track)]
        self.next += len(tracks)
        self.may_bring = False
        span = len(self.spans) + 1
        self.spans[span] = tracks
        self.at.update({At(span, nth): track for nth, track in enumerate(tracks)})
        suspects = tuple(nth for nth, track in enumerate(tracks) if track.position in self.suspects)
        self.tell(SpanArrived(span, len(tracks), suspects))

    # -- the core ----------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        world, core = self.world, self.core
        world.note(f"{world.now:9.3f} s{self.number} {event}", event is not Signal.TICKED)
        if isinstance(event, Witnessed):
            self.witnessed_since = max(self.witnessed_since, event.since)
        self._write_down(event)
        decisions = core.handle(event, world.now, world.dice.random())
        self.doubt = core.doubt
        world.oracle.audit(self)
        self._carry_out(decisions)
        if event is Signal.TICKED and core.wakes_at is not None and core.wakes_at <= world.now:
            raise Violation(f"ticked at {world.now}, wants to be woken at {core.wakes_at}")
        if core.curious != self._curious:
            self._curious = core.curious
            if self.lanes is not None:
                self.lanes.inbox.append(self._curious)

    def _write_down(self, event: Event) -> None:
        """Counted tries, for the oracle's own view of who failed in one way."""
        tries: list[tuple[At, Cause]] = []
        if isinstance(event, Failed) and event.cause not in (Cause.THROTTLED, Cause.POISON, Cause.SUSPECTED):
            tries = [(event.record.at, event.cause)]
        elif isinstance(event, WorkerDied):
            tries = [(at, Cause.OVERRAN) for at in event.overran]
        for at, cause in tries:
            track = self.at[at]
            track.failed.append((cause.name, self.world.likeness.get(track, "")))
            track.first_failed_at = min(track.first_failed_at, self.world.now)

    def _carry_out(self, decisions: list[Decision]) -> None:
        world, now = self.world, self.world.now
        slow = world.spec.pace_s * world.dice.choice([1, 10, 1000])
        for decision in decisions:
            world.note(f"{'':9} s{self.number}   -> {decision}")
            match decision:
                case Start():
                    process = world.process_of(self)
                    self.lanes = Lanes(self, decision, process, now)
                    process.lanes.append(self.lanes)
                case Give() | Limit() | Retry() | Settle():
                    assert self.lanes is not None
                    self.lanes.inbox.append(decision)
                case RunAlone(at):
                    world.oracle.starts(self, self.at[at], in_lane=False)
                    self.cells[at] = Run(at, self.at[at], now)
                    if sum(len(side.cells) for side in world.sides) > world.spec.policy.cells_max:
                        raise Violation("more cells than allowed")
                case Quarantine(at, verdict):
                    if at not in self.judged:
                        world.oracle.judged(self, self.at[at], verdict)
                    self.judged.add(at)
                    self.later.append((now + slow, decision))
                case Checkpoint(position):
                    world.oracle.checkpointed(self, position.sequence)
                    self.later.append((now + slow, decision))
                case CallHuman():
                    world.oracle.seen["humans called"] += 1
                case Order.ANSWER:
                    if self.core.ledger.in_flight >= world.spec.policy.open_records_max:
                        raise Violation("answered beyond the window")
                    self.may_bring = True
                case Order.ABANDON:
                    self._abandon()
                case Order.SHARD_COMPLETE:
                    world.oracle.complete(self)
                    self.finished = True
                    self._abandon()
                case Order.SHUTDOWN_COMPLETE:
                    self._abandon()
                case Order.STOP_SHARD:
                    if self.deaths < world.spec.policy.deaths_stop or not self.core.needs_human:
                        raise Violation(f"stopped after {self.deaths} deaths")
                    self.finished = True
                    world.oracle.seen["stopped"] += 1

    def _abandon(self) -> None:
        for run in self.cells.values():
            run.track.running = False
        self.cells.clear()
        if self.lanes is not None:
            self.lanes.process.lanes.remove(self.lanes)
            if self.lanes.running:
                self.world.condemned.append(self.lanes.process)  # a thread cannot be stopped
            self.lanes = None

    def acknowledged(self, item: Decision | Event) -> None:
        """A store, the engine or a cell answers."""
        world, spec = self.world, self.world.spec
        match item:
            case Quarantine(at):
                down = spec.store_down[0] <= world.now < spec.store_down[1]
                if down or world.dice.random() < 0.05:
                    self.tell(StoreFailed(at))
                    return
                track = self.at[at]
                world.oracle.stored(self, track)
                track.ever, track.fate = track.ever or "stored", track.fate or "stored"
                self.tell(Stored(at))
            case Checkpoint(position):
                if world.dice.random() < 0.1:
                    self.tell(Checkpointed(None))
                else:
                    self.checkpoint = max(self.checkpoint, position.sequence)
                    self.tell(Checkpointed(position))
            case Done() | Failed():
                self.tell(item)

    # -- cells -------------------------------------------------------------------------

    def step_cell(self, run: Run) -> None:
        world = self.world
        if run.stage == "begun":
            run.stage = world.outcome(self, run, in_lane=False, company=False)
            if run.stage == "crash":
                self.cell_died(run, Cause.CRASHED)
            elif run.stage == "ok":
                world.oracle.takes_effect(self, run.track)
            return
        run.track.running = False
        del self.cells[run.at]
        if run.stage in ("ok", "filtered"):
            self.later.append((world.now, Done(run.at, run.stage == "filtered", alone=True)))
        else:
            cause = CAUSES[run.stage]
            failed = Failed(self.named(run.at), cause, run.began, world.now, run.like, alone=True, retry_after_s=0.2)
            self.later.append((world.now, failed))

    def cell_died(self, run: Run, cause: Cause) -> None:
        run.track.running = False
        run.track.excused += 1
        del self.cells[run.at]
        now = self.world.now
        self.later.append((now, Failed(self.named(run.at), cause, run.began, now, run.like, alone=True)))


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

    @staticmethod
    def at_position(sequence: int) -> Position:
        return Position(sequence)

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
            done = [(at, mark is Mark.FILTERED) for at, mark in side.marks.items() if mark in (Mark.DONE, Mark.FILTERED)]
            for at in named:
                side.marks[at] = Mark.OPEN
            late = tuple(run.at for run in overran if run.at in named and lanes.running.get(run.at) is run)
            open_spans = side.core.ledger.spans
            for span in sorted({at.span for at in named} & set(open_spans)):
                side.tell(SpanCounted(span, len(side.spans[span])))
            running = tuple(side.named(at) for at in named)
            side.tell(WorkerDied(self.deaths, running, tuple(done), late, len(runs), by_us))

    def _restart(self, sides: list[Side]) -> None:
        for side in sides:
            if side.finished:
                continue
            cautious = side.core.span_records_max is not None
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


__all__ = ["Verdict", "Violation", "World"]
