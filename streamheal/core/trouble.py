"""The records in trouble of one shard: whom to ask, whom to blame, whom to try again, and when.

Two things happen here, one after the other: every event is weighed as it comes (`weighing.py`),
and then `heal` does what has become due, as far as cells, a pause or the patience with a quiet
shard allow.
"""

from __future__ import annotations

from math import inf
from operator import attrgetter

from streamheal.core.blame import left_over
from streamheal.core.case import AWAITING, Case, Phase
from streamheal.core.host import Host
from streamheal.core.ledger import Ledger
from streamheal.core.messages import CallHuman, Limit, Retry, RunAlone, Verdict
from streamheal.core.outage import WHY_PAUSED
from streamheal.core.policy import Policy
from streamheal.core.weighing import Weighing
from streamheal.records import Position

_NEVER = inf


class Trouble(Weighing):
    """Judges the records of one shard that failed, or ran where a process died.

    Attributes:
        cautious: Hosts have died here.
    """

    def __init__(self, shard_id: str, policy: Policy, host: Host, ledger: Ledger, doubt: Position | None) -> None:
        super().__init__(shard_id, policy, host, ledger, doubt)
        self.cautious = False
        self._look_at = _NEVER  # for what is no event of ours: a cell is free; processes die no more

    @property
    def paused(self) -> bool:
        return self._outage.paused

    @property
    def human_called(self) -> bool:
        return self._patience.called and bool(self.cases.undecided)

    @property
    def probe_at(self) -> float | None:
        """When the next record is tried, while paused."""
        return self._outage.probe_at if self.paused and not self._patience.over else None

    def wakes_at(self) -> float:
        if not self.cases.by_at:
            return _NEVER
        cases = self.cases
        first = min(cases.next_store_at(), self._patience.looks_at, self._human_at(), self._look_at)
        if self._outage.paused and not self._patience.over:
            return min(first, self._outage.probe_at)
        first = min(first, cases.next_try_at(), self._outage.begins_at(self.doubt is not None))
        return first if self._others_will_tell() else min(first, cases.next_ask_at())

    # -- what to do next -----------------------------------------------------------------

    def heal(self, now: float) -> None:
        cases = self.cases
        while (case := cases.store_due(now)) is not None:
            assert case.aside is not None
            cases.move(case, Phase.STORING)
            self.said.append(case.aside)
        if now >= self._outage.begins_at(self.doubt is not None):
            self._outage.pause(now, self.jitter)
            self.said.append(Limit(0))
        self._look_at = _NEVER
        if self._patience.look(self._nobody_to_ask(), now):
            self._judge_left_over(now)
        if self._outage.paused and not self._patience.over:
            self._line.leave()
            if now >= self._outage.probe_at:
                self._probe(now)
        else:
            self._go_on(now)
        if now >= self._human_at():
            self._patience.call(now)
            why = WHY_PAUSED if self._outage.paused else "nobody is left to judge a record by"
            self.said.append(CallHuman(why))

    def _judge_left_over(self, now: float) -> None:
        """Patience is over and nobody is left to ask: one more try alone for each, then decide."""
        cases, over_at = self.cases, self._patience.over_at
        waiting = [case for case in cases.awaiting.values() if case.phase in AWAITING and not case.spent]
        for case in sorted((case for case in waiting if case.tried_at < over_at), key=attrgetter("at")):
            cases.move(case, Phase.FOR_CELL)
        if cases.at_it:
            return
        undecided = cases.undecided_in_order()
        # Where processes die and nobody ran in them, whatever fails alone may be as healthy as any.
        dying = now < self._host.dying_until
        if dying:
            self._look_at = self._host.dying_until
        doubt = self.doubt is not None or dying
        for case, verdict in left_over(undecided, self._chain, over_at, doubt):
            self._set_aside(case, verdict, case.first_failed_at if verdict is Verdict.LEFT_OVER else None)
            if verdict is Verdict.NOBODY_ELSE:
                self.doubt, self._doubted_at = case.position, now

    def _nobody_to_ask(self) -> bool:
        """All else is settled, queued behind a record that is ours, or of no use as a witness."""
        cases = self.cases
        if not cases.undecided or cases.retrying or self._policy.replaying:
            return False
        if not self._ledger.unreported:
            return True
        if self._outage.paused:
            return False  # the pause itself keeps the others from running: a probe will ask them
        # On a stream whose other records are all filtered there is always a span under way,
        # and never a witness: one that was asked and has said nothing is enough.
        first = self._ledger.first_unreported()
        return first is None or first > self._asked_span + 1

    def _human_at(self) -> float:
        if self._patience.called:
            return _NEVER
        nobody = self._nobody_to_ask()
        if not nobody and not self._outage.paused:
            return _NEVER
        at = self._patience.calls_at(nobody)
        # A try that began by then may still decide; how it ends will be an event.
        return _NEVER if any(case.tried_at <= at for case in self._alone) else at

    def _go_on(self, now: float) -> None:
        cases = self.cases
        while (case := cases.try_due(now)) is not None:
            self._again(case, now)
        if not self._others_will_tell():
            while (case := cases.ask_due(now)) is not None:
                cases.move(case, Phase.FOR_CELL)
        while (first := cases.first_for_cell()) is not None:
            if not self._run_alone(first, now):
                self._look_at = min(self._look_at, self._line.looks_at(now))
                return
        self._line.leave()

    def _others_will_tell(self) -> bool:
        """Others are running; or their last tries alone are, and were those tried again meanwhile who had theirs,
        there would be no end to it."""
        if self._ledger.unreported:
            return True
        return self._patience.over and self.cases.at_it > 0

    def _again(self, case: Case, now: float) -> None:
        if case.lonely or self._patience.over or case.phase is not Phase.WAITING:
            self.cases.move(case, Phase.FOR_CELL)
        else:
            case.tried_at = now
            self.cases.move(case, Phase.RETRYING)
            self.said.append(Retry(case.at))

    def _run_alone(self, case: Case, now: float) -> bool:
        fresh = self.cautious or case.needs_fresh
        if not self._line.take(now, fresh=fresh):
            return False
        case.tried_at = now
        case.preceded = self._chain.last_until > -inf
        self._alone.add(case)
        self.cases.move(case, Phase.ALONE)
        self.said.append(RunAlone(case.at, case.solitary, fresh))
        return True

    def _probe(self, now: float) -> None:
        """One fresh record, and the one of ours that has waited longest: a true poison must not eat all probes."""
        self._outage.probed(now, self.jitter)
        self.said.append(Limit(1))
        cases = self.cases.undecided_in_order()
        able = [case for case in cases if case.phase not in (Phase.ALONE, Phase.RETRYING) and not case.spent]
        if able:
            case = min(able, key=lambda case: (case.tried_at, case.at))
            if case.phase is not Phase.FOR_CELL:
                self._again(case, now)
            if case.phase is Phase.FOR_CELL:
                self._run_alone(case, now)
                self._line.leave()
