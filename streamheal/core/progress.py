"""What the engine is told: that the next batch may come, how far all is safe, that it is over."""

from __future__ import annotations

from math import inf

from streamheal.core.balance import weigh
from streamheal.core.ledger import Ledger
from streamheal.core.messages import CallHuman, Checkpoint, Decision, HearOut, Order, Stated
from streamheal.core.policy import Policy
from streamheal.core.statements import Statements
from streamheal.records import Position

_NEVER = inf


class Progress:
    """A shard's side towards its engine, read off its ledger.

    A batch is answered when the window of open records allows, not when its slowest record is
    settled. One checkpoint is under way at a time. A processor that owes a word is heard out
    before the last one. Whatever outlasts `shutdown_s` is halted first, because of a span that is
    not reported only the marks say how far it is done:

        shutdown requested ── shutdown_s ──► HALT ──► Halted ──► Checkpoint ──► SHUTDOWN_COMPLETE

    Attributes:
        halting: The shard is being stopped with records open: nothing may begin any more.
        kept: The checkpoint that the engine has acknowledged last.
        broken: The books did not add up. No checkpoint is made any more.
    """

    def __init__(self, policy: Policy, ledger: Ledger) -> None:
        self._policy = policy
        self._ledger = ledger
        self.statements = Statements()
        self._owed = False  # the engine waits for our answer
        self._moved = False  # something was settled since the last checkpoint
        self._ended = False
        self._hearing = self._heard = False
        self.halting = self._halted = self.broken = False
        self._ends_at = _NEVER
        self._asked: Position | None = None
        self.kept: Position | None = None
        self._asked_at: float | None = None

    def arrived(self) -> None:
        self._owed = True

    def settled(self) -> None:
        self._moved = True

    def stated(self, said: Stated) -> None:
        self.statements.stated(said, self._ledger.watermark())
        self._moved = True

    def heard_out(self) -> None:
        self._hearing, self._heard = False, True

    def checkpointed(self, position: Position | None) -> None:
        self._asked = None
        if position is None:
            self._moved = True
        else:
            self.kept = position

    def shard_ended(self) -> None:
        # Once asked to leave, nothing more is taken: what was brought since lies between us and the end,
        # and is for the next owner, as the end is.
        self._ended = self._ended or self._ends_at == _NEVER

    def shutdown_requested(self, now: float) -> None:
        self._ends_at = min(self._ends_at, now + self._policy.shutdown_s)

    def halted(self) -> None:
        self._halted = True

    @property
    def asked(self) -> Position | None:
        """The checkpoint that the engine has yet to acknowledge."""
        return self._asked

    def wakes_at(self) -> float:
        if self._asked is not None or self.halting:
            return _NEVER  # until it is answered, time changes nothing
        if self._hearing:
            return self._ends_at
        asked_at = self._asked_at if self._moved and self._asked_at is not None else _NEVER
        return min(self._ends_at, asked_at + self._policy.checkpoint_s)

    def answer(self) -> list[Decision]:
        """`ANSWER`, when a batch is owed an answer and there is room for the next."""
        if not self._owed or self._ends_at < _NEVER:
            return []
        ledger, policy = self._ledger, self._policy
        if (
            ledger.in_flight >= policy.open_records_max
            or ledger.size >= policy.open_bytes_max
            or ledger.uncounted > policy.uncounted_max
            or ledger.unreported >= policy.open_spans_max
        ):
            return []
        self._owed = False
        return [Order.ANSWER]

    def advance(self, now: float) -> list[Decision]:
        """A checkpoint when one is due; when all is kept, or time is up, the end."""
        if self._asked_at is None:
            # Not at once: a host that dies again and again soon after its start would make a little progress
            # each time, and its start would never be the second from one checkpoint.
            self._asked_at = now
        if self._asked is not None or self.halting is not self._halted:
            return []
        ledger = self._ledger
        # In a span under way there may be successes not yet told of: nothing in flight is not enough.
        settled = not ledger.in_flight and not ledger.unreported
        finishing = now >= self._ends_at or (settled and (self._ended or self._ends_at < _NEVER))
        if self._hearing and now < self._ends_at:
            return []
        if not finishing and now < self.wakes_at():
            return []
        if self._halted:
            return self._keep(now) or [Order.ABANDON, Order.SHUTDOWN_COMPLETE]
        if finishing and not settled:
            self.halting = True
            return [Order.HALT]
        if finishing and self.statements.owes and not (self._hearing or self._heard):
            self._hearing = True
            return [HearOut(self._ended)]
        if kept := self._keep(now):
            return kept
        if not finishing:
            return []
        if self.safe() != ledger.watermark():
            return self._unstated()
        return [Order.SHARD_COMPLETE if self._ended else Order.SHUTDOWN_COMPLETE]

    def _keep(self, now: float) -> list[Decision]:
        self._moved = False
        self._asked_at = now
        last = self.last_checkpoint()
        if last and isinstance(last[0], Checkpoint):
            self._asked = last[0].position
        return last

    def _unstated(self) -> list[Decision]:
        """All is settled, but not all of it may be passed: such a shard is stopped, and never complete."""
        if self._ends_at < _NEVER:
            return [Order.SHUTDOWN_COMPLETE]
        why = "its worker died with records it had not checkpointed: start again, and they are given again"
        if not self.statements.forgone:
            why = "the processor did not checkpoint its end: its children cannot begin"
        return [CallHuman(f"the shard has ended, but {why}"), Order.STOP_SHARD]

    def safe(self) -> Position | None:
        """The watermark, as far as the processor's own word allows."""
        return self.statements.limited(self._ledger.watermark())

    def last_checkpoint(self) -> list[Decision]:
        """How far it is safe, if the engine does not have that yet. Where the books do not add up: the end."""
        mark = self.safe()
        if self.broken or mark is None or mark == self.kept:
            return []
        broken = weigh(self._ledger, mark)
        if broken is None:
            return [Checkpoint(mark)]
        self.broken = True
        return [broken, CallHuman(f"its books do not add up: {broken.why}"), Order.STOP_SHARD]
