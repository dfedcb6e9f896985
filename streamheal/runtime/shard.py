"""One shard: its core, its seat among the workers, and the doing of what the core decided.

    engine ── batch ──► ShardRun ── SpanArrived ──► Healer
    seat  ── Failed ──►    │    ◄── decisions ────────┘
                           └──► seat · keeper · engine · log

Nothing is decided here. A branch in this file asks which decision it is, never what to decide.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

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
    Limit,
    Order,
    Quarantine,
    Retry,
    RunAlone,
    Settle,
    Signal,
    SpanArrived,
    Start,
    Stored,
    StoreFailed,
    Verdict,
    WorkerDied,
)
from streamheal.engines.base import Batch
from streamheal.quarantine.prose import title
from streamheal.records import Position, Shard
from streamheal.runtime.casebook import Casebook, short
from streamheal.runtime.figures import ShardFigures
from streamheal.runtime.surroundings import Surroundings
from streamheal.runtime.tally import Tally
from streamheal.workers.port import Hook

# `initialize` failing is the program's or the world's fault, never a record's.
_INITIALIZE_RETRY_S_MIN, _INITIALIZE_RETRY_S_MAX = 0.5, 30.0
_INITIALIZE_FAILURES_HUMAN = 3
_CHECKPOINT_RETRY_S = 1.0


class ShardRun:
    """Carries out a healer's decisions for one shard, and tells it what became of them."""

    def __init__(
        self, runtime: Surroundings, shard: Shard, starts: int, doubt: bool, after: Position | None = None
    ) -> None:
        self.shard = shard
        self._runtime = runtime
        self._log = runtime.chronicle
        self.healer = Healer(shard.shard_id, runtime.policy, runtime.core_host, starts=starts, doubt=doubt)
        self.seat = runtime.pool.seat(shard, self)
        if after is not None:
            self.seat.resumes_after(after)
        self.tally = Tally(shard, self.healer, self.seat)
        self.at_tip = False
        self.over = False
        self._casebook = Casebook()
        self._spans = 0
        self._inbox: deque[Event] = deque()
        self._handling = False
        self._ready = self._seated = self._abandoned = False
        self.healing_ended: Hook | None = None
        self._start: Start | None = None
        self._initialize_failures = 0
        self._curious = False
        self._doubt = doubt
        self._was_paused = self._was_forgone = False
        self._hook_asked = False
        self._last_failure: str | None = None

    # -- the engine's side -------------------------------------------------------------

    def begin(self) -> None:
        self._carry_out(self.healer.begin())

    def batch_arrived(self, batch: Batch) -> None:
        self._spans += 1
        span = self._spans
        self.tally.arrived(span, self._runtime.clock())
        self.seat.arrived(span, batch.slot, batch.length, batch.dialect, batch.after)
        self.tell(SpanArrived(span, batch.length))

    # -- the seat's side (workers.port.Listener) ----------------------------------------

    def initialized(self) -> None:
        self._seated, self._initialize_failures = True, 0
        if self._curious:
            self.seat.curious(True)
        self._carry_out(self.healer.seated(self._runtime.clock()))
        self._take_note()
        if not self._ready:
            self._ready = True
            self._log.info("shard_started", **self._names())
            self._runtime.engine.answer(self.shard.shard_id)

    def initialize_failed(self, attempt: Attempt) -> None:
        if self.over:
            return
        self._initialize_failures += 1
        wait_s = min(_INITIALIZE_RETRY_S_MAX, _INITIALIZE_RETRY_S_MIN * 2.0**self._initialize_failures)
        self._log.error(
            "initialize_failed", **self._names(), again_in_s=wait_s, error=short(attempt), traceback=attempt.traceback
        )
        self._runtime.later(wait_s, self._take_seat)

    def _take_seat(self) -> None:
        if not self.over and self._start is not None:
            self.seat.start(self._start)

    def happened(self, event: Event, attempt: Attempt | None = None, masked: bytes | None = None) -> None:
        if isinstance(event, Failed) and attempt is not None:
            self._casebook.add(event.record.at, attempt, masked)
            self.tally.attempts[attempt.outcome] += 1
            self._last_failure = title(attempt)
            event = event._replace(likeness=fingerprint(attempt))
            self._log.debug(
                "attempt_failed",
                **self._names(),
                sequence_number=str(event.record.position.sequence),
                attempt=attempt.number,
                outcome=attempt.outcome,
                exception_type=attempt.exception_type,
            )
        elif isinstance(event, WorkerDied):
            self._seated = False
        self.tell(event)

    def died(self, at: At, attempt: Attempt) -> None:
        self._casebook.add(at, attempt)
        self.tally.attempts[attempt.outcome] += 1

    def worker_died(self, cause: str) -> None:
        self._runtime.deaths[cause] += 1

    def hook_failed(self, hook: Hook, attempt: Attempt) -> None:
        self._log.error("hook_failed", **self._names(), hook=hook, error=short(attempt), traceback=attempt.traceback)

    def ended(self) -> None:
        if self.healing_ended is None and not self.healer.over:
            self.tell(Signal.HEARD_OUT)
        else:
            self._runtime.shard_over(self)

    # -- the core's side ----------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Let the core decide, and do it. An event that comes of the doing waits its turn."""
        self._inbox.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._inbox:
                event = self._inbox.popleft()
                self._carry_out(self.healer.handle(event, self._runtime.clock(), self._runtime.dice()))
                self._forget_settled(event)
        finally:
            self._handling = False
        self._take_note()

    def _carry_out(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Start():
                    self._seated, self._start = False, decision
                    self.seat.start(decision)
                case Give() | Limit() | Retry() | Settle():
                    self._say_to_seat(decision)
                case RunAlone(at):
                    self.seat.run_alone(at, self._casebook.tries(at) + 1)
                case Quarantine(at, verdict):
                    self._set_aside(at, verdict, decision)
                case Checkpoint(position):
                    self._runtime.spawn(self._checkpoint(position))
                case HearOut(shard_ended):
                    self._hook_asked = True
                    self.seat.end("shard_ended" if shard_ended else "shutdown_requested")
                case CallHuman(why):
                    self._log.error("human_called", **self._names(), why=why, last_failure=self._last_failure)
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
                    self._log.error("shard_stopped", **self._names())
                    self._runtime.shard_over(self)

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

    def _set_aside(self, at: At, verdict: Verdict, decision: Quarantine) -> None:
        attempts = self._casebook.attempts(at)
        envelope = self._runtime.seal(self.seat.record(at), self.shard, decision, attempts, self._casebook.masked(at))

        def answer(error: Exception | None) -> None:
            if error is not None:
                self.tell(StoreFailed(at))
                return
            self.tally.quarantined[envelope.reason] += 1
            self._log.info(
                "record_stayed" if verdict is Verdict.STAYS else "record_quarantined",
                **self._names(),
                sequence_number=envelope.sequence_number,
                id=envelope.id,
                reason=envelope.reason,
                fingerprint=envelope.fingerprint,
                title=envelope.title,
                verdict=verdict.name.lower(),
                attempts=len(attempts),
            )
            self.tell(Stored(at))

        if self.healer.doubt and not self._doubt:
            # The next life must know that somebody was convicted with nobody to ask, or it
            # might convict another in the same outage (docs/judging.md).
            self._doubt = True
            self._runtime.spawn(self._doubt_then_keep(lambda: self._runtime.keeper.keep(envelope, answer)))
        else:
            self._runtime.keeper.keep(envelope, answer)

    async def _doubt_then_keep(self, keep: Callable[[], None]) -> None:
        await self._runtime.remember_doubt(self.shard.shard_id, True)
        keep()

    async def _checkpoint(self, position: Position) -> None:
        kept = await self._runtime.checkpoint(self.shard.shard_id, position)
        if kept:
            self.tally.checkpoints += 1
            self._log.debug("checkpointed", **self._names(), sequence_number=str(position.sequence))
            self.seat.resumes_after(position)
            self.tell(Checkpointed(position))
        else:
            self._runtime.later(_CHECKPOINT_RETRY_S, lambda: self.tell(Checkpointed(None)))

    def _forget_settled(self, event: Event) -> None:
        match event:
            case Done(at, filtered, alone):
                if alone and not filtered:
                    record = self.seat.record(at)
                    self._log.info(
                        "record_cleared",
                        **self._names(),
                        sequence_number=record.sequence_number,
                        id=self._runtime.seal.id_of(record, self.shard),
                    )
                self._close(at)
            case Stored(at):
                self._close(at)
            case WorkerDied(done=done):
                for at, _ in done:
                    self._close(at)

    def _close(self, at: At) -> None:
        self._casebook.close(at)
        self.seat.forget(at)

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
            self._abandoned = True
            self.tally.done_so_far()
            self.seat.abandon()

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
        if healer.paused != self._was_paused:
            self._was_paused = healer.paused
            if healer.paused:
                self._log.warning(
                    "shard_paused",
                    **self._names(),
                    why="different records fail, and none succeeds",
                    last_failure=self._last_failure,
                )
            else:
                self._log.info("shard_resumed", **self._names())
        if healer.statements.forgone != self._was_forgone:
            self._was_forgone = True
            after = healer.statements.forgone_after
            self._log.warning(
                "checkpoint_held",
                **self._names(),
                after=None if after is None else str(after.sequence),
                why="a worker ended with records that the processor had not checkpointed",
                until="the shard is begun anew: they are given again then",
            )
        if self._doubt and not healer.doubt:
            self._doubt = False
            self._runtime.spawn(self._runtime.remember_doubt(self.shard.shard_id, False))
        self._runtime.wake_at(healer.wakes_at)

    def tick(self, now: float) -> None:
        if self.healer.over:
            return
        wakes_at = self.healer.wakes_at
        if wakes_at is not None and wakes_at <= now:
            self.tell(Signal.TICKED)

    async def give_up(self) -> None:
        """Its open records have been waited for already: keep what is settled, and leave."""
        safe = self.healer.safe
        if safe is not None:
            await self._runtime.checkpoint(self.shard.shard_id, safe)
        self.seat.abandon()
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
        runtime = self._runtime
        return self.tally.figures(
            now=runtime.clock(),
            wall_now=runtime.wall_clock(),
            retention_s=runtime.retention_s,
            waits_for=self._waits_for(),
        )

    def _waits_for(self) -> str | None:
        if self._initialize_failures:
            return "the processor's initialize fails"
        if self.healer.paused:
            return "paused: different records fail, and none succeeds"
        undecided = len(self.healer.undecided)
        if undecided:
            return f"{undecided} suspect{'s' if undecided > 1 else ''} to be judged"
        return None

    def _names(self) -> dict[str, str]:
        return {"stream": self.shard.stream, "shard_id": self.shard.shard_id}
