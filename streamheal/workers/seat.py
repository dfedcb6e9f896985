"""One shard's place among the workers: its spans' bytes, its known records, and what it hears.

A seat outlives processes. When one dies, what it had marked is read and told; the core then
says what is to be given to the next.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from streamheal.attempts import Attempt
from streamheal.core.messages import (
    At,
    Cause,
    Done,
    Failed,
    Give,
    RunsAgain,
    SpanCounted,
    SpanDone,
    Start,
    Stated,
    Witnessed,
    WorkerDied,
)
from streamheal.records import Dialect, Position, Record, Shard
from streamheal.workers import wire
from streamheal.workers.arena import Slot
from streamheal.workers.book import Book
from streamheal.workers.books import Books, Loss
from streamheal.workers.deaths import BEGINNERS, NOBODYS, OURS, Death, death_attempt, raised_attempt
from streamheal.workers.frames import task_title
from streamheal.workers.giving import given
from streamheal.workers.permits import CautiousSeat, Stage
from streamheal.workers.port import Hook, Listener
from streamheal.workers.process import Process
from streamheal.workers.unstated import Unstated

if TYPE_CHECKING:
    from streamheal.workers.places import Place
    from streamheal.workers.pool import WorkerPool


# Once, it may have been another's fault that a process ended just then.
_CHANCE_MAX = 2


class ShardSeat(CautiousSeat):
    """Implements `port.Seat`."""

    def __init__(self, pool: WorkerPool, shard: Shard, listener: Listener) -> None:
        self.shard, self.listener = shard, listener
        self.place: Place | None = None
        self.process: Process | None = None
        self.apart = False  # nobody else is to stand where its processor is initialized
        self._ended_in_a_row = 0  # processes that ended while it was
        self.number = 0  # of this stay in a process
        self.stage: Stage = "out"
        self.began = 0.0  # `initialize` or the hook; `due`: its end at the latest, in its process's time
        self.due: float | None = None
        self.start_as: Start | None = None
        self.after: tuple[str, int] | None = None  # the shard's checkpoint
        self._pool = pool
        self.books = Books(shard.shard_id)
        self.unstated = Unstated(shard.shard_id)
        self._again = 0  # spans that were made of what runs again; they are numbered downwards
        self._timer: asyncio.TimerHandle | None = None
        self._hook: Hook | None = None
        self._curious = self._halting = False
        self._ran = 0  # so many records ran when the last process died
        super().__init__()

    # -- a place ---------------------------------------------------------------------------

    def start(self, start: Start) -> None:
        self.stage, self.start_as = "waiting", start
        if self._timer is not None:
            self._timer.cancel()
        if start.delay_s > 0:
            self._timer = self._pool.loop.call_later(start.delay_s, self._pool.seat_waits, self)
        else:
            self._pool.seat_waits(self)

    def sit(self, process: Process, number: int) -> None:
        """There is a process: initialize the processor in it."""
        assert self.start_as is not None
        self.process, self.number, self.stage = process, number, "initializing"
        self.began, self.due = self._pool.loop.time(), process.due_in(self._pool.initialize_s_max)
        lanes_max, limit, _ = self.start_as
        shard = self.shard
        self._send(wire.Take(number, shard.shard_id, shard.stream, lanes_max, limit, self.after, self._ran))
        self._ran = 0

    def _send(self, message: wire.Message) -> None:
        if self.process is not None:
            self.process.send(message)

    def resumes_after(self, position: Position) -> None:
        self.after = str(position.sequence), position.sub_sequence

    # -- spans ---------------------------------------------------------------------------

    def arrived(self, span: int, slot: object, length: int, dialect: Dialect, after: Position | None) -> None:
        assert isinstance(slot, Slot), f"{slot!r} is no slot of this pool"
        slot.used = max(slot.used, length)
        self.books.spans[span] = Book(
            span, serial=self._pool.next_serial(), slot=slot, length=length, dialect=dialect, after=after
        )

    def give(self, give: Give) -> None:
        if self.process is None:
            return  # nobody is here, and all will be given anew
        message = given(give, self.books, self.process, self.number)
        if message is not None:
            self._send(message)

    def limit(self, starts: int | None) -> None:
        self._send(wire.Limit(self.number, starts))

    def retry(self, at: At, number: int) -> None:
        known = self.books.known(at)
        known.in_hand = False
        record = msgspec.structs.replace(known.record, attempt=number)
        self._send(wire.Again(self.number, at.span, at.nth, record))

    def settle(self, at: At) -> None:
        self.books.settled(at)
        self._send(wire.Settled(self.number, at.span, at.nth))

    def run_alone(self, at: At, number: int, *, fresh: bool) -> None:
        record = msgspec.structs.replace(self.books.known(at).record, attempt=number)
        self._pool.cells.wanted(self, at, record, fresh=fresh)

    def curious(self, wanted: bool) -> None:
        self._curious = wanted
        if self.stage == "in":
            self._send(wire.Curious(self.number, wanted))

    def record(self, at: At) -> Record:
        return self.books.known(at).record

    def forget(self, at: At) -> None:
        self.books.forget(at)

    def first_open(self, span: int) -> int | None:
        return self.books.first_open(span, None if self.process is None else self.process.journal)

    def peek(self, at: At) -> Record | None:
        return self.books.peek(at)

    def arrival(self) -> float | None:
        return self.books.arrival()

    def marked_done(self) -> int:
        return 0 if self.process is None else self.books.marked_done(self.process.journal)

    # -- what the worker says ------------------------------------------------------------

    def heard(self, message: wire.ToHost) -> None:
        match message:
            case wire.Finished():
                self._finished(message)
            case wire.Witness(_, since, until):
                self.listener.happened(Witnessed(since, until))
            case wire.Took() | wire.Waited():
                self.listener.timed("took" if isinstance(message, wire.Took) else "waited", message.seconds)
            case wire.Succeeded(_, span, nth, filtered):
                self._succeeded(At(span, nth), filtered)
            case wire.Failure():
                self._failed(message)
            case wire.Stated(_, sequence, sub_sequence, owes):
                position = None if sequence is None else Position(int(sequence), sub_sequence)
                self.unstated.stated(position, owes)
                self.listener.happened(Stated(position, owes))
            case wire.Ready():
                assert self.process is not None
                self.stage, self.due, self._ended_in_a_row = "in", None, 0
                self._pool.memory.begun(self.process)
                self._initialized()
                if self._curious:
                    self._send(wire.Curious(self.number, True))
                self.listener.initialized()
                self._pool.seat_began(self)
            case wire.Unready(_, began, ended, raised):
                assert self.process is not None
                attempt = raised_attempt(raised, began, ended, self.process)
                self._pool.seat_left(self)
                self.listener.initialize_failed(attempt)
            case wire.Intends() | wire.Over() | wire.Heeds():
                self._asked(message)
            case wire.Ended(_, began, ended, raised):
                assert self.process is not None
                failed = None if raised is None else raised_attempt(raised, began, ended, self.process)
                self._end_over(failed)

    def count(self) -> None:
        """Tell of spans that the worker has decoded meanwhile."""
        if self.process is None or self.stage != "in":
            return
        for book in list(self.books.spans.values()):
            self._count(book)

    def _count(self, book: Book) -> None:
        assert self.process is not None
        if book.counted or book.slot is None or not book.given:
            return
        records = self.process.journal.counted(book.slot.index, book.serial)
        if records is not None:
            book.counted = True
            self.listener.happened(SpanCounted(book.number, records))

    def _finished(self, done: wire.Finished) -> None:
        last = None if done.sequence is None else Position(int(done.sequence), done.sub_sequence)
        self.unstated.reported(self.books.spans[done.span], last, (nth for nth, _ in done.tickets))
        slot, held, unmarked = self.books.reported(done, None if self.process is None else self.process.journal)
        self._pool.give_back(slot)
        self.listener.happened(SpanDone(done.span, done.records, last, done.filtered, held, unmarked))

    def _succeeded(self, at: At, filtered: bool) -> None:
        if self.unstated.owes:
            self.unstated.succeeded(self.books.known(at).record)
        self.books.settled(at)
        self.listener.happened(Done(at, filtered))

    def _failed(self, failure: wire.Failure) -> None:
        assert self.process is not None
        at = At(failure.span, failure.nth)
        self._count(self.books.spans[at.span])
        known = self.books.known(at)
        known.in_hand = True
        self._pool.watchdog.forget(self.process, self, at)
        attempt = None
        if failure.raised is not None:
            attempt = raised_attempt(failure.raised, failure.began, failure.ended, self.process)
        if failure.since is not None and failure.until is not None:
            self.listener.happened(Witnessed(failure.since, failure.until))
        event = Failed(
            known.named, Cause[failure.cause], failure.began, failure.ended, retry_after_s=failure.retry_after_s
        )
        self.listener.happened(event, attempt, failure.masked)
        if not self._curious:
            # It takes times from its first failure on, until it is told that nobody asks.
            self._send(wire.Curious(self.number, False))

    # -- marks ---------------------------------------------------------------------------

    def running(self) -> list[At]:
        """What runs of this shard in the process now, as its marks say."""
        if self.process is None or self.stage != "in":
            return []
        return self.books.running(self.process.journal)

    def lost(self) -> Loss:
        """Read what the dead process has marked. Nobody is told yet but of spans it had counted."""
        if self.process is None or self.stage not in ("in", "ending"):
            return Loss([], [], [])
        loss = self.books.lost(self.process.journal, self.unstated if self.unstated.owes else None)
        self._ran = len(loss.running)
        for counted in loss.counted:
            self.listener.happened(SpanCounted(*counted))
        return loss

    def bereaved(self, process: Process, loss: Loss, death: Death) -> None:
        """The process has died around this shard."""
        stage, overran_it = self.stage, self.late(process)
        self.stage, self.process, self.due = "out", None, None
        self._lost_its_worker()
        if stage == "initializing":
            if process.doomed in OURS:
                assert self.start_as is not None
                self._pool.seat_left(self)
                self.start(self.start_as._replace(delay_s=0.0))
                return
            if process.doomed in BEGINNERS:
                self._ended_in_a_row += 1
                self.apart |= overran_it or self._ended_in_a_row >= _CHANCE_MAX
            other = process.doomed == "initialize" and not overran_it
            message = "stopped with its process, in which another shard's initialize took too long" if other else None
            attempt = death_attempt(process, self.began, overran=overran_it, message=message)
            self._pool.seat_left(self)
            self.listener.initialize_failed(attempt)
            return
        if self.place is not None and self.place.apart:
            self.apart = False  # it did begin, in a process that is no more
            self._pool.seat_left(self)
        if stage == "ending":
            self._end_over(death_attempt(process, self.began, overran=overran_it))
            return
        by_us = process.doomed in NOBODYS
        overran = None if process.overran is None else process.overran.get(self, set())
        for record in loss.running if not by_us else ():
            self.listener.died(record.at, self._attempt(process, record.at, overran))
        kept, again = self._kept()
        late = () if overran is None or self._pool.batches else tuple(sorted(overran))
        stood = tuple(record.at for record in loss.running if record.at != loss.stepping) if death.stepping else ()
        held = bool(late) and process.stood_still
        died = WorkerDied(
            death.number, tuple(loss.running), tuple(loss.done), late, death.running, by_us, kept, again, stood, held
        )
        self.books.bereaved(died)
        self.listener.happened(died)
        if self._halting:
            self.listener.happened(self.books.halted())

    def _kept(self) -> tuple[bool, RunsAgain | None]:
        """Whether all that the processor owed can run again, and the span that was made of it."""
        owed = self.unstated.line()
        self.unstated.clear()
        if owed is None or not owed[0]:
            return owed is not None, None
        slot = self._pool.take_slot()
        if slot is None:
            return False, None
        records, raw = owed
        self._again -= 1
        slot.view[: len(raw)] = raw
        self.arrived(self._again, slot, len(raw), Dialect.DAEMON, None)
        self.books.spans[self._again].counted = True
        return True, RunsAgain(self._again, records, len(raw))

    def _attempt(self, process: Process, at: At, overran: set[At] | None) -> Attempt:
        began = self._pool.watchdog.since(process, self, at)
        if overran is not None and at not in overran:
            why = "stopped with its process, in which another record ran past its deadline"
            return death_attempt(process, began, overran=False, message=why)
        title = task_title(self.number, at.span, at.nth)
        return death_attempt(process, began, overran=overran is not None, title=title)

    def late(self, process: Process) -> bool:
        """Whether `initialize`, or the hook that runs, has taken longer than it may."""
        return self.due is not None and process.awake_s > self.due

    def not_due_yet(self, process: Process) -> None:
        """Its `initialize`, or the hook, cannot have begun."""
        pool = self._pool
        self.due = process.due_in(pool.initialize_s_max if self.stage == "initializing" else pool.hook_s_max)

    # -- leaving -------------------------------------------------------------------------

    def end(self, hook: Hook) -> None:
        self._hook = hook
        if self.process is None or self.stage != "in":
            if self.process is not None:
                self.process.kill("by_us")  # nobody would watch over its `initialize` any more
            self._end_over(None)
            return
        self.stage, self.began, self.due = "ending", self._pool.loop.time(), self.process.due_in(self._pool.hook_s_max)
        self._send(wire.End(self.number, hook))

    def _end_over(self, failed: Attempt | None) -> None:
        hook, self._hook = self._hook, None
        self._pool.cells.abandon(self)
        self._pool.seat_left(self)
        self._forget_all(None)
        if hook is not None:
            if failed is not None:
                self.listener.hook_failed(hook, failed)
            self.listener.ended()

    def halt(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._pool.cells.abandon(self)
        process, given = self.process, self.stage == "in" and self.books.able
        if process is not None and given:
            self._halting = True  # its last words and its marks are read once it is dead
            process.kill("by_us")
            return
        if self.stage in ("waiting", "initializing"):
            if process is not None:
                process.kill("by_us")  # before another would begin there
            self._pool.seat_left(self)
        self.listener.happened(self.books.halted())

    def abandon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._pool.cells.abandon(self)
        process = self.process
        busy = process is not None and (self.stage in ("initializing", "ending") or self.books.able)
        if process is not None and busy:
            process.kill("by_us")  # before another would begin there
        elif process is not None:
            process.send(wire.Leave(self.number))
        self._pool.seat_left(self)
        self._forget_all(process if busy else None)

    def _forget_all(self, process: Process | None) -> None:
        """Slots that a living process may still read are free once it is dead."""
        self.unstated.clear()
        slots = self.books.clear()
        if process is None:
            for slot in slots:
                self._pool.give_back(slot)
        else:
            self._pool.give_back_later(process, slots)
