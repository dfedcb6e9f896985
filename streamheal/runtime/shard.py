"""One shard: its core, its seat among the workers, and the doing of what the core decided.

    engine ── batch ──► ShardRun ── SpanArrived ──► Healer
    seat  ── Failed ──►    │    ◄── decisions ────────┘
                           └──► seat · keeper · engine · log

Nothing is decided here. A branch in this file asks which decision it is, never what to decide.
"""

from __future__ import annotations

from collections import deque

from streamheal.attempts import Attempt, fingerprint
from streamheal.core.healer import Healer
from streamheal.core.messages import (
    At,
    CallHuman,
    Checkpoint,
    Checkpointed,
    Decision,
    Done,
    Event,
    Failed,
    Give,
    HearOut,
    LedgerBroken,
    Limit,
    Order,
    Quarantine,
    Retry,
    RunAlone,
    Settle,
    Signal,
    Start,
    Stored,
    WorkerDied,
)
from streamheal.engines.base import Batch
from streamheal.quarantine.prose import title
from streamheal.records import Position, Record, Shard
from streamheal.runtime import faults, telling
from streamheal.runtime.aside import Aside
from streamheal.runtime.blocked import Blocked
from streamheal.runtime.casebook import Casebook
from streamheal.runtime.caution import CautiousRun, ShardCaution
from streamheal.runtime.faults import for_this_shard
from streamheal.runtime.figures import ShardFigures
from streamheal.runtime.lives import Inherited
from streamheal.runtime.surroundings import Surroundings
from streamheal.runtime.tally import Tally
from streamheal.workers.port import Hook, Timed

# `initialize` failing is the program's or the world's fault, never a record's.
_INITIALIZE_RETRY_S_MIN, _INITIALIZE_RETRY_S_MAX = 0.5, 30.0
_INITIALIZE_FAILURES_HUMAN = 3
_CHECKPOINT_RETRY_S = 1.0


