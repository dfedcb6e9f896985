"""Decide what happens to the records of one shard.

The worker's lane is the only place where the records of a key are put in order. The core
never queues records and never learns the keys of clean ones: a record that fails blocks its
lane in the worker before anybody hears of it, and the core only ever says of the head of a
lane "again" (`Retry`) or "go on" (`Settle`). Nothing can overtake.

    engine ── SpanArrived ──► ledger.py    what is open, and how far it is safe to checkpoint
           ◄─ Checkpoint ──── progress.py  the next batch, the watermark, the end
                                balance.py   whether the books add up: else no checkpoint
    worker ── Stated ───────►   statements.py  how far the processor says that it is done
    worker ── WorkerDied ───► deaths.py    who runs alone from then on
    state  ── what hosts that died had marked ──► caution.py   whether to be cautious, and how long
           ── Failed ───────► weighing.py  what that says of the records in trouble
           ── Witnessed ────►   case.py      one of them
                                blame.py     who is to blame: the record, or the world
                                outage.py    different records fail, and none succeeds: pause
                                patience.py  nobody is left to ask
    time ───────────────────► trouble.py   what has become due: whom to try again, alone, at last to judge
    other shards ───────────► host.py      what one shard cannot know

`on_poison = "park"`, a third word about the head of a lane ("aside from here"), will be a file beside these.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from math import inf

from streamheal.core.case import IN_WORKER, Case, Phase
from streamheal.core.caution import Spot
from streamheal.core.deaths import give_again, inquire
from streamheal.core.host import Host
from streamheal.core.ledger import Ledger
from streamheal.core.messages import (
    At,
    CallHuman,
    Cause,
    Checkpointed,
    Decision,
    Done,
    Event,
    Failed,
    Give,
    Halted,
    Limit,
    Order,
    Settle,
    Signal,
    SpanArrived,
    SpanCounted,
    SpanDone,
    Start,
    Stated,
    Stored,
    StoreFailed,
    Witnessed,
    WorkerDied,
)
from streamheal.core.policy import Policy
from streamheal.core.progress import Progress
from streamheal.core.statements import Statements
from streamheal.core.trouble import Trouble
from streamheal.core.waiting import Wait, Waits, waits
from streamheal.records import Position

_NEVER = inf


class Healer:
    """One shard's core: events and the time go in, decisions come out.

    Attributes:
        ledger: What was read, and what became of it.
        over: Nothing will be decided any more.
        cautious: Nothing may begin before its position is durable: the next life must know of it.
    """

    def __init__(
        self,
        shard_id: str,
        policy: Policy,
        host: Host,
        *,
        starts: int = 1,
        doubt: Position | None = None,
        marked: Iterable[Position] = (),
        explained: bool = True,
    ) -> None:
        """
        Args:
            starts: How often a host has begun from this shard's checkpoint, this time included.
            marked: Records that ran in hosts that died, and are beyond the checkpoint.
            explained: Some of them ran in the last host that died.
        """
        self.shard_id = shard_id
        self.ledger = Ledger()
        self.over = False
        self._policy, self._host = policy, host
        self._trouble = Trouble(shard_id, policy, host, self.ledger, doubt)
        self._progress = Progress(policy, self.ledger)
        self._spot = Spot(policy, starts, marked, explained)
        self.cautious = not self._spot.past
        # By span: whose turn shall be told, and how many hosts it killed; None: the process of its batch died.
        self._asks: dict[int, dict[int, int | None]] = {}
        self._spared: set[At] = set()
        self._stopped = False
        self._said: list[Decision] = []
        self._wakes_at: float | None = None
        self._told = True  # something was heard since `wakes_at` was worked out

    def begin(self) -> list[Decision]:
        return [Start(None, None, 0.0)]

    def seated(self, now: float) -> list[Decision]:
        """The place asked for by `Start` is taken: all that is open, as it stands now.

        What was decided for the worker in between went to nobody, and need not be kept: this says it anew.
        """
        self._told = True
        self._trouble.worker_lost(now)
        return [Limit(0 if self.paused else None), *give_again(self.ledger, self._asks)]

    # -- what the runtime may ask --------------------------------------------------------

    @property
    def curious(self) -> bool:
        """Whether `Witnessed` is of any use: only in trouble."""
        return bool(self._trouble.cases.undecided) or self._trouble.doubt is not None

    @property
    def doubt(self) -> Position | None:
        """Who was set aside last, if that was with NOBODY_ELSE and nothing has succeeded since.

        Must outlive the host: the next life would convict another in the same outage.
        """
        return self._trouble.doubt

    @property
    def paused(self) -> bool:
        """Different records fail and none succeeds: lanes start nothing but probes."""
        return self._trouble.paused

    @property
    def safe(self) -> Position | None:
        """How far the shard may be checkpointed, where its books add up."""
        return self._progress.safe()

    @property
    def statements(self) -> Statements:
        """What the processor owes, where it says itself how far it is done."""
        return self._progress.statements

    @property
    def needs_human(self) -> bool:
        """A human was called, and what for is still so."""
        return self._stopped or (self._trouble.human_called and not self.over)

    @property
    def undecided(self) -> tuple[At, ...]:
        """Open records that failed or are suspect, and are not yet judged."""
        return tuple(sorted(self._trouble.cases.undecided))

    def waits(self, oldest: At | None) -> Wait | None:
        """What the oldest open record waits for. None is open: whether the engine has yet to answer."""
        if oldest is None:
            return None if self.unacknowledged is None else Wait(Waits.ENGINE)
        trouble = self._trouble
        return waits(self.ledger.case(oldest), probe_at=trouble.probe_at, human_called=trouble.human_called)

    @property
    def unacknowledged(self) -> Position | None:
        """The checkpoint that the engine has yet to acknowledge."""
        return self._progress.asked

    @property
    def wakes_at(self) -> float | None:
        """When to send `TICKED`; None: only an event can change anything.

        Asked several times an event, by shards of which most have heard nothing.
        """
        if self._told:
            self._told = False
            first = min(self._progress.wakes_at(), self._trouble.wakes_at())
            over = self.over or self._progress.halting
            self._wakes_at = first if first < _NEVER and not over else None
        return self._wakes_at

    # -- events --------------------------------------------------------------------------

    def handle(self, event: Event, now: float, jitter: float = 0.5) -> list[Decision]:
        """Take in one event; return what to do, in order. `now` never goes backwards.

        `jitter` is a number in 0..1, thrown anew for each event: the core has no dice.
        """
        if self.over:
            return []
        self._told = True
        trouble = self._trouble
        said = self._said = trouble.said = []
        trouble.jitter, trouble.cautious = jitter, self.cautious
        match event:
            case Signal.TICKED:  # of all events the most frequent
                pass
            case SpanArrived():
                self._span_arrived(event, now)
            case SpanCounted(span, records):
                self.ledger.count(span, records)
            case SpanDone():
                self._span_done(event, now)
            case Done():
                self._done(event, now)
            case Failed():
                self._failed(event, now)
            case Witnessed(since, until):
                trouble.witnessed(since, until)
            case WorkerDied():
                self._worker_died(event, now)
            case Stated():
                self._progress.stated(event)
            case Stored(at):
                self._stored(at)
            case StoreFailed(at):
                trouble.store_failed(trouble.cases.by_at[at], now)
            case Checkpointed(position):
                self._progress.checkpointed(position)
            case Halted():
                self._halted(event, now)
            case Signal.LEASE_LOST:
                said.append(Order.ABANDON)
                self._end()
                return said
            case Signal.SHUTDOWN_REQUESTED:
                self._progress.shutdown_requested(now)
            case Signal.SHARD_ENDED:
                self._progress.shard_ended()
            case Signal.HEARD_OUT:
                self._progress.heard_out()
            case Signal.AT_TIP:
                self._look_at_spot(at_tip=True)
        in_trouble = trouble.cases.by_at or isinstance(event, (WorkerDied, Done))
        if in_trouble and not self._progress.halting:
            if self._unexplained_deaths(now) >= self._policy.deaths_stop:
                self._stop()
                return said
            trouble.heal(now)
        self._tell_engine(now)
        self._look_at_spot()
        return said

    def _look_at_spot(self, *, at_tip: bool = False) -> None:
        if not self._spot.past:
            safe = self.safe if at_tip else None
            self._spot.look(self.ledger, safe=safe, kept=self._progress.kept, at_tip=at_tip)
            self.cautious = not (self._spot.past or self.over)

    def _span_arrived(self, event: SpanArrived, now: float) -> None:
        self._trouble.somebody_came(now)
        self._progress.arrived()
        self.ledger.open(event.span, event.size)
        if event.suspects:
            self._asks[event.span] = dict(zip_longest(event.suspects, event.hosts_killed, fillvalue=0))
        if not self._progress.halting:
            self._said.append(Give(event.span, ask=event.suspects))

    def _span_done(self, event: SpanDone, now: float) -> None:
        self.ledger.count(event.span, event.records)
        for record in event.held:
            self.ledger.add(Case(record, Phase.QUEUED))
        self.ledger.unmarked += event.unmarked
        if self.ledger.report(event.span, event.records, event.last, event.filtered):
            self._host.succeeded(now)
        self._progress.settled()

    def _failed(self, event: Failed, now: float) -> None:
        at = event.record.at
        if event.cause is Cause.SUSPECTED and self.ledger.settled(at):
            return  # it was running alone when its lane was asked about it, and is done: the two words crossed
        case = self.ledger.case(at) or self.ledger.add(Case(event.record, Phase.QUEUED))
        self._trouble.failed(case, event, now, self._asks.get(at.span, {}).get(at.nth))

    def _halted(self, halted: Halted, now: float) -> None:
        for span in halted.done:
            self._span_done(span, now)
        if halted.first_open is not None:
            self.ledger.halted(halted.first_open)
        self._progress.halted()

    def _done(self, event: Done, now: float) -> None:
        case = self.ledger.case(event.at)
        assert case is not None, f"{event.at} is done, but was settled before"
        assert (case.phase is Phase.ALONE) if event.alone else (case.phase in IN_WORKER), f"{event}: {case.phase}"
        tried = case.phase is not Phase.QUEUED
        if event.alone:
            self._trouble.cell_ended(case, culprit=False, well=True, now=now)
            self._said.append(Settle(case.at))
        self._settle_well(case, event.filtered)
        if tried and not event.filtered:
            self._trouble.witnessed(case.tried_at, now)

    def _settles(self, case: Case) -> None:
        self._trouble.close(case)
        self._progress.settled()

    def _settle_well(self, case: Case, filtered: bool) -> None:
        self._settles(case)
        if filtered:
            self.ledger.settle_filtered(case)
        else:
            self.ledger.settle_done(case)

    def _stored(self, at: At) -> None:
        case = self._trouble.cases.by_at[at]
        self._settles(case)
        self.ledger.settle_quarantined(case)
        self._said.append(Settle(at))

    # -- deaths --------------------------------------------------------------------------

    def _worker_died(self, died: WorkerDied, now: float) -> None:
        done, suspects, bygone = inquire(died, self.ledger, self._spared)
        for case, filtered in done:
            self._settle_well(case, filtered)
        if died.again is not None:
            self.ledger.open_again(died.again, self.safe)
        runs_again = self.statements.owes
        self.statements.worker_died(kept=died.kept)
        by_itself = not died.overran and not died.by_us
        for case in suspects:
            if self._policy.batches and case.phase is Phase.QUEUED:
                case.death = died.death if by_itself else None
                self._ask_for(case.at)
                continue
            overran = case.at in died.overran
            own = not died.held or died.running_total == 1
            self._trouble.died_around(case, died.death if by_itself else None, overran, now, own=own)
        for case in self._trouble.back_in_line() if runs_again else ():
            self._asks.setdefault(case.at.span, {})[case.at.nth] = None
        if by_itself:
            self._host.died(died.death, self.shard_id, died.running_total, now)
            for _ in range(bygone):
                self._host.heard(died.death, False, now)
        if not self._progress.halting:
            self._start_again(now)

    def _ask_for(self, at: At) -> None:
        """Those before it in its lane may be suspects too, and it must not overtake them."""
        self._asks.setdefault(at.span, {}).setdefault(at.nth, None)

    def _start_again(self, now: float) -> None:
        policy = self._policy
        self._trouble.worker_lost(now)
        deaths = self._unexplained_deaths(now)
        lanes_max = 1 if deaths >= policy.deaths_one_at_a_time else None
        delay_s = policy.retry_s(deaths, self._trouble.jitter) if deaths else 0.0
        self._said.append(Start(lanes_max, 0 if self.paused else None, delay_s))
        self._asks = {span: asked for span, asked in self._asks.items() if span in self.ledger.spans}
        self._said += give_again(self.ledger, self._asks)

    def _unexplained_deaths(self, now: float) -> int:
        return self._host.unexplained(self.shard_id, now - self._policy.calm_s)

    def _stop(self) -> None:
        self._said.append(CallHuman("its worker dies again and again, and no record dies alone"))
        self._said += self._progress.last_checkpoint()
        if not self._progress.broken:
            self._said += [Order.ABANDON, Order.STOP_SHARD]
        self._end()
        self._stopped = True

    # -- the engine ----------------------------------------------------------------------

    def give_up(self) -> list[Decision]:
        """The host goes, and waits no longer: how far all is settled. Nothing is decided any more."""
        if not self.over:
            self._stopped = self.needs_human
            self._end()
        return self._progress.last_checkpoint()

    def break_off(self) -> None:
        """A rule of ours was broken on the way, so that nothing here can be relied on: no checkpoint any more."""
        self._progress.broken = self._stopped = True
        if not self.over:
            self._end()

    def _tell_engine(self, now: float) -> None:
        self._said += self._progress.answer()
        told = self._progress.advance(now)
        self._said += told
        if told and isinstance(told[-1], Order) and told[-1] is not Order.HALT:
            self._stopped = told[-1] is Order.STOP_SHARD
            self._end()

    def _end(self) -> None:
        self.over = self._told = True
        self.cautious = False
        deaths = {case.death for case in self._trouble.cases.by_at.values() if case.death is not None}
        self._host.left(self.shard_id, deaths)
