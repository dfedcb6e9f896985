"""What the host keeps of one shard's spans: where their bytes are, and who of them is known.

Nothing here talks to a process; what its journal says is read, a span at a time (`book.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol

from streamheal.core.messages import At, Halted, Named, SpanDone, WorkerDied
from streamheal.records import Position, Record
from streamheal.workers import wire
from streamheal.workers.arena import Slot
from streamheal.workers.book import Book, Known
from streamheal.workers.decode import decoder, plain
from streamheal.workers.journal import DONE, FILTERED, OPEN, Journal

_SETTLED = bytes(state in (DONE, FILTERED) for state in range(256))
_DONE = bytes((DONE,))


class Loss(NamedTuple):
    """What a death has cost one shard, read from its marks before anybody is told.

    `counted`: spans that it had decoded, and had not come to say so, with their records.
    """

    running: list[Named]
    done: list[tuple[At, bool]]
    counted: list[tuple[int, int]]
    stepping: At | None = None  # the record whose coroutine was being resumed, if it is one of these


class Owing(Protocol):
    """What a processor has returned from and not stated; see `unstated`."""

    @property
    def last(self) -> Position | None: ...
    def beyond(self, position: Position) -> bool: ...
    def succeeded(self, record: Record) -> None: ...


class Books:
    """All spans of one shard of which something is open."""

    def __init__(self, shard_id: str) -> None:
        self.spans: dict[int, Book] = {}
        self._decode = decoder(shard_id)

    def known(self, at: At) -> Known:
        """The record, known from now on if it was not."""
        book = self.spans[at.span]
        known = book.known.get(at.nth)
        if known is None:
            records = self.records(book)
            record, before = plain(records[at.nth]), records[at.nth - 1].position if at.nth else None
            known = book.known[at.nth] = Known(Named(at, record.position, before, len(record.data)), record)
        return known

    def look_up(self, at: At) -> Named | None:
        """What the record is called, without its being known from now on; None: there is no such record."""
        book = self.spans.get(at.span)
        if book is None or (book.slot is None and at.nth not in book.known):
            return None
        if known := book.known.get(at.nth):
            return known.named
        records = self.records(book)
        if not 0 <= at.nth < len(records):
            return None
        before = records[at.nth - 1].position if at.nth else None
        return Named(at, records[at.nth].position, before, len(records[at.nth].data))

    def places(self, number: int, positions: Collection[Position]) -> tuple[tuple[int, Position], ...]:
        records = self.records(self.spans[number])
        return tuple((nth, record.position) for nth, record in enumerate(records) if record.position in positions)

    def records(self, book: Book) -> list[Record]:
        if book.records is None:
            assert book.slot is not None, f"span {book.number} has given its slot back"
            book.records = self._decode(book.dialect, book.slot.view[: book.length], book.after)
        return book.records

    def settled(self, at: At) -> None:
        """Its marks say nothing any more."""
        book = self.spans.get(at.span)
        if book is not None and (known := book.known.get(at.nth)):
            known.done, known.ticket = True, None

    def forget(self, at: At) -> None:
        book = self.spans.get(at.span)
        if book is None:
            return
        if book.slot is not None:
            self.settled(at)  # its mark is still in the page
            return
        book.known.pop(at.nth, None)
        if not book.known:
            del self.spans[at.span]

    def reported(self, done: wire.Finished, journal: Journal | None) -> tuple[Slot, tuple[Named, ...], int]:
        """The span is over but for known records.

        Returns its slot, who is known only now, and how many are settled by this that are not marked so.
        """
        book = self.spans[done.span]
        slot = book.slot
        assert slot is not None, f"span {done.span} is reported twice"
        unmarked = book.unmarked(journal, done) if journal is not None else 0
        held = []
        for nth, ticket in done.tickets:
            new = nth not in book.known
            known = self.known(At(done.span, nth))
            known.ticket = ticket
            if new:
                held.append(known.named)
        book.counted = True
        if done.tickets:
            book.when_arrived()  # its bytes go with the slot
        book.slot = book.states = book.records = None
        book.known = {nth: known for nth, known in book.known.items() if not known.done}
        if not book.known:
            del self.spans[done.span]
        return slot, tuple(held), unmarked

    def clear(self) -> list[Slot]:
        """Forget all. Returns the slots that were in use."""
        slots = [book.slot for book in self.spans.values() if book.slot is not None]
        self.spans.clear()
        return slots

    # -- what can be asked ---------------------------------------------------------------

    def first_open(self, span: int, journal: Journal | None) -> int | None:
        """Place of the first record of a span under way that is not settled; None: nothing of it is marked."""
        book = self.spans.get(span)
        if book is None or book.slot is None:
            return None
        page = journal.page(book.slot.index, book.serial) if journal is not None and book.given else None
        states = page.states if page is not None else book.states
        if states is None:
            return None
        settled = (nth for nth, known in book.known.items() if known.done)
        marks = bytearray(states.translate(_SETTLED))
        for nth in settled:
            marks[nth : nth + 1] = b"\1" if nth < len(marks) else b""
        found = marks.find(0)
        return found if found >= 0 else None

    def peek(self, at: At) -> Record | None:
        """A record as it is, decoded for this once: whoever is known here is the core's, or will be."""
        book = self.spans.get(at.span)
        if book is None:
            return None
        if known := book.known.get(at.nth):
            return known.record
        if book.slot is None:
            return None
        records = book.records or self._decode(book.dialect, book.slot.view[: book.length], book.after)
        return plain(records[at.nth]) if at.nth < len(records) else None

    def arrival(self) -> float | None:
        """Unix time at which the oldest record still kept arrived, as far as known."""
        arrivals = [arrived for book in self.spans.values() if (arrived := book.when_arrived()) is not None]
        return min(arrivals, default=None)

    @property
    def able(self) -> bool:
        """Whether something may run in the process, now or in a moment."""
        return any(
            book.given and (book.slot is not None or any(not known.in_hand for known in book.known.values()))
            for book in self.spans.values()
        )

    # -- what marks say ------------------------------------------------------------------

    def marked_done(self, journal: Journal) -> int:
        """Records marked done that nobody has heard of."""
        return sum(book.marked_done(journal) for book in self.spans.values())

    def running(self, journal: Journal) -> list[At]:
        return [At(book.number, nth) for book in self.spans.values() for nth in book.running(journal)]

    def lost(self, journal: Journal, owing: Owing | None = None) -> Loss:
        """Read what a dead process has marked, for the core and for the next process.

        Who ran is not known by that: the core may suspect nobody, and will be told of whoever has to wait.
        `owing`: what is to run again although it is done.
        """
        counted = self._believed(journal)
        ats = self.running(journal)
        stepping = next((at for at in ats if self.spans[at.span].mark(at.nth) == journal.stepping), None)
        running = [named for at in ats if (named := self.look_up(at)) is not None]
        given = [book for book in self.spans.values() if book.given]
        done = [one for book in given for one in book.keep_marks(journal)]
        if owing is not None:
            for at, _ in done:
                owing.succeeded(self.known(at).record)
            last = owing.last
            for book in given:
                self._open_again(book, owing, last)
        for book in given:
            book.given = False
        return Loss(running, done, counted, stepping)

    def bereaved(self, died: WorkerDied) -> None:
        """Whoever the core suspects now is in its hand, whether or not a process comes that is told so."""
        for record in () if died.by_us else died.running:
            if died.overran or record.at not in died.stood:
                self.known(record.at).in_hand = True

    def _believed(self, journal: Journal) -> list[tuple[int, int]]:
        """Which spans it had counted that nobody has heard of.

        A page with another count than its span has records was overwritten by a process that ran wild. It says
        nothing of anybody, and the span runs again: rather twice than a guess at who it was.
        """
        found = []
        for book in self.spans.values():
            if not book.given or book.slot is None:
                continue
            records = journal.counted(book.slot.index, book.serial)
            if records is None:
                continue
            if records != len(self.records(book)):
                book.given = False
            elif not book.counted:
                book.counted = True
                found.append((book.number, records))
        return found

    def halted(self) -> Halted:
        """How far all is settled that is in spans not reported, now that nothing runs any more."""
        over: list[SpanDone] = []
        for number in sorted(number for number, book in self.spans.items() if book.slot is not None):
            book = self.spans[number]
            # What a process has counted that ran wild may be anything.
            if book.states is None or len(records := self.records(book)) != len(book.states):
                break
            settled = bytearray(state in (DONE, FILTERED) for state in book.states)
            for nth, known in book.known.items():
                settled[nth] = known.done or known.in_hand  # of those in hand the core knows better
            first_open = settled.find(0)
            if first_open > 0:
                return Halted(tuple(over), self.known(At(number, first_open)).named)
            if first_open == 0:
                break
            filtered = sum(state == FILTERED and nth not in book.known for nth, state in enumerate(book.states))
            over.append(SpanDone(number, len(records), records[-1].position if records else None, filtered))
        return Halted(tuple(over))

    def _open_again(self, book: Book, owing: Owing, last: Position | None) -> None:
        """What only its mark says to be done is open again in its span; but not before the `last` of those that run
        again before all spans: in its own it would come after them, and one of them may be of its key. What an
        earlier worker has done is not this one's to owe."""
        if book.states is None or book.slot is None:
            return
        records, states = self.records(book), bytearray(book.states)
        for nth, state in enumerate(book.states):
            if state != DONE or book.before[nth : nth + 1] == _DONE or nth in book.known:
                continue
            if owing.beyond(records[nth].position):
                if last is not None and records[nth].position < last:
                    owing.succeeded(plain(records[nth]))
                else:
                    states[nth] = OPEN
        book.states = bytes(states)