class ShardRun(CautiousRun):
    """Carries out a healer's decisions for one shard, and tells it what became of them."""

    def __init__(self, runtime: Surroundings, shard: Shard, past: Inherited, after: Position | None = None) -> None:
        self.shard = shard
        self._runtime = runtime
        self._log = runtime.chronicle
        self._names = telling.names_of(shard)
        self.healer = Healer(
            shard.shard_id,
            runtime.policy,
            runtime.core_host,
            starts=past.starts,
            doubt=past.doubt,
            marked=[suspect.position for suspect in past.suspects],
            explained=past.explained,
        )
        self.seat = runtime.pool.seat(shard, self)
        if after is not None:
            self.seat.resumes_after(after)
        self.tally = Tally(shard, self.healer, self.seat)
        self.at_tip = False
        self.over = False
        self._casebook = Casebook()
        self._blocked = Blocked(self.healer, self.seat, self._casebook, self._log, self._id_of)
        self._spans = 0
        self._inbox: deque[Event] = deque()
        self._handling = False
        self._ready = self._seated = self._abandoned = self._broken = False
        self.healing_ended: Hook | None = None
        self._start: Start | None = None
        self._initialize_failures = 0
        self._curious = False
        self._aside = Aside(
            runtime, shard, self.healer, casebook=self._casebook, tally=self.tally, doubt=past.doubt, tell=self.tell
        )
        self._changes = telling.Changes()
        self._hook_asked = False
        self._last_failed: Attempt | None = None
        self.caution = ShardCaution(runtime.caution, self, past.suspects)

    # -- the engine's side -------------------------------------------------------------

    @for_this_shard
    def begin(self) -> None:
        self._runtime.caution.joins(self.caution)
        self._carry_out(self.healer.begin())

    @for_this_shard
    def batch_arrived(self, batch: Batch) -> None:
        self._spans += 1
        span = self._spans
        self.tally.arrived(span, self._runtime.clock())
        self.seat.arrived(span, batch.slot, batch.length, batch.dialect, batch.after)
        self.tell(self.caution.arrived(span, batch.length))

    # -- the seat's side (workers.port.Listener) ----------------------------------------

    @for_this_shard
    def initialized(self) -> None:
        self._seated, self._initialize_failures = True, 0
        if self._curious:
            self.seat.curious(True)
        self._carry_out(self.healer.seated(self._runtime.clock()))
        self._take_note()
        if not self._ready:
            self._ready = True
            self._log.info("shard_started", **self._names)
            self._runtime.engine.answer(self.shard.shard_id)

    @for_this_shard
    def initialize_failed(self, attempt: Attempt) -> None:
        if self.over:
            return
        self._initialize_failures += 1
        wait_s = min(_INITIALIZE_RETRY_S_MAX, _INITIALIZE_RETRY_S_MIN * 2.0**self._initialize_failures)
        telling.failed(self._log, "initialize_failed", self._names, attempt, again_in_s=wait_s)
        self._runtime.later(wait_s, self._take_seat)

    @for_this_shard
    def _take_seat(self) -> None:
        if not self.over and self._start is not None:
            self.seat.start(self._start)

    @for_this_shard
    def happened(self, event: Event, attempt: Attempt | None = None, masked: bytes | None = None) -> None:
        self.caution.hears(event)
        if isinstance(event, Failed) and attempt is not None:
            self._casebook.add(event.record.at, attempt, masked)
            self.tally.attempts[attempt.outcome] += 1
            self._last_failed = attempt
            event = event._replace(likeness=fingerprint(attempt))
            telling.attempt_failed(self._log, self._names, event.record, attempt)
        elif isinstance(event, Failed):
            for death in self.caution.attempts(event.record.at):
                self._casebook.add(event.record.at, death)
                event = event._replace(likeness=fingerprint(death))
        elif isinstance(event, WorkerDied):
            self._seated = False
        self.tell(event)

    @for_this_shard
    def died(self, at: At, attempt: Attempt) -> None:
        self._casebook.add(at, attempt)
        self.tally.attempts[attempt.outcome] += 1

    def worker_died(self, cause: str) -> None:
        self._runtime.deaths[cause] += 1

    def timed(self, what: Timed, seconds: float) -> None:
        self._runtime.times.add(what, seconds)

    def hook_failed(self, hook: Hook, attempt: Attempt) -> None:
        telling.failed(self._log, "hook_failed", self._names, attempt, hook=hook)

    @for_this_shard
    def ended(self) -> None:
        if self.healing_ended is None and not self.healer.over:
            self.tell(Signal.HEARD_OUT)
        else:
            self._runtime.shard_over(self)

    # -- the core's side ----------------------------------------------------------------

    @for_this_shard
    def tell(self, event: Event) -> None:
        """Let the core decide, and do it. An event that comes of the doing waits its turn."""
        if self._broken:
            return
        self._inbox.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._inbox:
                event = self._inbox.popleft()
                if decisions := self.healer.handle(event, self._runtime.clock(), self._runtime.dice()):
                    self._carry_out(decisions)
                self._forget_settled(event)
        finally:
            self._handling = False
        self._take_note()

    def _carry_out(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            if self._broken:
                return
            match decision:
                case Start():
                    self._seated, self._start = False, decision
                    self.seat.start(decision)
                case Give() | Limit() | Retry() | Settle():
                    self._say_to_seat(decision)
                case RunAlone(at, solitary, fresh):
                    self.caution.runs_alone(at, solitary)
                    self.seat.run_alone(at, self._casebook.tries(at) + 1, fresh=fresh)
                case Quarantine(at):
                    self._aside.put(self.seat.record(at), decision)
                case Checkpoint(position):
                    self._runtime.spawn(self._checkpoint(position))
                case HearOut(shard_ended):
                    self._hook_asked = True
                    self.seat.end("shard_ended" if shard_ended else "shutdown_requested")
                case LedgerBroken():
                    telling.ledger_broken(self._log, self._names, decision)
                    self._runtime.later(0.0, self._drop)
                case CallHuman(why):
                    self._call_human(why)
                case Order.ANSWER:
                    self._runtime.engine.answer(self.shard.shard_id)
                case Order.HALT:
                    self._start = None  # a place whose `initialize` has failed is not taken again
                    self.tally.done_so_far()  # the last moment at which all marks can be read
                    self.seat.halt()
                case Order.ABANDON:
                    self._abandon()
                case Order.SHARD_COMPLETE:
                    self._end("shard_ended")
                case Order.SHUTDOWN_COMPLETE:
                    self._end("shutdown_requested")
                case Order.STOP_SHARD:
                    self._stop()

    def _say_to_seat(self, decision: Give | Limit | Retry | Settle) -> None:
        if not self._seated:
            return  # there is nobody to hear it: `Healer.seated` will say it as it stands then
        match decision:
            case Give():
                self.seat.give(decision)
            case Limit(starts):
                self.seat.limit(starts)
            case Retry(at):
                self.seat.retry(at, self._casebook.tries(at) + 1)
            case Settle(at):
                self.seat.settle(at)

    async def _checkpoint(self, position: Position) -> None:
        if await self._runtime.checkpoint(self.shard.shard_id, position):
            self.tally.checkpoints += 1
            self._log.debug("checkpointed", **self._names, sequence_number=str(position.sequence))
            self.seat.resumes_after(position)
            self.tell(Checkpointed(position))
        else:
            self._runtime.later(_CHECKPOINT_RETRY_S, lambda: self.tell(Checkpointed(None)))

    def _forget_settled(self, event: Event) -> None:
        if self._abandoned:
            return  # all is forgotten: what came of this one was the end of the shard
        match event:
            case Done(at, filtered, alone):
                if alone and not filtered:
                    record = self.seat.record(at)
                    telling.cleared(self._log, self._names, record, self._id_of(record))
                self._close(at)
            case Stored(at):
                self._close(at)
            case WorkerDied(done=done):
                for at, _ in done:
                    self._close(at)

    def _close(self, at: At) -> None:
        self._casebook.close(at)
        self.seat.forget(at)

    @for_this_shard
    def lose(self) -> None:
        """The shard is another's: what is open is abandoned; where nothing is, the processor is told."""
        self.tell(Signal.LEASE_LOST)
        if self._abandoned or not self._seated:
            self.seat.abandon()
        else:
            self.seat.end("lease_lost")

    def _abandon(self) -> None:
        # Where nothing is open there is nothing to kill: the processor's hook can still be called.
        ledger = self.healer.ledger
        if ledger.in_flight or ledger.unreported:
            self._drop()

    def _drop(self) -> None:
        self._abandoned = True
        self.tally.done_so_far()
        self.seat.abandon()

    def broke(self, error: Exception) -> None:
        """See `faults`. What runs is let go in a later turn: whoever brought the event is not through with its seat."""
        if self._broken:
            return  # what else happens to it says nothing new
        self._broken = True
        self._log.error("rule_broken", **self._names, **faults.told(error))
        if not self.over:
            self.healer.break_off()
            self._call_human(faults.WHY)
            self._runtime.later(0.0, self._let_go)

    def _let_go(self) -> None:
        self._drop()
        self._stop()

    def _last_failure(self) -> str | None:
        return None if self._last_failed is None else title(self._last_failed)

    def _call_human(self, why: str) -> None:
        self._log.error("human_called", **self._names, why=why, last_failure=self._last_failure())

    def _stop(self) -> None:
        self._log.error("shard_stopped", **self._names)
        self._runtime.shard_over(self)

    def _end(self, hook: Hook) -> None:
        self.healing_ended = hook
        if self._abandoned or self._hook_asked or not self._seated:
            self.seat.abandon()
            self._runtime.shard_over(self)
        else:
            self.seat.end(hook)

    def _take_note(self) -> None:
        """Everything that follows from how the core stands now, after any event."""
        healer = self.healer
        if healer.curious != self._curious:
            self._curious = healer.curious
            if self._seated:
                self.seat.curious(self._curious)
        self._changes.tell(self._log, self._names, healer, self._last_failure)
        self._aside.look()
        self.caution.look()
        self._runtime.wake_at(healer.wakes_at)

    @for_this_shard
    def tick(self, now: float) -> None:
        wakes_at = self.healer.wakes_at
        if wakes_at is not None and wakes_at <= now:
            self.tell(Signal.TICKED)

    async def give_up(self) -> None:
        """Its open records have been waited for already: keep what is settled, and leave."""
        last = self.healer.give_up()
        self._start = None
        self.seat.abandon()  # at once: its cells count as free from now on
        if last and isinstance(last[0], Checkpoint):
            await self._runtime.checkpoint(self.shard.shard_id, last[0].position)
        else:
            self._carry_out(last)
        self._runtime.shard_over(self)

    # -- what people see ------------------------------------------------------------------

    @property
    def needs_human(self) -> bool:
        return self.healer.needs_human or self._initialize_failures >= _INITIALIZE_FAILURES_HUMAN

    @property
    def left_in_order(self) -> bool:
        """Asked to leave it, and through with all of it."""
        return self.healing_ended == "shutdown_requested" and not self._abandoned

    @property
    def idle(self) -> bool:
        """Nothing read is open, and nothing more is there to read."""
        ledger = self.healer.ledger
        return self.at_tip and not ledger.in_flight and ledger.first_open() is None

    def figures(self) -> ShardFigures:
        waits_for = "the processor's initialize fails" if self._initialize_failures else self._blocked.waits_for
        return self.tally.figures(self._runtime, waits_for)

    def look(self, now: float) -> None:
        self._blocked.look(now, self._runtime.blocked_s, self._names, seated=self._seated)

    def _id_of(self, record: Record) -> str:
        return self._runtime.seal.id_of(record, self.shard)
