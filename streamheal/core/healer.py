"""Decide what happens to the records of one shard.

The worker's lane is the only place where the records of a key are put in order. The core
never queues records and never learns the keys of clean ones: a record that fails blocks its
lane in the worker before anybody hears of it, and the core only ever says of the head of a
lane "again" (`Retry`) or "go on" (`Settle`). Nothing can overtake.

    engine ── SpanArrived ──► ledger.py   what is open, and how far it is safe to checkpoint
    worker ── Failed ───────► case.py     records in trouble, and what each waits for
           ── Witnessed ────► blame.py    who is to blame: the record, or the world
                              patience.py nobody is left to ask
                              outage.py   different records fail, and none succeeds: pause
           ── WorkerDied ───► deaths.py   who runs alone from then on
                              host.py     what one shard cannot know
    engine ◄─ Checkpoint ─── progress.py  the next batch, the watermark, the end

`on_poison = "park"` (a third word about the head of a lane: "aside from here") will be a file
of its own beside these; a key that is set aside goes through it instead of `Settle`.
"""

from __future__ import annotations

from streamheal.core.blame import Bracket, Chain, bracket, left_over
from streamheal.core.case import AT_IT, AWAITING, IN_WORKER, Case, Caseload, Phase
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
    Limit,
    Order,
    Quarantine,
    Retry,
    RunAlone,
    Settle,
    Signal,
    SpanArrived,
    SpanCounted,
    SpanDone,
    Start,
    Stored,
    StoreFailed,
    Verdict,
    Witnessed,
    WorkerDied,
)
from streamheal.core.outage import Outage
from streamheal.core.patience import Patience
from streamheal.core.policy import Policy
from streamheal.core.progress import Progress

_NEVER = float("inf")

# In cautious mode few records are suspect in the next death of the host.
_CAUTIOUS_SPAN_RECORDS_MAX = 10

# That another shard gives back a cell is no event of ours: look again, after so long at
# least, and after a tenth of the time waited so far (a cell may hang until its deadline).
_CELL_LOOK_S = 0.1


