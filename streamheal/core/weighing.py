"""What each event says of the records in trouble of one shard: who is tried again, asked about, set aside.

Every event is weighed as it comes, and puts its record into the phase in which it waits for what is next. When
that is due, `trouble.py` does it.
"""

from __future__ import annotations

from math import inf

from streamheal.core.blame import Bracket, Chain, bracket
from streamheal.core.case import AWAITING, IN_WORKER, UNDECIDED, Case, Caseload, Phase
from streamheal.core.host import Host, Line
from streamheal.core.ledger import Ledger
from streamheal.core.messages import Cause, Decision, Failed, Limit, Quarantine, Verdict
from streamheal.core.outage import Outage
from streamheal.core.patience import Patience
from streamheal.core.policy import Policy
from streamheal.records import Position

_NEVER = inf

_BY_THEMSELVES = AWAITING | {Phase.FOR_CELL, Phase.ALONE}


class Weighing:
    """What of `Trouble` is about the past: failures, deaths, witnesses.

    Attributes:
        said: Where decisions go; the healer's, anew for each event.
        jitter: In 0..1, anew for each event.
        doubt: Who was set aside last, if that was with NOBODY_ELSE and nothing has succeeded since.
    """

    def __init__(self, shard_id: str, policy: Policy, host: Host, ledger: Ledger, doubt: Position | None) -> None:
        self._shard_id, self._policy, self._host, self._ledger = shard_id, policy, host, ledger
        self.said: list[Decision] = []
        self.jitter = 0.5
        self.doubt = doubt
        self._doubted_at = -inf
        self.cases = Caseload()
        self._chain = Chain(policy.bracket_s)
        self._outage = Outage(policy)
        self._patience = Patience(shard_id, policy, host, self._chain)
        self._asked_span = ledger.newest  # the newest one when something last succeeded or got into trouble
        self._alone: set[Case] = set()  # their last tries are under way
        self._line = Line(shard_id, host)

    # -- what happened to a record -------------------------------------------------------

    def somebody_came(self, now: float) -> None:
        """A span arrives. If there was no fresh record to probe with, there is one now."""
        if not self._ledger.unreported:
            self._outage.somebody_came(now)

    def failed(self, case: Case, event: Failed, now: float, hosts_killed: int | None = None) -> None:
        """`hosts_killed`: see `_weigh_failure`."""
        self._weigh_failure(case, event, now, hosts_killed)
        if case.overtakes and case.phase in UNDECIDED:
            self.cases.move(case, Phase.QUEUED)

    def _weigh_failure(self, case: Case, event: Failed, now: float, hosts_killed: int | None) -> None:
        """`hosts_killed`: of one that is SUSPECTED, how many hosts have died while it ran in them alone; None:
        it is no host's death that it is suspected of."""
        cause = event.cause
        if event.alone:
            # What others left in a used cell may have done this, so that it explains no death; and who is to try
            # again later has not shown yet what it does alone. Poison is final.
            tells = cause is Cause.POISON or not (event.used or cause is Cause.THROTTLED)
            culprit = cause in (Cause.CRASHED, Cause.OVERRAN) if tells else None
            self.cell_ended(case, culprit=culprit, well=False, now=now)
        if cause is Cause.POISON:
            self._set_aside(case, Verdict.SAID_SO)
            return
        self._troubled(case, now)
        if cause is Cause.SUSPECTED:
            case.overtakes = False
            if case.phase not in IN_WORKER:
                return  # it was on its way already when its lane came to it
            if hosts_killed is None:
                case.lonely = True
                self.cases.move(case, Phase.FOR_CELL)
            else:
                self._killed_hosts(case, event, hosts_killed, now)
            return
        own = not event.used or cause is Cause.RAISED
        case.failed((cause, event.likeness), event.began, event.ended, own=own)
        self._fails(case, now)
        if cause is Cause.THROTTLED:
            wait_s = max(event.retry_after_s, self._policy.retry_s(case.throttles, self.jitter))
            self.cases.move(case, Phase.WAITING, now + wait_s)
            return
        if cause is not Cause.RAISED:
            case.lonely = True
            case.crashes_alone += cause is Cause.CRASHED
        if cause is Cause.OVERRAN and (event.used or not (event.alone or self._policy.replaying)):
            # Its neighbours, or those before it, may have held the process: only what hangs alone hangs by itself.
            self.cases.move(case, Phase.FOR_CELL)
            return
        self._count_tries(case, cause, event.alone and not event.used, now)

    def _killed_hosts(self, case: Case, event: Failed, hosts: int, now: float) -> None:
        """It ran when a host died. A host's death is dearer than any evidence that one more would be."""
        case.lonely = case.solitary = True
        if hosts:
            case.failed((Cause.CRASHED, event.likeness), event.began, event.ended, own=True)
            case.crashes_alone = hosts
        if hosts < self._policy.crashes_alone_min:
            self.cases.move(case, Phase.FOR_CELL)
            return
        case.spent = True
        self._fails(case, now)
        self.cases.move(case, Phase.TRIED, _NEVER)
        self._ask(case)

    def _count_tries(self, case: Case, cause: Cause, fresh: bool, now: float) -> None:
        """Whether the case has had its tries, the last in a fresh process; if so, ask the witnesses."""
        policy = self._policy
        if cause is Cause.RAISED:
            enough = (fresh or policy.replaying) and case.attempts >= policy.attempts_max
        else:
            enough = cause is Cause.OVERRAN or (fresh and case.crashes_alone >= policy.crashes_alone_min)
        if policy.replaying and enough:
            self._set_aside(case, Verdict.STAYS)
        elif policy.replaying or (cause is Cause.RAISED and case.attempts < policy.attempts_max - 1):
            self.cases.move(case, Phase.WAITING, now + policy.retry_s(case.attempts, self.jitter))
        else:
            case.asked += 1
            self.cases.move(
                case, Phase.TRIED if enough else Phase.SUSPECT, now + policy.pause_s(case.asked, self.jitter)
            )
            self._ask(case)

    def died_around(self, case: Case, death: int | None, overran: bool, now: float, *, own: bool) -> None:
        """The record ran in a process that died (`death`), or was stopped because of this record or another.

        `own`: if it was late, nobody else can have held it.
        """
        self._troubled(case, now)
        case.lonely, case.death, case.failed_at = True, death, now
        self.cases.move(case, Phase.FOR_CELL)
        if overran:
            case.failed((Cause.OVERRAN, ""), case.tried_at, now, own=own)
            self._fails(case, now)
            if self._policy.replaying:
                self._set_aside(case, Verdict.STAYS)

    def back_in_line(self) -> list[Case]:
        """Records before ours run again in the next worker. Returns who is not to run when its lane comes to it,
        but alone from then on; all others run there."""
        ours = [case for case in self.cases.undecided.values() if not case.spent]
        alone = [case for case in ours if case.lonely or case.phase in _BY_THEMSELVES]
        for case in ours:
            if case.phase is Phase.ALONE:
                case.overtakes = True
            else:
                self.cases.move(case, Phase.QUEUED)
        return alone

    def worker_lost(self, now: float) -> None:
        for case in list(self.cases.by_at.values()):
            if case.phase is Phase.RETRYING:  # the word did not arrive, or what came of it was not heard
                self.cases.move(case, Phase.WAITING, now)

    def cell_ended(self, case: Case, *, culprit: bool | None, well: bool, now: float) -> None:
        """`culprit`: of the death it is suspected of; None: this run cannot tell."""
        self._alone.discard(case)
        self._line.give_back(now if well else None)
        if case.death is not None and culprit is not None:
            self._host.heard(case.death, culprit, now)
            case.death = None

    def close(self, case: Case) -> None:
        """The record is being settled: nothing waits for it any more."""
        self.cases.close(case)
        self._outage.settled(case.at)
        self._failing_less()

    def store_failed(self, case: Case, now: float) -> None:
        # Passing a record that was never stored is the one loss that cannot be undone, so
        # storing is tried without limit.
        case.store_failures += 1
        self.cases.move(case, Phase.STORE_WAIT, now + self._policy.retry_s(case.store_failures, self.jitter))

    # -- blame ---------------------------------------------------------------------------

    def witnessed(self, since: float, until: float) -> None:
        """Another record succeeded, wholly inside this time. Judge who failed before it."""
        self._chain.add(since, until)
        self._asked_span = self._ledger.newest
        self._host.succeeded(until)
        if since >= self._doubted_at:
            self.doubt = None
        self._patience.succeeded(until)
        self._outage.succeeded(until)
        self._failing_less()
        for case in list(self.cases.awaiting.values()):
            self._ask(case)

    def _ask(self, case: Case) -> None:
        """Judge the case by the witnesses there are, if any."""
        if case.spent:
            # The failure was the host's own death, which no outage brings about: to have come past the
            # spot without it is enough.
            if case.phase is Phase.TRIED and self._chain.last_until > -inf:
                self._set_aside(case, Verdict.KILLED_HOSTS, self._chain.began)
            return
        if case.phase is Phase.TRIED and case.loose >= self._policy.brackets_loose:
            # It was running alone when its last bracket was closed, and has failed once more.
            self._set_aside(case, Verdict.THINLY, case.first_failed_at)
            return
        found = bracket(case, self._chain)
        if found is Bracket.NONE:
            return
        if case.unweighed:
            self._weigh(case, found)
        if case.phase in AWAITING:
            case.asked = 0
            self.cases.move(case, Phase.FOR_CELL)

    def _weigh(self, case: Case, found: Bracket) -> None:
        """What the bracket of its last try adds up to. Whoever is running again is not convicted meanwhile."""
        guilty = found is Bracket.TIGHT
        if not guilty:
            case.unweighed = False
            case.loose += case.preceded
        if case.phase is Phase.ALONE:
            case.preceded = False  # its present try began in the gap that is counted now
            return
        if guilty:
            self._set_aside(case, Verdict.WITNESSED, self._chain.began)
        elif case.loose >= self._policy.brackets_loose:
            self._set_aside(case, Verdict.THINLY, case.first_failed_at)

    def _set_aside(self, case: Case, verdict: Verdict, since: float | None = None) -> None:
        until = self._chain.last_until if since is not None else None
        case.aside = Quarantine(case.at, verdict, since, until)
        self.cases.move(case, Phase.STORING)
        self.said.append(case.aside)
        self._outage.settled(case.at)
        self._failing_less()

    def _failing_less(self) -> None:
        self._host.failing(self._shard_id, len(self._outage))
        if self._outage.paused and not len(self._outage):
            self._outage.lift()
            self.said.append(Limit(None))

    def _fails(self, case: Case, now: float) -> None:
        if not self._policy.replaying:
            self._outage.failed(case.at, case.failed_at, now)
            self._host.failing(self._shard_id, len(self._outage))

    def _troubled(self, case: Case, now: float) -> None:
        if not self.cases.undecided:
            self._patience.began(now)
        if case.position == self.doubt:
            self.doubt = None  # it was not passed: its host has died, and it is judged anew
        if case.at not in self.cases.by_at:
            self._patience.grew(now)
            self._asked_span = self._ledger.newest
