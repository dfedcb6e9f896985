"""The worker's side of one shard: lanes that are the only queue, marks that outlive the process.

    inbox ─► todo ─► lanes: head runs, the rest of its key waits behind it ─► outbox

A record that fails blocks its lane before anybody hears of it.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from streamheal.core.halving import Halving
from streamheal.core.messages import (
    At,
    Cause,
    Done,
    Event,
    Failed,
    Give,
    Limit,
    Retry,
    Settle,
    SpanCounted,
    SpanDone,
    Start,
    Witnessed,
)
from streamheal.records import Position
from tests.simulation.oracle import Track, Violation

if TYPE_CHECKING:
    from tests.simulation.side import Side
    from tests.simulation.world import Process

CAUSES = {"raise": Cause.RAISED, "poison": Cause.POISON, "throttle": Cause.THROTTLED}


class Mark(Enum):
    OPEN = auto()
    RUNNING = auto()
    DONE = auto()
    FILTERED = auto()
    FAILED = auto()


class Run:
    """One record running, in a lane or alone in a cell."""

    def __init__(self, at: At, track: Track, began: float) -> None:
        self.at, self.track, self.began = at, track, began
        self.stage = "begun"
        self.like = ""


class Call:
    """One call of the processor: a record, or many of a batch, bisected when it fails."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self.halving = Halving(0, len(runs) - 1)
        self.hangs = False

    def unfinished(self) -> Run | None:
        return next((run for run in self.runs if run.stage not in ("begun", "over")), None)