class Healer:
    """One shard's core: events and the time go in, decisions come out.

    Attributes:
        ledger: What was read, and what became of it.
        doubt: The last verdict was NOBODY_ELSE, and nothing has succeeded since. Must outlive
            the host: the next life would convict another in the same outage.
        span_records_max: Batches should hold no more records than this; None: as they come.
        over: Nothing will be decided any more.
    """

    def __init__(self, shard_id: str, policy: Policy, host: Host, *, starts: int = 1, doubt: bool = False) -> None:
        """`starts`: how often a host has begun from this shard's checkpoint, this time included."""
        self.shard_id = shard_id
        self.ledger = Ledger()
        self.doubt = doubt
        self.over = False
        self.span_records_max = None if starts < 2 else _CAUTIOUS_SPAN_RECORDS_MAX
        self._policy = policy
        self._host = host
        self._cases = Caseload()
        self._chain = Chain(policy.bracket_s)
        self._outage = Outage(policy)
        self._patience = Patience(shard_id, policy, host, self._chain)
        self._progress = Progress(policy, self.ledger)
        self._asks: dict[int, tuple[int, ...]] = {}
        self._doubted_at = float("-inf")
        self._stopped = False
        self._cell_look_at = _NEVER
        self._in_line_since: float | None = None
        self._said: list[Decision] = []
        self._jitter = 0.5

    def begin(self) -> list[Decision]:
        return [Start(None, None, 0.0)]

    # -- what the runtime may ask --------------------------------------------------------

    @property
    def curious(self) -> bool:
        """Whether `Witnessed` is of any use: only in trouble."""
        return bool(self._cases.undecided) or self.doubt

    @property
    def paused(self) -> bool:
        """Different records fail and none succeeds: lanes start nothing but probes."""
        return self._outage.paused

    @property
    def needs_human(self) -> bool:
        """A human was called, and what for is still so."""
        return self._stopped or (self._patience.called and bool(self._cases.undecided) and not self.over)

    @property
    def undecided(self) -> tuple[At, ...]:
        """Open records that failed or are suspect, and are not yet judged."""
        return tuple(sorted(self._cases.undecided))

    @property
    def wakes_at(self) -> float | None:
        """When to send `TICKED`; None: only an event can change anything."""
        if self.over:
            return None
        first = self._progress.wakes_at()
        if self._cases.by_at:
            first = min(first, self._cases.next_store_at(), self._heals_at())
        return first if first < _NEVER else None

    def _heals_at(self) -> float:
        first = min(self._patience.looks_at, self._human_at(), self._cell_look_at)
        if self.paused and not self._patience.over:
            return min(first, self._outage.probe_at)
        return min(first, self._cases.next_try_at(), self._outage.begins_at(self.doubt))

    # -- events --------------------------------------------------------------------------

    def handle(self, event: Event, now: float, jitter: float = 0.5) -> list[Decision]:
        """Take in one event; return what to do, in order. `now` never goes backwards.

        `jitter` is a number in 0..1, thrown anew for each event: the core has no dice.
        """
        if self.over:
            return []
        said = self._said = []
        self._jitter = jitter
        match event:
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
                self._witnessed(since, until)
            case WorkerDied():
                self._worker_died(event, now)
            case Stored(at):
                self._settle_quarantined(at)
            case StoreFailed(at):
                self._store_failed(at, now)
            case Checkpointed(position):
                self._progress.checkpointed(position)
            case Signal.LEASE_LOST:
                said.append(Order.ABANDON)
                self._end()
                return said
            case Signal.SHUTDOWN_REQUESTED:
                self._progress.shutdown_requested(now)
            case Signal.SHARD_ENDED:
                self._progress.shard_ended()
            case Signal.TICKED:
                pass
        if self._cases.by_at or isinstance(event, WorkerDied | Done):
            self._heal(now)
        if not self.over:
            self._tell_engine(now)
        return said

    def _span_arrived(self, event: SpanArrived, now: float) -> None:
        self._progress.arrived()
        if self.paused and not self.ledger.unreported:
            self._outage.somebody_came(now)
        self.ledger.open(event.span, event.size)
        if event.suspects:
            self._asks[event.span] = event.suspects
        self._said.append(Give(event.span, ask=event.suspects))

    def _span_done(self, event: SpanDone, now: float) -> None:
        self.ledger.count(event.span, event.records)
        for record in event.held:
            self.ledger.add(Case(record, Phase.QUEUED))
        if self.ledger.report(event.span, event.records, event.last, event.filtered):
            self._host.succeeded(now)
        self._asks.pop(event.span, None)
        self._progress.settled()

    def _done(self, event: Done, now: float) -> None:
        case = self.ledger.case(event.at)
        assert case is not None, f"{event.at} is done, but was settled before"
        assert (case.phase is Phase.ALONE) if event.alone else (case.phase in IN_WORKER), f"{event}: {case.phase}"
        known_since = case.tried_at if case.phase is not Phase.QUEUED else None
        if event.alone:
            self._cell_ended(case, culprit=False, now=now)
            self._said.append(Settle(case.at))
        self._close(case)
        if event.filtered:
            self.ledger.settle_filtered(case)
        else:
            self.ledger.settle_done(case)
            if known_since is not None:
                self._witnessed(known_since, now)

    def _failed(self, event: Failed, now: float) -> None:
        policy, cause = self._policy, event.cause
        case = self.ledger.case(event.record.at) or self.ledger.add(Case(event.record, Phase.QUEUED))
        if event.alone:
            self._cell_ended(case, culprit=cause in (Cause.CRASHED, Cause.OVERRAN), now=now)
        if cause is Cause.POISON:
            self._set_aside(case, Verdict.SAID_SO)
            return
        self._troubled(case, now)
        if cause is Cause.SUSPECTED:
            case.lonely = True
            self._cases.move(case, Phase.FOR_CELL)
            return
        case.failed((cause, event.likeness), event.began, event.ended)
        self._fails(case, now)
        if cause is Cause.THROTTLED:
            wait_s = max(event.retry_after_s, policy.retry_s(case.throttles, self._jitter))
            self._cases.move(case, Phase.WAITING, now + wait_s)
            return
        if cause is not Cause.RAISED:
            case.lonely = True
            case.crashes_alone += cause is Cause.CRASHED
        self._count_tries(case, cause, event.alone, now)

    def _count_tries(self, case: Case, cause: Cause, alone: bool, now: float) -> None:
        """Whether the case has had its tries; if so, ask the witnesses."""
        policy = self._policy
        if cause is Cause.RAISED:
            enough = (alone or policy.replaying) and case.attempts >= policy.attempts_max
        else:
            enough = cause is Cause.OVERRAN or case.crashes_alone >= policy.crashes_alone_min
        if policy.replaying and enough:
            self._set_aside(case, Verdict.STAYS)
        elif policy.replaying or (cause is Cause.RAISED and case.attempts < policy.attempts_max - 1):
            self._cases.move(case, Phase.WAITING, now + policy.retry_s(case.attempts, self._jitter))
        else:
            case.asked += 1
            self._cases.move(
                case, Phase.TRIED if enough else Phase.SUSPECT, now + policy.pause_s(case.asked, self._jitter)
            )
            self._ask(case)

    def _worker_died(self, died: WorkerDied, now: float) -> None:
        done, suspects, bygone = inquire(died, self.ledger)
        for case, filtered in done:
            self._close(case)
            (self.ledger.settle_filtered if filtered else self.ledger.settle_done)(case)
        overran = set(died.overran)
        for case in suspects:
            self._troubled(case, now)
            case.lonely = True
            case.failed_at = now
            self._cases.move(case, Phase.FOR_CELL)
            if case.at in overran:
                case.failed((Cause.OVERRAN, ""), case.tried_at, now)
                self._fails(case, now)
                if self._policy.replaying:
                    self._set_aside(case, Verdict.STAYS)
            elif not overran:
                case.death = died.death
        if not overran and not died.by_us:
            self._host.died(died.death, self.shard_id, died.running_total, now)
            for _ in range(bygone):
                self._host.heard(died.death, False, now)
        self._start_again(now)

    def _start_again(self, now: float) -> None:
        policy = self._policy
        for case in list(self._cases.by_at.values()):
            if case.phase is Phase.RETRYING:  # the word did not arrive, or what came of it was not heard
                self._cases.move(case, Phase.WAITING, now)
        deaths = self._host.unexplained(self.shard_id, now - policy.calm_s)
        lanes_max = 1 if deaths >= policy.deaths_one_at_a_time else None
        delay_s = policy.retry_s(deaths, self._jitter) if deaths else 0.0
        self._said.append(Start(lanes_max, 0 if self.paused else None, delay_s))
        self._said += give_again(self.ledger, self._asks)

    def _settle_quarantined(self, at: At) -> None:
        case = self._cases.by_at[at]
        self._close(case)
        self.ledger.settle_quarantined(case)
        self._said.append(Settle(at))

    def _store_failed(self, at: At, now: float) -> None:
        # Passing a record that was never stored is the one loss that cannot be undone, so
        # storing is tried without limit.
        case = self._cases.by_at[at]
        case.store_failures += 1
        self._cases.move(case, Phase.STORE_WAIT, now + self._policy.retry_s(case.store_failures, self._jitter))

    # -- blame ---------------------------------------------------------------------------

    def _witnessed(self, since: float, until: float) -> None:
        """Another record succeeded, wholly inside this time. Judge who failed before it."""
        self._chain.add(since, until)
        self._host.succeeded(until)
        if since >= self._doubted_at:
            self.doubt = False
        self._patience.succeeded(until)
        self._outage.succeeded(until)
        self._failing_less()
        for case in list(self._cases.awaiting.values()):
            self._ask(case)

    def _ask(self, case: Case) -> None:
        """Judge the case by the witnesses there are, if any."""
        found = bracket(case, self._chain)
        if found is Bracket.NONE:
            return
        if case.unweighed and self._weigh(case, found):
            return
        if case.phase in AWAITING:
            case.asked = 0
            self._cases.move(case, Phase.FOR_CELL)

    def _weigh(self, case: Case, found: Bracket) -> bool:
        """What the bracket of its last try adds up to. Whoever is running again is not convicted meanwhile."""
        guilty = found is Bracket.TIGHT
        if not guilty:
            case.unweighed = False
            case.loose += case.preceded
        if case.phase is Phase.ALONE:
            return False
        if guilty:
            self._set_aside(case, Verdict.WITNESSED, self._chain.began)
        elif case.loose >= self._policy.brackets_loose:
            self._set_aside(case, Verdict.THINLY, case.first_failed_at)
        return case.phase is Phase.STORING

    def _judge_left_over(self, now: float) -> None:
        """Patience is over and nobody is left to ask: one more try alone for each, then decide."""
        undecided, over_at = self._cases.undecided_in_order(), self._patience.over_at
        for case in undecided:
            if case.phase in AWAITING and case.began < over_at:
                self._cases.move(case, Phase.FOR_CELL)
        if any(case.phase in AT_IT for case in undecided):
            return
        for case, verdict in left_over(undecided, self._chain, over_at, self.doubt):
            self._set_aside(case, verdict, case.first_failed_at if verdict is Verdict.LEFT_OVER else None)
            if verdict is Verdict.NOBODY_ELSE:
                self.doubt, self._doubted_at = True, now

    def _set_aside(self, case: Case, verdict: Verdict, since: float | None = None) -> None:
        until = self._chain.last_until if since is not None else None
        case.aside = Quarantine(case.at, verdict, since, until)
        self._cases.move(case, Phase.STORING)
        self._said.append(case.aside)
        self._outage.settled(case.at)
        self._failing_less()

    def _failing_less(self) -> None:
        self._host.failing(self.shard_id, len(self._outage))
        if self.paused and not len(self._outage):
            self._outage.lift()
            self._said.append(Limit(None))

    def _fails(self, case: Case, now: float) -> None:
        if not self._policy.replaying:
            self._outage.failed(case.at, case.failed_at, now)
            self._host.failing(self.shard_id, len(self._outage))

    def _troubled(self, case: Case, now: float) -> None:
        if not self._cases.undecided:
            self._patience.began(now)
        if case.at not in self._cases.by_at:
            self._patience.grew(now)

    def _close(self, case: Case) -> None:
        """The record is being settled: nothing waits for it any more."""
        self._cases.close(case)
        self._outage.settled(case.at)
        self._failing_less()
        self._progress.settled()

    def _cell_ended(self, case: Case, *, culprit: bool, now: float) -> None:
        self._host.give_cell_back(self.shard_id)
        if case.death is not None:
            self._host.heard(case.death, culprit, now)
            case.death = None

    # -- what to do next -----------------------------------------------------------------

    def _heal(self, now: float) -> None:
        cases, policy = self._cases, self._policy
        if self._host.unexplained(self.shard_id, now - policy.calm_s) >= policy.deaths_stop:
            self._stop()
            return
        for case in cases.stores_due(now):
            assert case.aside is not None
            cases.move(case, Phase.STORING)
            self._said.append(case.aside)
        if now >= self._outage.begins_at(self.doubt):
            self._outage.pause(now, self._jitter)
            self._said.append(Limit(0))
        if self._patience.look(self._nobody_to_ask, now):
            self._judge_left_over(now)
        self._cell_look_at = _NEVER
        if self.paused and not self._patience.over:
            self._leave_line()
            if now >= self._outage.probe_at:
                self._probe(now)
        else:
            self._go_on(now)
        if now >= self._human_at():
            self._patience.call(now)
            why = "different records fail, and none succeeds" if self.paused else "nobody is left to judge a record by"
            self._said.append(CallHuman(why))

    @property
    def _nobody_to_ask(self) -> bool:
        """All else is settled, or queued behind a record that is ours."""
        cases = self._cases
        return bool(cases.undecided) and not (self.ledger.unreported or cases.retrying or self._policy.replaying)

    def _human_at(self) -> float:
        nobody = self._nobody_to_ask
        return self._patience.calls_at(nobody) if nobody or self.paused else _NEVER

    def _go_on(self, now: float) -> None:
        cases = self._cases
        for case in cases.tries_due(now):
            if case.phase is Phase.WAITING or not self.ledger.unreported:
                self._again(case, now)
            else:  # others are running: they will tell
                cases.move(case, case.phase, now + self._policy.pause_s(1, self._jitter))
        while (first := cases.first_for_cell()) is not None:
            if not self._run_alone(first, now):
                self._wait_for_cell(now)
                return
        self._leave_line()

    def _wait_for_cell(self, now: float) -> None:
        if self._in_line_since is None:
            self._in_line_since = now
        if not self._host.holds_all_cells(self.shard_id):
            self._cell_look_at = now + max(_CELL_LOOK_S, (now - self._in_line_since) / 10)

    def _leave_line(self) -> None:
        self._in_line_since = None
        self._host.wants_no_cell(self.shard_id)

    def _again(self, case: Case, now: float) -> None:
        if case.lonely or self._patience.over or case.phase is not Phase.WAITING:
            self._cases.move(case, Phase.FOR_CELL)
        else:
            case.tried_at = now
            self._cases.move(case, Phase.RETRYING)
            self._said.append(Retry(case.at))

    def _run_alone(self, case: Case, now: float) -> bool:
        if not self._host.take_cell(self.shard_id):
            return False
        self._in_line_since = None
        case.tried_at = now
        case.preceded = self._chain.last_until > float("-inf")
        self._cases.move(case, Phase.ALONE)
        self._said.append(RunAlone(case.at))
        return True

    def _probe(self, now: float) -> None:
        """One fresh record, and the one of ours that has waited longest: a true poison must not eat all probes."""
        self._outage.probed(now, self._jitter)
        self._said.append(Limit(1))
        able = [case for case in self._cases.undecided_in_order() if case.phase not in (Phase.ALONE, Phase.RETRYING)]
        if able:
            case = min(able, key=lambda case: (case.tried_at, case.at))
            if case.phase is not Phase.FOR_CELL:
                self._again(case, now)
            if case.phase is Phase.FOR_CELL:
                self._run_alone(case, now)
                self._leave_line()

    def _stop(self) -> None:
        self._said.append(CallHuman("its worker dies again and again, and no record dies alone"))
        self._said += self._progress.last_checkpoint()
        self._said += [Order.ABANDON, Order.STOP_SHARD]
        self._end()
        self._stopped = True

    def _end(self) -> None:
        self.over = True
        deaths = {case.death for case in self._cases.by_at.values() if case.death is not None}
        self._host.left(self.shard_id, deaths)

    def _tell_engine(self, now: float) -> None:
        self._said += self._progress.answer()
        told = self._progress.advance(now)
        self._said += told
        if told and isinstance(told[-1], Order):
            self._end()
