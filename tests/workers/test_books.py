"""What the host reads off a worker's marks, set beside what the worker says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamheal.core.messages import At
from streamheal.records import Dialect, Position, Record
from streamheal.workers import wire
from streamheal.workers.arena import Arena, Slot
from streamheal.workers.book import Book
from streamheal.workers.books import Books
from streamheal.workers.journal import (
    COUNT,
    CURRENT,
    DONE,
    FAILED,
    FILTERED,
    OPEN,
    PAGE_WORDS,
    PAUSED,
    RUNNING,
    SERIAL,
    Journal,
)
from tests.workers.stand import FIRST, line

SERIAL_NUMBER = 7


class Owing:
    """All is owed. `last`: of what is kept already, to run again before all spans."""

    def __init__(self, last: Position | None) -> None:
        self.last = last
        self.kept: list[int] = []

    def beyond(self, position: Position) -> bool:
        return True

    def succeeded(self, record: Record) -> None:
        self.kept.append(record.json())


class Shelf:
    """One span of four records, given to a process whose journal tests write."""

    def __init__(self, arena: Arena) -> None:
        self.journal, self.books = Journal(), Books("shard-0")
        slot = arena.take()
        assert slot is not None
        self.slot: Slot = slot
        raw = line(range(4))
        slot.view[: len(raw)] = raw
        book = self.book = Book(1, serial=SERIAL_NUMBER, slot=slot, length=len(raw), dialect=Dialect.DAEMON, after=None)
        book.given = True
        self.books.spans[1] = book

    def ran_through(self, upto: int) -> None:
        head = self.slot.index * PAGE_WORDS
        self.journal.words[head + COUNT], self.journal.words[head + CURRENT] = 4, upto | PAUSED
        self.journal.words[head + SERIAL] = SERIAL_NUMBER

    def marks(self, *states: int) -> None:
        self.journal.take_over(self.slot.index, SERIAL_NUMBER, bytes(states))

    def reported(self, *tickets: int) -> int:
        """How many records are not marked as this report has them."""
        done = wire.Finished(1, 1, 4, str(FIRST + 3), 0, 0, tuple((nth, nth) for nth in tickets))
        return self.books.reported(done, self.journal)[2]


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    one = Arena()
    yield one
    one.close()


@pytest.fixture
def shelf(arena: Arena) -> Shelf:
    return Shelf(arena)


def test_a_span_that_ran_through_is_marked_by_one_word(shelf: Shelf) -> None:
    shelf.ran_through(4)
    assert shelf.reported() == 0


def test_a_record_that_never_ran_is_missed(shelf: Shelf) -> None:
    shelf.ran_through(3)
    assert shelf.reported() == 1


def test_a_report_of_a_span_that_was_never_come_to_is_all_missed(shelf: Shelf) -> None:
    assert shelf.reported() == 4


def test_records_with_tickets_and_those_known_are_accounted_for_elsewhere(shelf: Shelf) -> None:
    shelf.books.known(At(1, 1))
    shelf.marks(DONE, FAILED, OPEN, FILTERED)
    assert shelf.reported(2) == 0


def test_an_open_record_without_a_ticket_is_missed(shelf: Shelf) -> None:
    shelf.books.known(At(1, 1))
    shelf.marks(DONE, DONE, OPEN, RUNNING)
    assert shelf.reported(3) == 1


def test_the_first_open_record_is_read_off_the_marks(shelf: Shelf) -> None:
    assert shelf.books.first_open(1, shelf.journal) is None
    shelf.marks(DONE, FILTERED, RUNNING, DONE)
    assert shelf.books.first_open(1, shelf.journal) == 2
    shelf.books.known(At(1, 2)).done = True
    assert shelf.books.first_open(1, shelf.journal) is None


def test_between_two_workers_the_marks_of_the_dead_one_tell(shelf: Shelf) -> None:
    shelf.marks(DONE, RUNNING, OPEN, OPEN)
    shelf.books.lost(shelf.journal)
    assert shelf.books.first_open(1, None) == 1


def test_a_record_is_peeked_at_without_becoming_known(shelf: Shelf) -> None:
    """Whoever is known when a span is reported is not told of as held: it would be forgotten."""
    record = shelf.books.peek(At(1, 2))
    assert record is not None
    assert record.sequence_number == str(FIRST + 2)
    assert shelf.book.known == {}
    assert shelf.books.peek(At(1, 9)) is None
    assert shelf.books.peek(At(2, 0)) is None


def test_what_a_dead_worker_owed_runs_again_in_its_span_or_before_all_where_others_behind_it_do(shelf: Shelf) -> None:
    """All four are done, 0 by an earlier worker. In its own span 1 would come after 2, which runs before all spans."""
    shelf.book.states = bytes((DONE, OPEN, OPEN, OPEN))
    shelf.marks(DONE, DONE, DONE, DONE)
    owing = Owing(Position(FIRST + 2))
    shelf.books.lost(shelf.journal, owing)
    assert owing.kept == [1]
    assert shelf.book.states == bytes((DONE, DONE, OPEN, OPEN))
