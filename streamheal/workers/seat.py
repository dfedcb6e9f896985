"""One shard's place among the workers: its spans' bytes, its known records, and what it hears.

A seat outlives processes. When one dies, what it had marked is read and told; the core then
says what is to be given to the next.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import msgspec

from streamheal.attempts import Attempt
from streamheal.core.messages import (
    At,
    Cause,
    Done,
    Failed,
    Give,
    Named,
    SpanCounted,
    SpanDone,
    Start,
    Witnessed,
    WorkerDied,
)
from streamheal.records import Dialect, Position, Record, Shard
from streamheal.workers import wire
from streamheal.workers.arena import Slot
from streamheal.workers.deaths import death_attempt, raised_attempt
from streamheal.workers.decode import decoder, plain
from streamheal.workers.frames import task_title
from streamheal.workers.journal import DONE, FAILED, FILTERED, HOST_TICKETS_FROM, OPEN, RUNNING
from streamheal.workers.port import Hook, Listener
from streamheal.workers.process import Process

if TYPE_CHECKING:
    from streamheal.workers.pool import Place, WorkerPool

_ARRIVAL = re.compile(rb'pproximateArrivalTimestamp"\s*:\s*([0-9.eE+]+)')
_MILLISECONDS_FROM = 1e11


class Known:
    """A record that the core knows by itself.

    `in_hand`: the core's to decide about; its lane is blocked, and old marks of it say nothing.
    """

    __slots__ = ("done", "in_hand", "named", "record", "ticket")

    def __init__(self, named: Named, record: Record) -> None:
        self.named, self.record = named, record
        self.ticket: int | None = None
        self.in_hand = False
        self.done = False


class Book:
    """One span, until nothing of it is open. `slot` is None once it has been reported.

    `states` is what a dead worker left, None where none has begun it.
    """

    __slots__ = (
        "after", "arrived", "counted", "dialect", "given", "known", "length", "number", "records", "serial",
        "slot", "states",
    )  # fmt: skip

    def __init__(
        self, number: int, *, serial: int, slot: Slot, length: int, dialect: Dialect, after: Position | None
    ) -> None:
        self.number, self.serial = number, serial
        self.slot: Slot | None = slot
        self.length, self.dialect, self.after = length, dialect, after
        self.records: list[Record] | None = None
        self.states: bytes | None = None
        self.counted = self.given = False
        self.known: dict[int, Known] = {}
        self.arrived: float | None = None


class Loss(msgspec.Struct):
    """What a death has cost one shard, read from its marks before anybody is told."""

    running: list[Named]
    done: list[tuple[At, bool]]


class ShardSeat:
    """Implements `port.Seat`."""

    def __init__(self, pool: WorkerPool, shard: Shard, listener: Listener) -> None:
        self.shard, self.listener = shard, listener
        self.place: Place | None = None
        self.process: Process | None = None
        self.number = 0  # of this stay in a process
        self.stage = "out"  # out, waiting, initializing, in, ending
        self.due: float | None = None  # by when `initialize` or the hook must have returned
        self.start_as: Start | None = None
        self._pool = pool
        self._books: dict[int, Book] = {}
        self._decode = decoder(shard.shard_id)
        self._timer: asyncio.TimerHandle | None = None
        self._hook: Hook | None = None
        self._curious = False

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
        self.due = self._pool.loop.time() + self._pool.initialize_s_max
        self._send(
            wire.Take(number, self.shard.shard_id, self.shard.stream, self.start_as.lanes_max, self.start_as.limit)
        )

    def _send(self, message: wire.Message) -> None:
        if self.process is not None:
            self.process.send(message)

    # -- spans ---------------------------------------------------------------------------

    def arrived(self, span: int, slot: object, length: int, dialect: Dialect, after: Position | None) -> None:
        assert isinstance(slot, Slot), f"{slot!r} is no slot of this pool"
        slot.used = max(slot.used, length)
        self._books[span] = Book(
            span, serial=self._pool.next_serial(), slot=slot, length=length, dialect=dialect, after=after
        )

    def give(self, give: Give) -> None:
        book = self._books.get(give.span)
        process = self.process
        if book is None or process is None:
            return  # nothing of it is open; or nobody is here, and all will be given anew
        book.given = True
        for nth in give.hold:
            self._known(book, nth).in_hand = True
        for nth in give.queued:
            self._known(book, nth).in_hand = False
        if book.slot is None:
            self._regive(book, give, process)
            return
        taken = book.states is not None or bool(give.hold or give.skip or give.queued)
        if taken:
            states = book.states if book.states is not None else bytes(len(self._records(book)))
            process.journal.take_over(book.slot.index, book.serial, states)
        self._send(
            wire.Give(
                self.number,
                give.span,
                book.serial,
                book.slot.index,
                book.length,
                int(book.dialect),
                None if book.after is None else (str(book.after.sequence), book.after.sub_sequence),
                taken,
                give.queued,
                give.hold,
                give.skip,
                give.ask,
            )
        )

    def _regive(self, book: Book, give: Give, process: Process) -> None:
        """The slot is another's by now: known records travel by themselves."""
        kept = []
        for nth in sorted({*give.hold, *give.queued}):
            known, held = book.known[nth], nth in give.hold
            known.ticket = HOST_TICKETS_FROM + process.tickets_given
            process.tickets_given += 1
            process.journal.set_ticket(known.ticket, FAILED if held else OPEN)
            kept.append(wire.Kept(nth, known.ticket, held, known.record))
        if kept:
            self._send(wire.Regive(self.number, book.number, tuple(kept)))

    def limit(self, starts: int | None) -> None:
        self._send(wire.Limit(self.number, starts))

    def retry(self, at: At, number: int) -> None:
        known = self._known(self._books[at.span], at.nth)
        known.in_hand = False
        record = msgspec.structs.replace(known.record, attempt=number)
        self._send(wire.Again(self.number, at.span, at.nth, record))

    def settle(self, at: At) -> None:
        book = self._books.get(at.span)
        if book is not None and (known := book.known.get(at.nth)):
            known.done, known.ticket = True, None
        self._send(wire.Settled(self.number, at.span, at.nth))

    def run_alone(self, at: At, number: int) -> None:
        record = self._known(self._books[at.span], at.nth).record
        self._pool.cells.wanted(self, at, msgspec.structs.replace(record, attempt=number))

    def curious(self, wanted: bool) -> None:
        self._curious = wanted
        if self.stage == "in":
            self._send(wire.Curious(self.number, wanted))

    def record(self, at: At) -> Record:
        return self._known(self._books[at.span], at.nth).record

    def named(self, at: At) -> Named:
        return self._known(self._books[at.span], at.nth).named

    def forget(self, at: At) -> None:
        book = self._books.get(at.span)
        if book is None:
            return
        if book.slot is None:
            book.known.pop(at.nth, None)
            if not book.known:
                del self._books[at.span]
        elif known := book.known.get(at.nth):
            known.done = True  # its mark is still in the page

    def _records(self, book: Book) -> list[Record]:
        """The span decoded here, which only trouble makes necessary."""
        if book.records is None:
            assert book.slot is not None, f"span {book.number} has given its slot back"
            book.records = self._decode(book.dialect, book.slot.view[: book.length], book.after)
        return book.records

    def _known(self, book: Book, nth: int) -> Known:
        known = book.known.get(nth)
        if known is None:
            records = self._records(book)
            record, before = plain(records[nth]), records[nth - 1].position if nth else None
            named = Named(At(book.number, nth), record.position, before, len(record.data))
            known = book.known[nth] = Known(named, record)
        return known

    def arrival(self) -> float | None:
        arrivals = [arrived for book in self._books.values() if (arrived := self._arrived(book)) is not None]
        return min(arrivals, default=None)

    def _arrived(self, book: Book) -> float | None:
        if book.arrived is None and book.slot is not None:
            found = _ARRIVAL.search(book.slot.view[: book.length])
            if found is not None:
                value = float(found[1])
                book.arrived = value / 1000 if value > _MILLISECONDS_FROM else value
        return book.arrived

    # -- what the worker says ------------------------------------------------------------

    def heard(self, message: wire.ToHost) -> None:
        match message:
            case wire.Finished():
                self._finished(message)
            case wire.Witness(_, since, until):
                self.listener.happened(Witnessed(since, until))
            case wire.Succeeded(_, span, nth, filtered):
                self._succeeded(At(span, nth), filtered)
            case wire.Failure():
                self._failed(message)
            case wire.Ready():
                self.stage, self.due = "in", None
                if self._curious:
                    self._send(wire.Curious(self.number, True))
                self.listener.initialized()
            case wire.Unready(_, began, ended, raised):
                assert self.process is not None
                attempt = raised_attempt(raised, began, ended, self.process)
                self._pool.seat_left(self)
                self.listener.initialize_failed(attempt)
            case wire.Ended(_, began, ended, raised):
                assert self.process is not None
                failed = None if raised is None else raised_attempt(raised, began, ended, self.process)
                self._end_over(failed)

    def count(self) -> None:
        """Tell of spans that the worker has decoded meanwhile."""
        if self.process is None or self.stage != "in":
            return
        for book in list(self._books.values()):
            if book.given and not book.counted and book.slot is not None:
                self._count(book)

    def _count(self, book: Book) -> None:
        assert self.process is not None
        if book.counted or book.slot is None:
            return
        records = self.process.journal.counted(book.slot.index, book.serial)
        if records is not None:
            book.counted = True
            self.listener.happened(SpanCounted(book.number, records))

    def marked_done(self) -> int:
        if self.process is None:
            return 0
        return sum(self._marked_done(self.process, book) for book in self._books.values())

    def _marked_done(self, process: Process, book: Book) -> int:
        if book.slot is None or not (book.given and book.counted):
            return 0
        page = process.journal.page(book.slot.index, book.serial)
        if page is None:
            return 0
        return page.states.count(DONE) - sum(page.states[nth] == DONE for nth in book.known if nth < page.records)

    def _finished(self, done: wire.Finished) -> None:
        book = self._books[done.span]
        assert book.slot is not None
        last = None if done.sequence is None else Position(int(done.sequence), done.sub_sequence)
        held = []
        for nth, ticket in done.tickets:
            new = nth not in book.known
            known = self._known(book, nth)
            known.ticket = ticket
            if new:
                held.append(known.named)
        book.counted = True
        if done.tickets and book.arrived is None:
            self._arrived(book)
        self._pool.give_back(book.slot)
        book.slot = book.states = None
        book.records = None
        book.known = {nth: known for nth, known in book.known.items() if not known.done}
        if not book.known:
            del self._books[done.span]
        self.listener.happened(SpanDone(done.span, done.records, last, done.filtered, tuple(held)))

    def _succeeded(self, at: At, filtered: bool) -> None:
        known = self._known(self._books[at.span], at.nth)
        known.done, known.ticket = True, None
        self.listener.happened(Done(at, filtered))

    def _failed(self, failure: wire.Failure) -> None:
        assert self.process is not None
        at = At(failure.span, failure.nth)
        book = self._books[at.span]
        self._count(book)
        known = self._known(book, at.nth)
        known.in_hand = True
        self._pool.watchdog.forget(self.process, self, at)
        attempt = None
        if failure.raised is not None:
            attempt = raised_attempt(failure.raised, failure.began, failure.ended, self.process)
        if failure.since is not None and failure.until is not None:
            self.listener.happened(Witnessed(failure.since, failure.until))
        event = Failed(
            known.named,
            Cause[failure.cause],
            failure.began,
            failure.ended,
            retry_after_s=failure.retry_after_s,
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
        journal, found = self.process.journal, []
        for book in self._books.values():
            if not book.given:
                continue
            if book.slot is not None:
                for nth in journal.running_now(book.slot.index, book.serial):
                    known = book.known.get(nth)
                    if known is None or not (known.in_hand or known.done):
                        found.append(At(book.number, nth))
                continue
            for nth, known in book.known.items():
                lane = known.ticket is not None and not known.in_hand
                if lane and known.ticket is not None and journal.ticket(known.ticket) == RUNNING:
                    found.append(At(book.number, nth))
        return found

    @property
    def able(self) -> bool:
        """Whether something of this shard may run in its process, now or in a moment."""
        return any(
            book.given and (book.slot is not None or any(not known.in_hand for known in book.known.values()))
            for book in self._books.values()
        )

    @property
    def unheard(self) -> bool:
        """Whether a span was given that the process has not come to."""
        return any(book.given and book.slot is not None and not book.counted for book in self._books.values())

    def lost(self) -> Loss:
        """Read what the dead process has marked. Changes nothing but what a next one is told."""
        loss = Loss([], [])
        if self.process is None or self.stage not in ("in", "ending"):
            return loss
        for at in self.running():
            loss.running.append(self._known(self._books[at.span], at.nth).named)
        for book in list(self._books.values()):
            if book.given:
                self._read_marks(book, self.process, loss)
            book.given = False
        return loss

    def _read_marks(self, book: Book, process: Process, loss: Loss) -> None:
        states: bytes | None = None
        if book.slot is not None:
            page = process.journal.page(book.slot.index, book.serial)
            if page is None:
                return
            self._count(book)
            states = page.states
            open_again = bytes(state if state in (DONE, FILTERED) else OPEN for state in range(256))
            book.states = states.translate(open_again)
        for nth, known in book.known.items():
            if known.in_hand or known.done:
                continue
            if states is not None:
                state = states[nth] if nth < len(states) else OPEN
            else:
                state = OPEN if known.ticket is None else process.journal.ticket(known.ticket)
            if state in (DONE, FILTERED):
                known.done = True
                loss.done.append((At(book.number, nth), state == FILTERED))
        for known in book.known.values():
            known.ticket = None

    def bereaved(
        self, process: Process, loss: Loss, *, death: int, total: int, overran: set[At] | None, by_us: bool
    ) -> None:
        """The process has died around this shard. `overran`: None if no deadline was the reason."""
        stage, due = self.stage, self.due or 0.0
        self.stage, self.process, self.due = "out", None, None
        if stage == "initializing":
            overran_it = process.doomed == "initialize"
            attempt = death_attempt(process, due - self._pool.initialize_s_max, overran=overran_it)
            self._pool.seat_left(self)
            self.listener.initialize_failed(attempt)
            return
        if stage == "ending":
            began = due - self._pool.hook_s_max
            self._end_over(death_attempt(process, began, overran=process.doomed == "hook"))
            return
        for record in loss.running if not by_us else ():
            self.listener.died(record.at, self._attempt(process, record.at, overran))
        self.listener.happened(
            WorkerDied(
                death,
                tuple(loss.running),
                tuple(loss.done),
                () if overran is None or self._pool.batches else tuple(sorted(overran)),
                total,
                by_us,
            )
        )

    def _attempt(self, process: Process, at: At, overran: set[At] | None) -> Attempt:
        began = self._pool.watchdog.since(process, self, at)
        if overran is not None and at not in overran:
            why = "stopped with its process, in which another record ran past its deadline"
            return death_attempt(process, began, overran=False, message=why)
        title = task_title(self.number, at.span, at.nth)
        return death_attempt(process, began, overran=overran is not None, title=title)

    # -- leaving -------------------------------------------------------------------------

    def end(self, hook: Hook) -> None:
        self._hook = hook
        if self.process is None or self.stage != "in":
            self._end_over(None)
            return
        self.stage, self.due = "ending", self._pool.loop.time() + self._pool.hook_s_max
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

    def abandon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._pool.cells.abandon(self)
        process = self.process
        busy = process is not None and (self.stage in ("initializing", "ending") or self.able)
        if process is not None and not busy:
            process.send(wire.Leave(self.number))
        self._pool.seat_left(self)
        self._forget_all(process if busy else None)
        if process is not None and busy:
            process.kill("by_us")

    def _forget_all(self, process: Process | None) -> None:
        """Slots that a living process may still read are free once it is dead."""
        slots = [book.slot for book in self._books.values() if book.slot is not None]
        self._books.clear()
        if process is None:
            for slot in slots:
                self._pool.give_back(slot)
        else:
            self._pool.give_back_later(process, slots)
