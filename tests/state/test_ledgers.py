from __future__ import annotations

from typing import Any

import pytest

from streamheal.errors import StateUnavailable
from streamheal.records import Position
from streamheal.state.base import State
from streamheal.state.ledgers import Checkpoint, Checkpoints, ReplayLedger, Starts, selection_hash
from streamheal.state.sqlite import SqliteState

SHARD = "shardId-000000000000"
FAR = Position(49638000000000000000000000000000000000000000000000004711, 3)


class LosesAnswers:
    """A state whose writes arrive, and whose answers to them are lost, every other time."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def write(self, kind: str, key: str, value: dict[str, Any], *, replaces: int | None) -> int:
        version = self._state.write(kind, key, value, replaces=replaces)
        self._writes += 1
        if self._writes % 2:
            raise StateUnavailable("the connection was cut")
        return version


def insist(call: Any) -> Any:
    while True:
        try:
            return call()
        except StateUnavailable:
            continue


# -- checkpoints ---------------------------------------------------------------------------


def test_a_checkpoint_is_there_for_the_next_life(state: SqliteState) -> None:
    checkpoints = Checkpoints(state, "shop-orders", "orders")
    assert checkpoints.read_all() == {}
    checkpoints.begin(SHARD, "LATEST 2026-11-24T12:00:00Z")
    checkpoints.write(SHARD, FAR)
    checkpoints.write_ended("shardId-000000000001")
    assert Checkpoints(state, "shop-orders", "orders").read_all() == {
        SHARD: Checkpoint(FAR, ended=False, began="LATEST 2026-11-24T12:00:00Z"),
        "shardId-000000000001": Checkpoint(None, ended=True, began=None),
    }


def test_applications_and_streams_do_not_see_each_other(state: SqliteState) -> None:
    Checkpoints(state, "shop-orders", "orders").write(SHARD, FAR)
    assert Checkpoints(state, "shop-orders", "order").read_all() == {}
    assert Checkpoints(state, "shop", "orders").read_all() == {}


def test_a_checkpoint_never_goes_back(state: SqliteState) -> None:
    checkpoints = Checkpoints(state, "shop-orders", "orders")
    checkpoints.write(SHARD, Position(9))
    checkpoints.write(SHARD, Position(10))
    Checkpoints(state, "shop-orders", "orders").write(SHARD, Position(2))
    assert checkpoints.read_all()[SHARD].position == Position(10)


def test_what_was_of_another_stream_is_forgotten_wholly(state: SqliteState) -> None:
    """A stream of the same name, made again: even a lower position counts then."""
    checkpoints = Checkpoints(state, "shop-orders", "orders")
    checkpoints.write(SHARD, FAR)
    checkpoints.write_ended(SHARD)
    checkpoints.forget(SHARD)
    assert checkpoints.read_all() == {}
    checkpoints.begin(SHARD, "TRIM_HORIZON")
    checkpoints.write(SHARD, Position(1))
    assert checkpoints.read_all() == {SHARD: Checkpoint(Position(1), ended=False, began="TRIM_HORIZON")}


def test_only_the_first_beginning_counts(state: SqliteState) -> None:
    checkpoints = Checkpoints(state, "shop-orders", "orders")
    checkpoints.begin(SHARD, "first")
    Checkpoints(state, "shop-orders", "orders").begin(SHARD, "second")
    assert checkpoints.read_all()[SHARD].began == "first"


def test_a_write_whose_answer_was_lost_is_made_good(state: SqliteState) -> None:
    checkpoints = Checkpoints(LosesAnswers(state), "shop-orders", "orders")
    for nth in range(1, 8):
        insist(lambda nth=nth: checkpoints.write(SHARD, Position(nth)))
    insist(lambda: checkpoints.write_ended(SHARD))
    assert checkpoints.read_all() == {SHARD: Checkpoint(Position(7), ended=True)}


# -- starts --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["many", None, -3, [2], {"of": 2}, 1.5])
def test_a_count_that_is_none_begins_anew(state: SqliteState, count: Any) -> None:
    state.write("shop-orders#start", f"orders/{SHARD}", {"checkpoint": None, "count": count}, replaces=None)
    assert Starts(state, "shop-orders", "orders").count(SHARD, None) == 1


def test_starts_from_one_checkpoint_are_counted(state: SqliteState) -> None:
    def begun(position: Position | None) -> int:
        return Starts(state, "shop-orders", "orders").count(SHARD, position)

    assert [begun(None), begun(None), begun(FAR), begun(FAR), begun(FAR)] == [1, 2, 1, 2, 3]
    assert begun(Position(FAR.sequence, FAR.sub_sequence + 1)) == 1
    assert Starts(state, "shop-orders", "orders").count("shardId-000000000001", FAR) == 1


def test_a_shard_left_in_order_is_begun_as_if_that_start_had_not_been(state: SqliteState) -> None:
    starts = Starts(state, "shop-orders", "orders")
    assert starts.count(SHARD, FAR) == 1
    starts.take_back(SHARD, FAR, 1)
    assert Starts(state, "shop-orders", "orders").count(SHARD, FAR) == 1


def test_a_host_that_leaves_in_order_does_not_take_back_the_starts_of_those_that_died(state: SqliteState) -> None:
    died, starts = Starts(state, "shop-orders", "orders"), Starts(state, "shop-orders", "orders")
    assert [died.count(SHARD, FAR), starts.count(SHARD, FAR)] == [1, 2]
    starts.take_back(SHARD, FAR, 2)
    starts.take_back(SHARD, FAR, 2)  # the answer to the first was lost
    assert Starts(state, "shop-orders", "orders").count(SHARD, FAR) == 2


def test_a_host_counts_once_though_the_answer_was_lost_and_it_counts_again(state: SqliteState) -> None:
    """It would be cautious for its own sake. Where it has taken its start back, it counts anew."""
    starts = Starts(state, "shop-orders", "orders")
    assert [starts.count(SHARD, FAR), starts.count(SHARD, FAR)] == [1, 1]
    starts.take_back(SHARD, FAR, 1)
    assert starts.count(SHARD, FAR) == 1
    assert Starts(state, "shop-orders", "orders").count(SHARD, FAR) == 2


def test_what_the_next_host_has_counted_meanwhile_stands(state: SqliteState) -> None:
    """The shard is handed over before the old host has taken back its start."""
    old, new = Starts(state, "shop-orders", "orders"), Starts(state, "shop-orders", "orders")
    assert old.count(SHARD, FAR) == 1
    assert new.count(SHARD, FAR) == 2
    old.take_back(SHARD, FAR, 1)
    assert Starts(state, "shop-orders", "orders").count(SHARD, FAR) == 3


def test_doubt_outlives_the_host_and_its_starts(state: SqliteState) -> None:
    starts = Starts(state, "shop-orders", "orders")
    assert starts.doubt(SHARD) is None
    starts.count(SHARD, FAR)
    starts.set_doubt(SHARD, FAR)
    later = Starts(state, "shop-orders", "orders")
    assert later.count(SHARD, FAR) == 2
    assert later.doubt(SHARD) == FAR
    later.set_doubt(SHARD, None)
    assert starts.doubt(SHARD) is None


@pytest.mark.parametrize("kept", [True, "12", "12/x", "/", [1], {"sequence": 12}])
def test_a_doubt_that_cannot_be_understood_is_about_nobody_in_particular(state: SqliteState, kept: object) -> None:
    """An earlier version kept no more than that there is one."""
    state.write("shop-orders#start", f"orders/{SHARD}", {"doubt": kept}, replaces=None)
    doubt = Starts(state, "shop-orders", "orders").doubt(SHARD)
    assert doubt is not None
    assert doubt < FAR


# -- replays -------------------------------------------------------------------------------

IDS = [f"id{nth:014}" for nth in range(450)]


def test_a_killed_replay_goes_on_where_it_was(state: SqliteState) -> None:
    first = ReplayLedger(state, "shop-orders")
    first.open("replay-1", IDS, selection="--all")
    first.settle("replay-1", IDS[:230], "healed")
    first.settle("replay-1", [IDS[440]], "failed")

    second = ReplayLedger(state, "shop-orders")
    assert second.unfinished() == {"replay-1": "--all"}
    second.open("replay-1", ["others", "by now"], selection="--all")
    assert second.pending("replay-1") == [*IDS[230:440], *IDS[441:]]


def test_a_replay_is_finished_once_all_is_settled_and_leaves_a_summary(state: SqliteState) -> None:
    ledger = ReplayLedger(state, "shop-orders")
    ledger.open("replay-1", IDS)
    ledger.settle("replay-1", IDS[1:], "healed")
    assert ledger.unfinished() == {"replay-1": selection_hash(IDS)}
    ledger.settle("replay-1", IDS[:1], "failed")
    assert ledger.unfinished() == {}
    assert ledger.pending("replay-1") == []
    assert list(state.scan("shop-orders#replay-ids")) == []
    (head,) = state.scan("shop-orders#replay")
    assert head.value["outcomes"] == {"healed": 449, "failed": 1}
    ledger.settle("replay-1", IDS, "healed")
    ledger.open("replay-1", IDS)
    assert ledger.pending("replay-1") == [], "a finished replay is not begun anew"


def test_the_first_outcome_of_a_record_stays(state: SqliteState) -> None:
    ledger = ReplayLedger(state, "shop-orders")
    ledger.open("replay-1", IDS[:3])
    ledger.settle("replay-1", [IDS[0], IDS[0], "unknown"], "failed")
    ledger.settle("replay-1", IDS[:3], "healed")
    (head,) = state.scan("shop-orders#replay")
    assert head.value["outcomes"] == {"healed": 2, "failed": 1}


def test_nothing_selected_is_finished_at_once(state: SqliteState) -> None:
    ledger = ReplayLedger(state, "shop-orders")
    ledger.open("replay-1", [])
    assert ledger.unfinished() == {}


def test_a_replay_killed_while_it_was_opened_is_opened_anew(state: SqliteState) -> None:
    """Its chunks were being written: without the head there is no replay."""

    class Dies(Exception):
        pass

    class DiesAtTheHead(LosesAnswers):
        def write(self, kind: str, key: str, value: dict[str, Any], *, replaces: int | None) -> int:
            if kind == "shop-orders#replay":
                raise Dies
            return self._state.write(kind, key, value, replaces=replaces)

    with pytest.raises(Dies):
        ReplayLedger(DiesAtTheHead(state), "shop-orders").open("replay-1", IDS)
    ledger = ReplayLedger(state, "shop-orders")
    assert ledger.unfinished() == {}
    ledger.open("replay-1", IDS[5:])
    assert ledger.pending("replay-1") == IDS[5:], "the chunks of the first try are gone or written over"


def test_a_replay_killed_at_its_very_end_is_finished_by_the_next(state: SqliteState) -> None:
    class NoHead(LosesAnswers):
        def write(self, kind: str, key: str, value: dict[str, Any], *, replaces: int | None) -> int:
            if kind == "shop-orders#replay" and value["finished"]:
                raise StateUnavailable("gone")
            return self._state.write(kind, key, value, replaces=replaces)

    cut_off = ReplayLedger(NoHead(state), "shop-orders")
    cut_off.open("replay-1", IDS)
    with pytest.raises(StateUnavailable):
        cut_off.settle("replay-1", IDS, "healed")
    ledger = ReplayLedger(state, "shop-orders")
    assert ledger.pending("replay-1") == []
    assert ledger.unfinished() == {}


def test_lost_answers_settle_nothing_twice(state: SqliteState) -> None:
    ledger = ReplayLedger(LosesAnswers(state), "shop-orders")
    insist(lambda: ledger.open("replay-1", IDS))
    for nth in range(0, 450, 50):
        insist(lambda nth=nth: ledger.settle("replay-1", IDS[nth : nth + 50], "healed"))
    (head,) = state.scan("shop-orders#replay")
    assert head.value["outcomes"] == {"healed": 450}
