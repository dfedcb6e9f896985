"""Who ran when a host was killed whole: written by one life, read by the next, accusing nobody wrongly."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamheal.records import Position
from streamheal.state.marks import Death, Found, Marks, Running, Suspect
from streamheal.state.sqlite import SqliteState
from tests.state.test_ledgers import LosesAnswers, insist

SHARD = "shardId-000000000000"
FAR = Position(49638000000000000000000000000000000000000000000000004711, 3)


@pytest.fixture
def marks(state: SqliteState) -> Marks:
    return Marks(state, "shop-orders", "orders")


def test_nothing_is_found_where_nobody_was_marked(marks: Marks) -> None:
    assert marks.begin(SHARD, "one", None, 1.0) == Found()


def test_who_ran_when_a_host_died_is_suspect_in_the_next_life(marks: Marks, state: SqliteState) -> None:
    assert marks.write(SHARD, "one", [Running(FAR, 5.0), Running(Position(7), 5.5)], claim=True)
    found = Marks(state, "shop-orders", "orders").begin(SHARD, "two", None, 9.0)
    assert found == Found(
        (Suspect(Position(7), (Death("one", 5.5, 9.0, False),)), Suspect(FAR, (Death("one", 5.0, 9.0, False),)))
    )


def test_deaths_add_up_over_lives_until_the_spot_is_passed(marks: Marks) -> None:
    marks.write(SHARD, "one", [Running(FAR, 5.0)], claim=True)
    for life in ("two", "three"):
        marks.begin(SHARD, life, None, 9.0)
        assert marks.write(SHARD, life, [Running(FAR, 10.0, alone=True)], claim=True)
    (suspect,) = marks.begin(SHARD, "four", None, 20.0).suspects
    assert [death.life for death in suspect.deaths] == ["one", "two", "three"]
    assert [death.life for death in suspect.alone] == ["two", "three"]
    marks.write(SHARD, "four", [], claim=True)
    marks.clear(SHARD, "four")
    assert marks.begin(SHARD, "five", None, 30.0) == Found()


def test_where_the_last_host_to_die_had_marked_nobody_it_is_said(marks: Marks) -> None:
    marks.write(SHARD, "one", [Running(Position(7), 5.0)], claim=True)
    assert marks.begin(SHARD, "two", None, 6.0).explained
    assert not marks.begin(SHARD, "three", None, 7.0).explained


def test_a_suspect_whose_turn_did_not_come_before_the_next_death_stays_one(marks: Marks) -> None:
    marks.write(SHARD, "one", [Running(FAR, 5.0)], claim=True)
    marks.begin(SHARD, "two", None, 9.0)
    marks.write(SHARD, "two", [Running(Position(7), 10.0)], claim=True)
    found = marks.begin(SHARD, "three", None, 20.0)
    assert [suspect.position for suspect in found.suspects] == [Position(7), FAR]


def test_who_is_behind_the_checkpoint_is_not_suspect_any_more(marks: Marks) -> None:
    marks.write(SHARD, "one", [Running(FAR, 5.0), Running(Position(7), 5.0)], claim=True)
    assert [suspect.position for suspect in marks.begin(SHARD, "two", Position(7), 9.0).suspects] == [FAR]


def test_a_host_that_has_lost_the_shard_takes_its_marks_back_even_from_the_next(marks: Marks) -> None:
    """Its lease was taken away while a record ran alone: nobody died of that."""
    marks.write(SHARD, "one", [Running(FAR, 5.0, alone=True)], claim=True)
    assert marks.begin(SHARD, "two", None, 9.0).suspects
    marks.leave(SHARD, "one")
    assert marks.begin(SHARD, "three", None, 9.0) == Found()


def test_what_others_died_of_stays_when_a_living_host_leaves(marks: Marks) -> None:
    marks.write(SHARD, "one", [Running(FAR, 5.0, alone=True)], claim=True)
    marks.begin(SHARD, "two", None, 9.0)
    marks.write(SHARD, "two", [Running(FAR, 10.0, alone=True)], claim=True)
    marks.leave(SHARD, "two")
    (suspect,) = marks.begin(SHARD, "three", None, 20.0).suspects
    assert [death.life for death in suspect.deaths] == ["one"]


def test_a_shard_lost_and_given_back_within_one_life_has_seen_no_death(marks: Marks) -> None:
    marks.write(SHARD, "one", [Running(FAR, 5.0, alone=True)], claim=True)
    assert marks.begin(SHARD, "one", None, 9.0).suspects == ()


def test_a_start_that_was_taken_back_and_comes_late_leaves_the_marks_of_its_own_life(marks: Marks) -> None:
    """The shard was lost while its start was looked into, and is ours again, and runs."""
    marks.write(SHARD, "one", [Running(Position(7), 5.0)], claim=True)
    marks.begin(SHARD, "one", None, 6.0)
    assert [suspect.position for suspect in marks.begin(SHARD, "two", None, 9.0).suspects] == [Position(7)]


def test_a_host_that_has_lost_the_shard_writes_nothing_over_the_next_ones_marks(
    marks: Marks, state: SqliteState
) -> None:
    marks.write(SHARD, "one", [Running(FAR, 5.0)], claim=True)
    other = Marks(state, "shop-orders", "orders")
    other.begin(SHARD, "two", None, 9.0)
    assert not marks.write(SHARD, "one", [Running(Position(8), 6.0)])
    marks.clear(SHARD, "one")
    assert [suspect.position for suspect in other.begin(SHARD, "three", None, 9.0).suspects] == [FAR]


def test_an_answer_that_was_lost_doubles_no_death(state: SqliteState) -> None:
    marks = Marks(LosesAnswers(state), "shop-orders", "orders")
    insist(lambda: marks.write(SHARD, "one", [Running(FAR, 5.0, alone=True)], claim=True))
    insist(lambda: marks.begin(SHARD, "two", None, 9.0))
    (suspect,) = insist(lambda: marks.begin(SHARD, "two", None, 9.0)).suspects
    assert len(suspect.deaths) == 1


def test_a_mark_is_taken_back_though_the_answer_to_it_was_lost(state: SqliteState) -> None:
    """What is written next is as it was before the mark: that is not yet so."""
    marks = Marks(LosesAnswers(state), "shop-orders", "orders")
    seven, eight = [Running(Position(7), 5.0)], [Running(Position(8), 6.0)]
    insist(lambda: marks.write(SHARD, "one", seven, claim=True))
    for running in (eight, seven, eight, seven):
        insist(lambda running=running: marks.write(SHARD, "one", running))
        assert [one[0] for one in _row(state)["running"]] == [f"{running[0].position.sequence}/0"]


def _row(state: SqliteState) -> dict[str, Any]:
    row = state.read("shop-orders#running", f"orders/{SHARD}")
    assert row is not None
    return row.value


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(
        {}, optional={"version": st.just(1) | _ANY, "life": _ANY, "running": _ANY, "suspects": _ANY, "else": _ANY}
    )
)
def test_a_row_that_is_not_understood_stops_no_start_and_accuses_nobody(
    marks: Marks, state: SqliteState, value: dict[str, Any]
) -> None:
    state.delete("shop-orders#running", f"orders/{SHARD}")
    state.write("shop-orders#running", f"orders/{SHARD}", value, replaces=None)
    assert marks.begin(SHARD, "two", None, 9.0).suspects == ()
    assert marks.write(SHARD, "two", [Running(FAR, 10.0)], claim=True)
    assert marks.begin(SHARD, "three", None, 20.0).readable


def test_bytes_that_are_no_row_at_all_are_no_marks(marks: Marks, state: SqliteState) -> None:
    marks.write(SHARD, "one", [Running(FAR, 5.0)], claim=True)
    state._execute('UPDATE streamheal_rows SET value = \'{"version": 1, "li\'')
    assert marks.begin(SHARD, "two", None, 9.0) == Found(readable=False)
    assert marks.begin(SHARD, "two", None, 9.0) == Found()
