"""One shard of the made-up world: its records, its core, and what is on its way between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamheal.core.case import IN_WORKER
from streamheal.core.healer import Healer
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
    Halted,
    Limit,
    Named,
    Order,
    Quarantine,
    Retry,
    RunAlone,
    Settle,
    Signal,
    SpanArrived,
    SpanDone,
    Start,
    Stored,
    StoreFailed,
    Witnessed,
    WorkerDied,
)
from streamheal.records import Position
from tests.simulation.generate import Rec
from tests.simulation.lanes import CAUSES, Lanes, Mark, Run
from tests.simulation.oracle import Track, Violation

if TYPE_CHECKING:
    from tests.simulation.world import World


class Side:
    """One shard: its records, its core, and what is on its way between them."""

    def __init__(self, world: World, number: int, records: tuple[Rec, ...]) -> None:
        self.world, self.number = world, number
        self.tracks: list[Track] = []
        self._last_of: dict[str, Track] = {}
        for rec in records:
            self.append(rec)
        self.checkpoint = self.checked = 0
        self.starts, self._started_at, self.doubt = 0, -1, None
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
        marked = [Position(position) for position in self.suspects if position > self.checkpoint]
        self.core = Healer(
            str(self.number), world.spec.policy, world.host, starts=self.starts, doubt=self.doubt, marked=marked
        )
        self.spans: dict[int, list[Track]] = {}
        self.at: dict[At, Track] = {}
        self.marks: dict[At, Mark] = {}
        self.cells: dict[At, Run] = {}
        self.later: list[tuple[float, Decision | Event]] = []
        self.judged: set[At] = set()
        self.settled: set[At] = set()  # known records, as the host keeps them
        self.halting = False
        self.witnessed_since = float("-inf")
        self.may_bring, self.told_end, self._curious = True, False, self.core.curious
        self.lanes: Lanes | None = None
        for track in self.tracks:
            track.new_life()
        self._carry_out(self.core.begin())

    def named(self, at: At) -> Named:
        before = Position(self.at[At(at.span, at.nth - 1)].position) if at.nth else None
        return Named(at, Position(self.at[at].position), before, 1)

    # -- the engine --------------------------------------------------------------------

    @property
    def can_bring(self) -> bool:
        return self.may_bring and self.next < len(self.tracks) and self._arrived(self.tracks[self.next])

    def _arrived(self, track: Track) -> bool:
        return track.rec.arrives <= self.world.now

    def bring(self) -> None:
        most = self.world.dice.choice([0, 1, 3, 10, 99, 99])
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
        if isinstance(event, Stored | Done):
            self.settled.add(event.at)
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
                    assert self.lanes is not None or self.halting
                    if self.lanes is not None:
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
                case Order.HALT:
                    self._halt()
                case Order.ABANDON:
                    self._abandon()
                case Order.SHARD_COMPLETE:
                    world.oracle.complete(self)
                    self.finished = True
                    self._abandon()
                case Order.SHUTDOWN_COMPLETE:
                    world.oracle.stopped(self)
                    self._abandon()
                case Order.STOP_SHARD:
                    if self.deaths < world.spec.policy.deaths_stop or not self.core.needs_human:
                        raise Violation(f"stopped after {self.deaths} deaths")
                    self.finished = True
                    world.oracle.seen["stopped"] += 1

    def _halt(self) -> None:
        self.world.oracle.seen["halts"] += 1
        lanes, self.halting = self.lanes, True
        self._leave_cells()
        if lanes is not None and self.world.now >= lanes.begins_at and not lanes.idle:
            self.world.condemned.append(lanes.process)
            return
        if lanes is not None and self.world.now < lanes.begins_at:
            lanes.process.lanes.remove(lanes)
            self.lanes = None
        self.tell(self.left())

    def left(self) -> Halted:
        """What marks say of the spans that are not reported, and what is known of records by themselves."""
        over: list[SpanDone] = []
        for number, span in self.core.ledger.spans.items():
            if span.reported:
                continue
            ats = [At(number, nth) for nth in range(len(self.spans[number]))]
            ours = {nth for nth, case in span.cases.items() if case is not None and case.phase not in IN_WORKER}
            opens = [at for at in ats if not self.knows_settled(at) and at.nth not in ours]
            if opens:
                return Halted(tuple(over), self.named(opens[0]) if opens[0].nth else None)
            filtered = sum(self.marks.get(at) is Mark.FILTERED and at.nth not in span.cases for at in ats)
            last = Position(self.at[ats[-1]].position) if ats else None
            over.append(SpanDone(number, len(ats), last, filtered))
        return Halted(tuple(over))

    def knows_settled(self, at: At) -> bool:
        return at in self.settled or self.marks.get(at) in (Mark.DONE, Mark.FILTERED)

    def _leave_cells(self) -> None:
        for run in self.cells.values():
            run.track.running = False
        self.cells.clear()

    def _abandon(self) -> None:
        self._leave_cells()
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
