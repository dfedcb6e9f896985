"""One shard's place among the made-up workers, as the host sees it. Implements `port.Seat`.

Seat.start ──► place ──► process (spare, or slow to start) ──► initialize ──► Lanes
                            │ dies, by itself or by us
                            ▼ a moment later the host hears: what was said, as far as it
                              was read, then what the marks say
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamheal.attempts import Attempt
from streamheal.core.messages import (
    At,
    Done,
    Failed,
    Give,
    Halted,
    Limit,
    Named,
    Retry,
    Settle,
    SpanCounted,
    SpanDone,
    Start,
    Stated,
    WorkerDied,
)
from streamheal.records import Dialect, Position, Record, Shard
from streamheal.workers.permits import Stage
from streamheal.workers.port import Hook, Listener
from tests.simulation.caution import CautiousSeat, Heeds, Intends, Over
from tests.simulation.lanes import Lanes
from tests.simulation.runs import DONE, FILTERED, OPEN, OUTCOMES, RUNNING, SETTLED, Item, attempt
from tests.simulation.stating import Unstated

if TYPE_CHECKING:
    from tests.simulation.oracle import Stream, Track
    from tests.simulation.pool import Process, SimPool

BY_US = ("by_us", "hook", "initialize", "recycled")
_CHANCE_MAX = 2  # so many processes in a row end while it initializes, and it has the next for itself


class Slot:
    """A stretch of shared memory: here, the records themselves."""

    view: Any = None
    tracks: list[Track]


class Span:
    """One batch. `counted`: the worker has written into the marks how many records it holds."""

    __slots__ = ("counted", "given", "items", "number", "reported", "slot")

    def __init__(self, number: int, slot: Slot, items: list[Item]) -> None:
        self.number, self.slot, self.items = number, slot, items
        self.counted = self.given = self.reported = False

    @property
    def able(self) -> bool:
        """Whether something of it may run in the process, now or in a moment."""
        if not self.given:
            return False
        return not self.reported or any(item.known and not (item.in_hand or item.settled) for item in self.items)


class SimSeat(CautiousSeat):
    """Implements `port.Seat`."""

    def __init__(self, pool: SimPool, shard: Shard, listener: Listener) -> None:
        super().__init__()
        self.pool, self.world, self.listener = pool, pool.world, listener
        self.stream: Stream = pool.world.stream(shard.shard_id)
        self.stage: Stage = "out"
        self.lanes: Lanes | None = None
        self.spans: dict[int, Span] = {}
        self.items: dict[At, Item] = {}
        self.curious_wanted = False
        self.unstated = Unstated(self)
        self._again = 0
        self.apart = False
        self._ended_in_a_row = 0
        self._start = Start(None, None, 0.0)
        self._starts = 0
        self._halting = False
        self._hook: Hook | None = None

    # -- a place -----------------------------------------------------------------------

    def start(self, start: Start) -> None:
        self.stage, self._start = "waiting", start
        self._starts += 1
        self.world.after(start.delay_s, self._take_place, self._starts)

    def _take_place(self, starts: int) -> None:
        if self.stage == "waiting" and starts == self._starts:
            self.pool.seat_waits(self)

    def sit(self, process: Process) -> None:
        self.stage = "initializing"
        self.lanes = Lanes(self, self._start, process)
        process.stays.append(self.lanes)
        self.world.after(self.world.latency(), self._initialize, self.lanes)

    def _initialize(self, lanes: Lanes) -> None:
        if self.lanes is not lanes or not lanes.process.able:
            return
        match self.world.initialize():
            case "":
                lanes.say("ready")
                if self.world.broken:
                    lanes.process.kill("signal")
            case "crash":
                lanes.process.kill("exit")
            case how:
                lanes.say(how)

    @property
    def place_apart(self) -> int:
        return 1 + self.stream.number if self.world.spec.shared else -1

    def _left(self) -> None:
        if self.lanes is not None:
            self.lanes.gone = True
            self.lanes.process.stays.remove(self.lanes)
            if self.lanes.process.place == self.place_apart:
                self.lanes.process.kill("by_us")
        self.lanes, self.stage = None, "out"

    # -- spans -------------------------------------------------------------------------

    def arrived(self, span: int, slot: object, length: int, dialect: Dialect, after: Position | None) -> None:
        assert isinstance(slot, Slot)
        items: list[Item] = []
        before = None
        for nth, track in enumerate(slot.tracks[:length]):
            at = At(span, nth)
            item = self.items[at] = Item(at, track, before, self.world.lane(track, at))
            before = track
            items.append(item)
        self.spans[span] = Span(span, slot, items)

    def arrives_again(self, slot: Slot) -> int:
        """Records that ran before, in a span of their own before all others; returns its number."""
        self._again -= 1
        self.arrived(self._again, slot, len(slot.tracks), Dialect.DAEMON, None)
        self.spans[self._again].counted = True
        return self._again

    def resumes_after(self, position: Position) -> None: ...

    def give(self, give: Give) -> None:
        span = self.spans[give.span]
        if self.lanes is None:
            return
        span.given = True
        for item in span.items:
            item.was_done = item.mark == DONE
        for nth in (*give.hold, *give.queued):
            item = span.items[nth]
            if item.settled:
                self.world.oracle.fail(f"{item.track.name} is settled, and given again")
            item.known, item.in_hand = True, nth in give.hold
        self.lanes.put(give)

    def _put(self, message: object) -> None:
        if self.lanes is not None:
            self.lanes.put(message)

    def limit(self, starts: int | None) -> None:
        self._put(Limit(starts))

    def retry(self, at: At, number: int) -> None:
        self.items[at].in_hand = False
        self._put(Retry(at))

    def settle(self, at: At) -> None:
        self.items[at].settled = True
        self._put(Settle(at))

    def run_alone(self, at: At, number: int, *, fresh: bool) -> None:
        self.pool.cells.wanted(self, self.items[at], fresh=fresh)

    def curious(self, wanted: bool) -> None:
        self.curious_wanted = wanted
        self._put(wanted)

    def record(self, at: At) -> Record:
        track = self.items[at].track
        return Record(b"", track.rec.key, str(track.position), shard_id=self.stream.shard_id)

    def forget(self, at: At) -> None:
        self.items[at].settled = True

    def marked_done(self) -> int:
        return sum(
            item.mark == DONE and not item.known
            for span in self.spans.values()
            if span.given and span.counted and not span.reported
            for item in span.items
        )

    def first_open(self, span: int) -> int | None:
        known = self.spans.get(span)
        if known is None or not (known.given and known.counted) or known.reported:
            return None
        return next((item.at.nth for item in known.items if not _through(item)), None)

    def peek(self, at: At) -> Record | None:
        return self.record(at) if at in self.items else None

    def arrival(self) -> float | None:
        return None

    # -- what the worker says ----------------------------------------------------------

    def heard(self, event: Any, like: str) -> None:
        match event:
            case SpanDone():
                span = self.spans[event.span]
                span.reported = True
                self.pool.give_back(span.slot)
                for named in event.held:
                    self.items[named.at].known = True
                self.unstated.settled(item for item in span.items if not (item.known or item.was_done))
                self.listener.happened(event)
            case SpanCounted(number) if self.spans[number].reported:
                pass  # by the process before
            case Done(at):
                self.items[at].settled = True
                self.unstated.settled((self.items[at],))
                self.listener.happened(event)
            case Stated():
                self.unstated.stated(event)
                self.listener.happened(event)
            case Failed(record):
                item = self.items[record.at]
                item.known = item.in_hand = True
                tried = attempt(OUTCOMES[event.cause], like) if event.cause in OUTCOMES else None
                self.listener.happened(event, tried)
            case "ready":
                self.stage, self._ended_in_a_row = "in", 0
                self._initialized()
                self.listener.initialized()
            case "unready":
                self._left()
                self.listener.initialize_failed(attempt("exception", "OSError"))
            case "ended" | "raised":
                self._end_over(attempt("exception", "OSError") if event == "raised" else None)
            case Intends() | Over() | Heeds():
                self._asked(event)
            case _:
                self.listener.happened(event)

    # -- deaths ------------------------------------------------------------------------

    def lost(self) -> tuple[list[Item], list[tuple[At, bool]]]:
        """Read what the dead process has marked: who ran, and who of the known was done, unheard."""
        running: list[Item] = []
        done: list[tuple[At, bool]] = []
        in_bulk: list[Item] = []
        for span in list(self.spans.values()) if self.stage in ("in", "ending") else ():
            if not span.given:
                continue
            if span.counted and not span.reported:
                self.listener.happened(SpanCounted(span.number, len(span.items)))
            for item in span.items:
                if item.in_hand or item.settled or (span.reported and not item.known):
                    continue
                if item.mark == RUNNING:
                    running.append(item)
                elif item.known and item.mark in SETTLED:
                    item.settled = True
                    self.unstated.settled((item,))
                    done.append((item.at, item.mark == FILTERED))
            for item in span.items:
                if item.mark not in SETTLED:
                    item.mark = OPEN
            span.given = False
            if not span.reported:
                in_bulk += [item for item in span.items if not (item.known or item.was_done)]
        self.unstated.lost(in_bulk)
        for item in running:
            item.known = True
        return running, done

    def bereaved(
        self, process: Process, running: list[Item], done: list[tuple[At, bool]], death: int, total: int
    ) -> None:
        stage, by_us, lanes = self.stage, process.doomed in BY_US, self.lanes
        self._left()
        self._lost_its_worker()
        if stage == "initializing":
            self._ended_in_a_row += not by_us
            self.apart |= self._ended_in_a_row >= _CHANCE_MAX
            self.listener.initialize_failed(attempt("crash", "SIGKILL"))
            return
        self.apart = False
        if stage == "ending":
            self._end_over(attempt("crash", "SIGKILL"))
            return
        late = process.overran
        past = {run.item for run in late} if late is not None else set()
        for item in running if not by_us else ():
            tried = attempt("deadline") if item in past else attempt("crash", "SIGSEGV" if late is None else "")
            self.listener.died(item.at, tried)
        overran = () if self.world.spec.batch_max > 1 else tuple(sorted(item.at for item in running if item in past))
        named = tuple(item.named for item in running)
        stepping = process.stepping
        stood = () if stepping is None else tuple(item.at for item in running if item is not stepping.item)
        if lanes is not None and lanes.stating is not None:
            lanes.stating.missed()
        kept, again = self.unstated.runs_again()
        died = WorkerDied(death, named, tuple(done), overran, total, by_us, kept, again, stood, process.held)
        for item in running if not by_us else ():
            item.in_hand = item.in_hand or bool(overran) or item.at not in stood
        self.listener.happened(died)
        if self._halting:
            self.listener.happened(self._halted())

    # -- leaving -----------------------------------------------------------------------

    def end(self, hook: Hook) -> None:
        self._hook = hook
        if self.lanes is None or self.stage != "in":
            self._end_over(None)
        else:
            self.stage = "ending"
            self.lanes.put(hook)

    def _end_over(self, failed: Attempt | None) -> None:
        hook, self._hook = self._hook, None
        self.pool.cells.abandon(self)
        self._left()
        self._forget_all()
        if hook is not None:
            if failed is not None:
                self.listener.hook_failed(hook, failed)
            self.listener.ended()

    @property
    def _able(self) -> bool:
        return any(span.able for span in self.spans.values())

    def halt(self) -> None:
        self.pool.cells.abandon(self)
        self._starts += 1
        lanes = self.lanes
        if lanes is not None and self.stage == "in" and self._able:
            self._halting = True  # its last words and its marks are read once it is dead
            lanes.process.kill("by_us")
            return
        if self.stage in ("waiting", "initializing"):
            self._left()
            if lanes is not None:
                lanes.process.kill("by_us")
        self.listener.happened(self._halted())

    def _halted(self) -> Halted:
        """How far all is settled in spans not reported, now that nothing runs any more."""
        over: list[SpanDone] = []
        for _, span in sorted(self.spans.items()):
            if span.reported:
                continue
            first = next((item for item in span.items if not _through(item)), None)
            if first is not None:
                return Halted(tuple(over), self._known(first) if first.at.nth else None)
            filtered = sum(item.mark == FILTERED and not item.known for item in span.items)
            last = Position(span.items[-1].track.position) if span.items else None
            over.append(SpanDone(span.number, len(span.items), last, filtered))
        return Halted(tuple(over))

    @staticmethod
    def _known(item: Item) -> Named:
        item.known = True
        return item.named

    def abandon(self) -> None:
        self.pool.cells.abandon(self)
        self._starts += 1
        lanes = self.lanes
        busy = lanes is not None and (self.stage in ("initializing", "ending") or self._able)
        self._left()
        self._forget_all()
        if lanes is not None and busy:
            lanes.process.kill("by_us")

    def _forget_all(self) -> None:
        self.unstated.clear()
        for span in self.spans.values():
            if not span.reported:
                self.pool.give_back(span.slot)
        self.spans.clear()


def _through(item: Item) -> bool:
    return item.settled or item.in_hand or item.mark in SETTLED
