"""The worker's side of one shard: lanes that are the only queue, marks that outlive the process.

    inbox ─► todo ─► lanes: head runs, the rest of its key waits behind it ─► the process's outbox

A record that fails blocks its lane before anybody hears of it. Everything here happens a moment
after it was asked for, one thing at a time: begun, effect, mark, word. Between any two of them
the process may die.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from streamheal.core.messages import (
    Cause,
    Done,
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
from tests.simulation.caution import CAUTIOUS_RECORDS_MAX, Cautious, Drain, Intents, Permit
from tests.simulation.runs import CAUSES, DONE, FAILED, FILTERED, RUNNING, SETTLED, Call, Item, Run, place
from tests.simulation.stating import Stating

if TYPE_CHECKING:
    from tests.simulation.pool import Process
    from tests.simulation.seat import SimSeat, Span


class Lanes:
    """One stay of a shard in a process."""

    def __init__(self, seat: SimSeat, start: Start, process: Process) -> None:
        self.seat, self.process, self.world = seat, process, seat.world
        spec = seat.world.spec
        self.width = start.lanes_max or spec.concurrency
        self.batch_max = 1 if start.lanes_max else spec.batch_max
        self.limit, self.curious, self.gone = start.limit, seat.curious_wanted, False
        self.inbox: list[object] = []
        self.running: dict[Item, Run] = {}
        self.calls = 0
        self.intents: Intents | None = None  # in cautious mode
        self.stating = Stating(self) if spec.states else None
        self.draining = False
        self._reading = self._working = False
        self._todo: list[Item] = []
        self._hold: set[Item] = set()  # they block their lanes
        self._ask: set[Item] = set()
        self._skip: set[Item] = set()
        self._known: set[Item] = set()  # the core knows them by themselves
        self._lines: dict[object, list[Item]] = {}  # key -> head, and those behind it
        self._ready: list[Item] = []
        self._forced: list[Item] = []
        self._open: dict[Span, int] = {}  # spans not reported -> how many of them are not through
        self._undealt: dict[Span, int] = {}
        self._counted: set[Span] = set()
        self._last_success: tuple[float, float] | None = None

    # -- what the host says ------------------------------------------------------------

    def put(self, message: object) -> None:
        self.inbox.append(message)
        self._read_soon()

    def _soon(self, call: Callable[..., None], *what: Any) -> None:
        self.world.after(self.world.latency(), self._do, call, what)

    def _do(self, call: Callable[..., None], what: tuple[Any, ...]) -> None:
        if self.process.able and not self.gone:
            call(*what)

    def _read_soon(self) -> None:
        if self.inbox and not self._reading:
            self._reading = True
            self._soon(self._read)

    def _read(self) -> None:
        self._reading = False
        message = self.inbox[0]
        match message:
            case Retry(at) | Settle(at):
                item = self.seat.items[at]
                if item in self.running:
                    return  # a word about a record reaches its lane only when the lane has done with it
                self._word(item, message)
            case Give():
                self._take(message)
            case Limit(starts):
                self.limit = starts
            case bool():
                self.curious = message
            case Cautious(wanted):
                self._be_cautious(wanted)
            case Permit(at):
                if self.intents is not None:
                    self.intents.permit(at)
            case Drain():
                self._forced.clear()
                self.draining = True
                self.process.drained(self)
            case str():
                self.gone = True
                self.process.hook(self, message)
        self.inbox.pop(0)
        self._read_soon()
        self._work_soon()

    def _word(self, item: Item, message: Retry | Settle) -> None:
        if isinstance(message, Settle) and item in self._ask:  # done alone before its turn came
            self._ask.remove(item)
            self._hold.add(item)
        if item not in self._hold:
            self.world.oracle.fail(f"{message}, but it does not block a lane")
        self._hold.remove(item)
        waits = item in self._todo or self._lines[item.key][0] is not item
        if isinstance(message, Retry):
            if not waits:
                self._forced.append(item)
        elif waits:
            self._skip.add(item)
        else:
            self._leave(item)

    def _take(self, give: Give) -> None:
        span = self.seat.spans[give.span]
        items = span.items
        hold, skip = {items[nth] for nth in give.hold}, {items[nth] for nth in give.skip}
        known = {*hold, *skip, *(items[nth] for nth in give.queued)}
        mine = items if give.rest else sorted(known - skip, key=place)
        fresh = [item for item in mine if item not in skip and (item in hold or item.mark not in SETTLED)]
        self._hold |= hold
        self._known |= known
        self._ask |= {items[nth] for nth in give.ask}
        self._todo += fresh
        span.counted = True  # the marks say so at once; the host looks now and then
        if give.rest:
            self._open[span] = self._undealt[span] = len(fresh)
            if self.world.chance(0.3):
                self._count(span)
            self._report(span)

    def _count(self, span: Span) -> None:
        if span not in self._counted:
            self._counted.add(span)
            self.say(SpanCounted(span.number, len(span.items)))

    def say(self, event: object, like: str = "") -> None:
        self.process.say(self, event, like)

    # -- lanes -------------------------------------------------------------------------

    def _work_soon(self) -> None:
        if not self._working and (self._todo or self._can_begin):
            self._working = True
            self._soon(self._work)

    def _work(self) -> None:
        """The next records of the stream go to their lanes, or a lane starts its head."""
        self._working = False
        if self._todo and not (self._can_begin and self.world.chance(0.5)):
            for _ in range(min(len(self._todo), self.world.pick((1, 3, 99)))):
                self._deal(self._todo.pop(0))
        elif self._can_begin:
            self._begin()
        self._work_soon()

    def _deal(self, item: Item) -> None:
        span = self.seat.spans[item.span]
        if span in self._undealt:
            self._undealt[span] -= 1
        if item in self._skip:
            self._through(item)
        else:
            line = self._lines.setdefault(item.key, [])
            line.append(item)
            if len(line) == 1:
                self._head(item)
        self._report(span)

    def _head(self, item: Item) -> None:
        if item in self._ask:
            self._ask.remove(item)
            self._block(item)
            now = self.world.now
            self.say(Failed(item.named, Cause.SUSPECTED, now, now))
        elif item not in self._hold:
            self._ready.append(item)

    def _block(self, item: Item) -> None:
        self._count(self.seat.spans[item.span])
        self._hold.add(item)
        self._known.add(item)

    def _through(self, item: Item) -> None:
        span = self.seat.spans.get(item.span)
        if span in self._open:
            self._open[span] -= 1

    def _leave(self, item: Item) -> None:
        line = self._lines[item.key]
        assert line[0] is item, f"{item.at} is not at the head of its lane"
        line.pop(0)
        self._through(item)
        while line and line[0] in self._skip:
            self._through(line.pop(0))
        if line:
            self._head(line[0])
        else:
            del self._lines[item.key]
        self._report_all()
        self._work_soon()

    def _report_all(self) -> None:
        for span in list(self._open):
            if self._hold or not self._open[span]:
                self._report(span)

    def _report(self, span: Span) -> None:
        """Once nothing of a span can run now; what is queued behind a blocked head is held."""
        left = self._open.get(span)
        if left is None or self._undealt[span] or (left and not self._hold):
            return
        number, lines = span.number, self._lines.values() if left else ()
        if any(item.span == number for line in lines if line[0] not in self._hold for item in line):
            return
        behind = [item for line in lines for item in line if item.span == number and item not in self._known]
        filtered = sum(item.mark == FILTERED for item in span.items if item not in self._known)
        self._known.update(behind)
        del self._open[span], self._undealt[span]
        last = Position(span.items[-1].track.position) if span.items else None
        held = tuple(item.named for item in sorted(behind, key=place))
        self.say(SpanDone(span.number, len(span.items), last, filtered, held))

    # -- running -----------------------------------------------------------------------

    def _be_cautious(self, wanted: bool) -> None:
        if wanted and self.intents is None:
            self.intents = Intents(self)
        elif not wanted and self.intents is not None:
            self._forced += self.intents.let_go()
            self.intents = None

    @property
    def _can_begin(self) -> bool:
        if self.draining:
            return False
        some = bool(self._forced or (self._ready and self.limit != 0))
        if self.intents is None:
            return some and self.calls < self.width
        return self.intents.permitted or (some and self.intents.room)

    def _gather(self, most: int) -> list[Item]:
        """What one call may hold now, in the order of the stream."""
        items: list[Item] = []
        while len(items) < most and (self._forced or (self._ready and self.limit != 0)):
            if self._forced:
                items.append(self._forced.pop(0))
                continue
            items.append(self._ready.pop(self.world.below(len(self._ready))))
            if self.limit:
                self.limit -= 1
        return sorted(items, key=place) if len(items) > 1 else items

    def _begin(self) -> None:
        intents = self.intents
        if intents is not None and not intents.permitted:
            intents.ask(self._gather(min(self.batch_max, CAUTIOUS_RECORDS_MAX)))
            return
        runs = []
        for item in self._gather(self.batch_max) if intents is None else intents.begin():
            asked = intents is not None and self.seat.is_cautious
            self.world.oracle.starts(self.seat.stream, item.track, in_lane=True, asked=asked)
            item.mark = RUNNING
            run = self.running[item] = self.process.runs[item] = Run(item, self.world.now)
            runs.append(run)
        self.calls += 1
        self.world.after(self.world.run_s(), self._do, self._step, (Call(runs),))

    def _step(self, call: Call) -> None:
        """Effect, then mark, then word: any two may have a death between them."""
        for run in call.runs:
            if run.stage not in ("begun", "over"):
                self._end(run)
                break
        else:
            span = call.halving.next_run()
            if span is None:
                self.calls -= 1
                if self.intents is not None:
                    self.intents.over([run.item for run in call.runs])
                self._report_all()
                self._work_soon()
                return
            if not self._runs(call, call.runs[span[0] : span[1] + 1]):
                return
        self._soon(self._step, call)

    def _runs(self, call: Call, runs: list[Run]) -> bool:
        """Call the processor. False: it does not come back."""
        world = self.world
        if not call.first:
            for run in runs:
                run.began = world.now
        call.first = False
        stages = []
        for run in runs:
            stage = world.outcome(self.seat.stream, run, process=self.process)
            if stage == "crash":
                self.process.kill("signal", run)
                return False
            if stage == "host":
                return False  # all of it is about to end
            if stage in ("hang", "freeze"):
                self.process.hangs(self, call, run, frozen=stage == "freeze")
                return False
            stages.append(stage)
            if stage not in ("ok", "filtered"):
                break
        ok = len(stages) == len(runs) and stages[-1] in ("ok", "filtered")
        culprit = call.halving.ran(ok)
        if ok:
            for run, stage in zip(runs, stages, strict=True):
                if stage == "ok" and self.stating is None:
                    world.oracle.takes_effect(run.item.track)
                run.stage = stage
            if self.stating is not None:
                self.stating.called(runs)
        elif culprit is not None:
            call.runs[culprit].stage = stages[0]
        return True

    def cancelled(self, call: Call, run: Run) -> None:
        """A coroutine past its deadline, which has ended when it was told to."""
        if self.process.able and not self.gone:
            run.item.track.excused += 1
            call.halving.ran(False)
            run.stage = "overran"
            self._soon(self._step, call)

    def _end(self, run: Run) -> None:
        item, track, now = run.item, run.item.track, self.world.now
        match run.stage:
            case "ok" | "filtered":
                item.mark = DONE if run.stage == "ok" else FILTERED
                track.running = False
                if run.stage == "ok":
                    self._last_success = (run.began, now)
                    if self.curious:
                        self.say(Witnessed(run.began, now))
                run.stage = "marked"
            case "marked":
                self._over(run)
                if item in self._known:
                    self.say(Done(item.at, item.mark == FILTERED))
                self._leave(item)
            case "said":
                item.mark = FAILED
                self._over(run)
                self._report_all()
            case stage:
                run.stage = "said"
                track.running = False
                if self._last_success is not None:
                    self.say(Witnessed(*self._last_success))
                self._block(item)
                failed = Failed(item.named, CAUSES[stage], run.began, now, retry_after_s=0.2)
                self.say(failed, run.like)

    def _over(self, run: Run) -> None:
        run.stage = "over"
        if self.intents is not None and self.batch_max == 1:
            self.intents.over([run.item])
        del self.running[run.item], self.process.runs[run.item]
        self._read_soon()
