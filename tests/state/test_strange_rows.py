"""Rows that another version, or a person, has written: told of, or as if they were not there; never a wrong place."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamheal.errors import StateError
from streamheal.records import Position
from streamheal.state.ledgers import Checkpoint, Checkpoints, ReplayLedger, Starts
from streamheal.state.sqlite import SqliteState

SHARD = "shardId-000000000000"
ROW = {"sequence": "4711", "sub_sequence": 3, "ended": False, "began": "TRIM_HORIZON"}

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)
rows = st.dictionaries(st.sampled_from([*ROW, "checkpoint", "count", "doubt", "later"]), anything, max_size=4)


@pytest.fixture(scope="module")
def state() -> Iterator[SqliteState]:
    with tempfile.TemporaryDirectory() as folder:
        made = SqliteState(Path(folder, "state.db"))
        made.check()
        yield made
        made.close()


def put(state: SqliteState, kind: str, key: str, value: dict[str, Any]) -> None:
    there = state.read(kind, key)
    state.write(kind, key, value, replaces=None if there is None else there.version)


often = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


@often
@given(rows)
@example({"sequence": "nonsense"})
@example({"sequence": "-5"})
@example({"sequence": 4711.5})
@example({"sequence": True})
@example({"sub_sequence": "x"})
@example({"ended": "no"})
def test_a_checkpoint_is_what_was_written_or_told_of_and_never_another_place(
    state: SqliteState, changed: dict[str, Any]
) -> None:
    put(state, "app#checkpoint", f"orders/{SHARD}", ROW | changed)
    checkpoints = Checkpoints(state, "app", "orders")
    try:
        found = checkpoints.read_all()[SHARD]
    except StateError:
        return
    assert found.position in (None, Position(4711, 3)) or changed.keys() & {"sequence", "sub_sequence"}
    if found.position is not None:
        assert found.position.sequence >= 0
    assert isinstance(found, Checkpoint)
    assert isinstance(found.ended, bool)


@often
@given(rows)
@example({"checkpoint": "4711/0", "count": "three"})
@example({"checkpoint": "4711/0", "count": -3})
def test_a_start_is_counted_whatever_is_there(state: SqliteState, value: dict[str, Any]) -> None:
    put(state, "app#start", f"orders/{SHARD}", value)
    starts = Starts(state, "app", "orders")
    first = starts.count(SHARD, Position(4711))
    assert first >= 1
    assert Starts(state, "app", "orders").count(SHARD, Position(4711)) == first + 1
    assert isinstance(starts.doubt(SHARD), Position | None)
    starts.take_back(SHARD, Position(4711), first + 1)


@often
@given(rows)
def test_a_replay_that_cannot_be_read_is_told_of(state: SqliteState, value: dict[str, Any]) -> None:
    put(state, "app#replay-ids", "replay/000000", value)
    with suppress(StateError):
        assert isinstance(ReplayLedger(state, "app").pending("replay"), list)
