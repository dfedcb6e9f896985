"""Marks written by a process that ran wild before it died: nothing breaks, and nobody is accused of what cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamheal.core.messages import At
from streamheal.records import Dialect, Position
from streamheal.workers.arena import Slot
from streamheal.workers.book import Book
from streamheal.workers.books import Books
from streamheal.workers.journal import COUNT, CURRENT, DONE, FILTERED, HEAD, PAUSED, RUNNING, SERIAL, STATES, Journal

from .stand import FIRST, line

SHARD = "shardId-000000000000"
SERIAL_HERE = 7
RECORDS = 5

words = st.one_of(st.integers(0, 2 * RECORDS), st.integers(0, 2**64 - 1), st.integers(PAUSED, PAUSED + 2 * RECORDS))
marks = st.binary(min_size=2 * RECORDS, max_size=2 * RECORDS)


@pytest.fixture(scope="module")
def journal() -> Iterator[Journal]:
    made = Journal()
    yield made
    made.close()


class Scribble(NamedTuple):
    """What stands in a page's header, and behind it."""

    serial: int
    count: int
    current: int
    states: int
    page: bytes

    def write(self, journal: Journal) -> None:
        words = ((SERIAL, self.serial), (COUNT, self.count), (CURRENT, self.current), (STATES, self.states))
        for word, value in words:
            journal.words[word] = value
        journal.marks[HEAD : HEAD + len(self.page)] = self.page


scribbles = st.builds(Scribble, st.just(SERIAL_HERE) | words, st.just(RECORDS) | words, words, words, marks)


def given_books(*, in_hand: set[int], settled: set[int]) -> Books:
    raw = line(list(range(RECORDS)))
    books = Books(SHARD)
    slot = Slot(0, memoryview(raw))
    book = Book(1, serial=SERIAL_HERE, slot=slot, length=len(raw), dialect=Dialect.DAEMON, after=None)
    book.given = book.counted = True
    books.spans[1] = book
    for nth in in_hand | settled:
        known = books.known(At(1, nth))
        known.in_hand, known.done = nth in in_hand, nth in settled
    return books


places = st.sets(st.integers(0, RECORDS - 1))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(scribbles, places, places)
@example(Scribble(SERIAL_HERE, RECORDS + 2, 0, 1, bytes([DONE] * RECORDS + [RUNNING] * RECORDS)), set(), set())
@example(Scribble(SERIAL_HERE, RECORDS - 1, 2, 0, bytes(2 * RECORDS)), set(), set())
def test_whatever_a_page_holds_only_open_records_that_ran_are_suspects(
    journal: Journal, wild: Scribble, in_hand: set[int], done: set[int]
) -> None:
    wild.write(journal)
    serial, count, current, states, page = wild
    books = given_books(in_hand=in_hand, settled=done)
    assert len(books.running(journal)) <= RECORDS
    loss = books.lost(journal)
    believable = serial == SERIAL_HERE and count == RECORDS
    suspects = {named.at.nth for named in loss.running}
    if believable and states:
        assert suspects == {nth for nth in range(RECORDS) if page[nth] in (RUNNING, 5)} - in_hand - done
    elif believable:
        assert suspects <= {current}
    else:
        assert not suspects
        assert not loss.done
    assert suspects.isdisjoint(in_hand | done)
    assert all(named.position == Position(FIRST + named.at.nth) for named in loss.running)
    settled = {at.nth for at, _ in loss.done}
    assert settled <= in_hand | done or believable
    left = books.halted()
    said = {nth for nth in range(RECORDS) if believable and states and page[nth] in (DONE, FILTERED)}
    said |= {nth for nth in range(RECORDS) if believable and not states and nth < (current & ~PAUSED)}
    for span in left.done:
        assert span.records == RECORDS
        assert set(range(RECORDS)) <= said | in_hand | done
    if left.first_open is not None:
        assert set(range(left.first_open.at.nth)) <= said | in_hand | done


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(0, 255), min_size=RECORDS, max_size=RECORDS))
def test_marks_of_records_that_travel_by_themselves_may_say_anything(journal: Journal, tickets: list[int]) -> None:
    books = given_books(in_hand=set(), settled=set())
    book = books.spans[1]
    for nth, state in enumerate(tickets):
        books.known(At(1, nth)).ticket = nth
        journal.set_ticket(nth, state)
    book.slot = None
    loss = books.lost(journal)
    assert {named.at.nth for named in loss.running} == {nth for nth, state in enumerate(tickets) if state in (1, 5)}
    assert dict(loss.done) == {At(1, nth): state == FILTERED for nth, state in enumerate(tickets) if state in (2, 3)}