class Lanes:
    def __init__(self, side: Side, start: Start, process: Process, now: float) -> None:
        self.side, self.process = side, process
        self.width = start.lanes_max or side.world.spec.concurrency
        self.batch_max = 1 if start.lanes_max else side.world.spec.batch_max
        self.limit, self.begins_at = start.limit, now + start.delay_s
        self.inbox: list[object] = []
        self.outbox: list[Event] = []
        self.curious = side.core.curious
        self.calls: list[Call] = []
        self.running: dict[At, Run] = {}
        self._todo: list[At] = []
        self._hold: set[At] = set()  # they block their lanes
        self._ask: set[At] = set()
        self._skip: set[At] = set()
        self._known: set[At] = set()  # the core knows them by themselves
        self._lines: dict[object, list[At]] = {}  # key -> head, and those behind it
        self._ready: list[At] = []
        self._forced: list[At] = []
        self._open: dict[int, int] = {}  # spans not reported -> how many are still to be dealt out
        self._counted: set[int] = set()
        self._last_success: tuple[float, float] | None = None

    # -- what can happen next ----------------------------------------------------------

    @property
    def can_read(self) -> bool:
        # A word about a record reaches its lane only when the lane has done with it.
        return bool(self.inbox) and getattr(self.inbox[0], "at", None) not in self.running

    @property
    def can_deal(self) -> bool:
        return bool(self._todo)

    @property
    def idle(self) -> bool:
        """Nothing runs or can, and nothing is on its way to or from the host."""
        return not (self.inbox or self.outbox or self._todo or self.calls or self._forced or self._ready or self._open)

    @property
    def can_begin(self) -> bool:
        free = len(self.calls) < self.width
        return free and bool(self._forced or (self._ready and self.limit != 0))

    # -- messages ----------------------------------------------------------------------

    def read(self) -> None:
        message = self.inbox.pop(0)
        match message:
            case Give():
                self._take(message)
            case Limit(starts):
                self.limit = starts
            case bool():
                self.curious = message
            case Retry(at) | Settle(at):
                if at not in self._hold:
                    raise Violation(f"{message}, but it does not block a lane")
                self._hold.remove(at)
                waits = at in self._todo
                if isinstance(message, Retry):
                    if not waits:
                        self._forced.append(at)
                elif waits:
                    self._skip.add(at)
                else:
                    self._leave(at)

    def _take(self, give: Give) -> None:
        side, span = self.side, give.span
        records = len(side.spans[span])
        mine = range(records) if give.rest else sorted({*give.hold, *give.queued})
        marks, hold, skip = side.marks, set(give.hold), set(give.skip)
        ats = [
            At(span, nth)
            for nth in mine
            if nth not in skip and (nth in hold or marks.get(At(span, nth)) not in (Mark.DONE, Mark.FILTERED))
        ]
        self._hold |= {At(span, nth) for nth in hold}
        self._ask |= {At(span, nth) for nth in give.ask}
        self._known |= {At(span, nth) for nth in (*hold, *skip, *give.queued)}
        self._todo += ats
        if give.rest:
            self._open[span] = len(ats)
            if side.world.dice.random() < 0.3:
                self._count(span)
            self._report(span)

    def _count(self, span: int) -> None:
        if span not in self._counted:
            self._counted.add(span)
            self.say(SpanCounted(span, len(self.side.spans[span])))

    def say(self, event: Event) -> None:
        self.outbox.append(event)

    # -- lanes -------------------------------------------------------------------------

    def _key(self, at: At) -> object:
        ordering = self.side.world.spec.ordering
        return self.side.at[at].rec.key if ordering == "key" else at if ordering == "none" else "shard"

    def deal(self) -> None:
        """The next record of the stream goes to its lane."""
        at = self._todo.pop(0)
        if at.span in self._open:
            self._open[at.span] -= 1
        if at not in self._skip:
            line = self._lines.setdefault(self._key(at), [])
            line.append(at)
            if len(line) == 1:
                self._head(at)
        self._report(at.span)

    def _head(self, at: At) -> None:
        if at in self._ask:
            self._ask.remove(at)
            self._block(at)
            now = self.side.world.now
            self.say(Failed(self.side.named(at), Cause.SUSPECTED, now, now))
        elif at not in self._hold:
            self._ready.append(at)

    def _block(self, at: At) -> None:
        self._count(at.span)
        self._hold.add(at)
        self._known.add(at)

    def _leave(self, at: At) -> None:
        key = self._key(at)
        line = self._lines[key]
        assert line[0] == at, f"{at} is not at the head of its lane"
        line.pop(0)
        if line:
            self._head(line[0])
        else:
            del self._lines[key]
        self._report_all()

    def _report_all(self) -> None:
        for span in list(self._open):
            self._report(span)

    def _report(self, span: int) -> None:
        """Once nothing of a span can run now; what is queued behind a blocked head is held."""
        if self._open.get(span) != 0:
            return
        behind: list[At] = []
        for line in self._lines.values():
            mine = [at for at in line if at.span == span]
            if mine and line[0] not in self._hold:
                return
            behind += [at for at in mine if at not in self._known]
        side = self.side
        ats = [At(span, nth) for nth in range(len(side.spans[span]))]
        filtered = sum(side.marks.get(at) is Mark.FILTERED for at in ats if at not in self._known)
        self._known |= set(behind)
        del self._open[span]
        last = side.at[ats[-1]].position if ats else None
        held = tuple(side.named(at) for at in sorted(behind))
        self.say(SpanDone(span, len(ats), None if last is None else Position(last), filtered, held))

    # -- running -----------------------------------------------------------------------

    def begin(self) -> None:
        side, dice = self.side, self.side.world.dice
        ats: list[At] = []
        while len(ats) < self.batch_max and (self._forced or (self._ready and self.limit != 0)):
            if self._forced:
                ats.append(self._forced.pop(0))
                continue
            ats.append(self._ready.pop(dice.randrange(len(self._ready))))
            if self.limit:
                self.limit -= 1
        runs = []
        for at in sorted(ats):
            side.world.oracle.starts(side, side.at[at], in_lane=True)
            side.marks[at] = Mark.RUNNING
            run = self.running[at] = Run(at, side.at[at], side.world.now)
            runs.append(run)
        self.calls.append(Call(runs))

    def step(self, call: Call) -> None:
        """Effect, then mark, then report: any two may have a death between them."""
        run = call.unfinished()
        if run is not None:
            self._end(run)
        elif (span := call.halving.next_run()) is not None:
            self._call(call, call.runs[span[0] : span[1] + 1])
        else:
            self.calls.remove(call)
            self._report_all()

    def _call(self, call: Call, runs: list[Run]) -> None:
        world = self.side.world
        if world.now > runs[0].began and call.runs[0].stage != "begun":
            for run in runs:
                run.began = world.now
        stages = []
        for run in runs:
            company = len(self.running) > 1 or len(self.process.running()) > 1
            stage = world.outcome(self.side, run, in_lane=True, company=company)
            if stage == "crash":
                world.kill(self.process)
                return
            if stage == "hang":
                call.hangs = True
                return
            stages.append(stage)
            if stage not in ("ok", "filtered"):
                break
        ok = len(stages) == len(runs) and stages[-1] in ("ok", "filtered")
        culprit = call.halving.ran(ok)
        if ok:
            for run, stage in zip(runs, stages, strict=True):
                if stage == "ok":
                    world.oracle.takes_effect(self.side, run.track)
                run.stage = stage
        elif culprit is not None:
            call.runs[culprit].stage = stages[0]

    def _end(self, run: Run) -> None:
        side, at, now = self.side, run.at, self.side.world.now
        match run.stage:
            case "ok" | "filtered":
                side.marks[at] = Mark.DONE if run.stage == "ok" else Mark.FILTERED
                run.track.running = False
                if run.stage == "ok":
                    self._last_success = (run.began, now)
                    if self.curious:
                        self.say(Witnessed(run.began, now))
                run.stage = "marked"
            case "marked":
                run.stage = "over"
                del self.running[at]
                if at in self._known:
                    self.say(Done(at, side.marks[at] is Mark.FILTERED))
                self._leave(at)
            case "said":
                run.stage = "over"
                side.marks[at] = Mark.FAILED
                del self.running[at]
                self._report_all()
            case stage:
                run.stage = "said"
                run.track.running = False
                if self._last_success is not None:
                    self.say(Witnessed(*self._last_success))
                self._block(at)
                self.say(Failed(side.named(at), CAUSES[stage], run.began, now, run.like, retry_after_s=0.2))
