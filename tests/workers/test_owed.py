"""What a processor owes, as its worker keeps the account and the core reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamheal.core.messages import Stated
from streamheal.core.statements import Statements
from streamheal.records import Position
from streamheal.workers.child.owed import OutOfRange, Owed, Place


def owed() -> tuple[Owed, list[tuple[int | None, bool]]]:
    """An account, and all it has told: (sequence number, owes)."""
    account, told = Owed(), list[tuple[int | None, bool]]()
    account.tell = lambda place, owes: told.append((place and place[0], owes))
    return account, told


def call(account: Owed, *sequences: int, states: int | None = None) -> None:
    account.called((sequences[0], 0), (sequences[-1], 0))
    if states is not None:
        account.state((states, 0))
    account.returned((sequence, 0) for sequence in sequences)


def test_calls_without_a_word_are_told_of_once() -> None:
    account, told = owed()
    call(account, 1, 2, 3)
    call(account, 4, 5)
    assert told == [(None, True)]
    account.state((4, 0))
    call(account, 6)
    account.state_part()
    assert told[1:] == [(4, True), (6, False)]


def test_a_processor_that_states_every_call_never_owes() -> None:
    account, told = owed()
    call(account, 1, 2, states=2)
    call(account, 3, 4, states=4)
    assert told == [(2, False), (4, False)]


def test_a_record_out_of_turn_is_owed_until_it_is_stated_itself() -> None:
    account, told = owed()
    call(account, 1, 2, 4, 5, states=5)
    call(account, 3)
    assert told == [(5, False), (None, True)]
    account.state((3, 0))
    assert told[-1] == (5, False)


def test_a_call_that_raised_owes_nothing() -> None:
    account, told = owed()
    account.called((1, 0), (9, 0))
    account.state((9, 0))
    assert told == [(9, False)]
    call(account, 1, 2, 3, states=3)
    assert told[-1] == (9, False)


def test_a_part_that_stands_in_a_failed_call_states_its_own_end() -> None:
    """Bisected: eight raised, the first four return. To state their end is not to state the others'."""
    account, told = owed()
    account.called((1, 0), (8, 0))
    account.called((1, 0), (4, 0))
    account.state_part()
    account.returned([])
    assert told == [(4, False)]


@pytest.mark.parametrize("sequence", [0, 4, 9])
def test_what_cannot_be_stated_is_refused(sequence: int) -> None:
    """Before the checkpoint, before what was stated, and beyond what was given."""
    account, _ = owed()
    account.after = (2, 0)
    call(account, 3, 4, 5, states=5)
    call(account, 6, 7, 8)
    with pytest.raises(OutOfRange):
        account.state((sequence, 0))


def test_the_checkpoint_that_it_began_with_may_be_stated_before_anything_is_given() -> None:
    account, told = owed()
    account.after = (2, 0)
    account.state((2, 0))
    assert told == []
    with pytest.raises(OutOfRange):
        account.state((3, 0))


def test_a_record_that_runs_again_may_be_stated_again() -> None:
    """It would be no fault of its own to come late."""
    account, told = owed()
    call(account, 1, 2, 4, states=4)
    call(account, 3, states=3)
    assert told[-1] == (4, False)


SPAN = 12


@given(st.data())
def test_no_checkpoint_ever_passes_a_record_that_was_returned_from_and_not_stated(data: st.DataObject) -> None:
    """Records run in any order, in calls of any size, some failing; the processor states what and when it likes."""
    statements = Statements()
    settled: set[int] = set()
    unstated: set[int] = set()

    def watermark() -> Position:
        return Position(next(n for n in range(SPAN + 1) if n + 1 not in settled))

    def heard(place: Place | None, owes: bool) -> None:
        statements.stated(Stated(None if place is None else Position(*place), owes), watermark())

    def check() -> None:
        safe = statements.limited(watermark())
        assert safe is not None
        assert safe <= watermark()
        assert not unstated or safe.sequence < min(unstated)
        if not unstated:
            assert safe == watermark()

    account = Owed()
    account.tell = heard
    given_so_far: list[int] = []
    stated_in_call = 0

    def state(sequence: int, *, running: bool) -> None:
        try:
            account.state((sequence, 0))
        except OutOfRange:
            return
        nonlocal stated_in_call
        stated_in_call = max(stated_in_call, sequence) if running else stated_in_call
        unstated.difference_update(range(sequence + 1))

    while len(settled) < SPAN and data.draw(st.booleans(), "go on"):
        left = sorted(set(range(1, SPAN + 1)) - settled)
        part = sorted(data.draw(st.sets(st.sampled_from(left), min_size=1), "call"))
        stated_in_call = 0
        account.called((part[0], 0), (part[-1], 0))
        given_so_far += part
        if data.draw(st.booleans(), "states"):
            state(data.draw(st.sampled_from(given_so_far)), running=True)
        check()
        if data.draw(st.booleans(), "returns"):
            account.returned((sequence, 0) for sequence in part)
            unstated.update(sequence for sequence in part if sequence > stated_in_call)
            settled.update(part)
        check()
        if data.draw(st.booleans(), "states between"):
            state(data.draw(st.sampled_from(given_so_far)), running=False)
            check()
