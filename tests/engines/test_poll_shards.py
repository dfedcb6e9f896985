"""Parents before children, from where each begins, decided without any AWS."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from streamheal.engines.poll_shards import Begin, Lineage, Listed
from streamheal.records import Position
from tests.engines.recorder import Remembered

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def lineage(
    *shards: Listed, start_at: object = "TRIM_HORIZON", checkpoints: Mapping[str, Remembered] | None = None
) -> Lineage:
    made = Lineage(checkpoints or {}, start_at)  # type: ignore[arg-type]  # a literal, to mypy
    made.listed(shards)
    return made


def begun(made: Lineage) -> list[str]:
    return [begin.shard_id for begin in made.next()]


OPEN, CLOSED = True, False
PARENT = Listed("0", (), CLOSED)
LOW, HIGH = Listed("1", ("0",), OPEN), Listed("2", ("0",), OPEN)


def test_children_wait_for_their_parent() -> None:
    made = lineage(PARENT, LOW, HIGH)
    assert begun(made) == ["0"]
    assert begun(made) == [], "each is named once"
    made.complete("0")
    assert begun(made) == ["1", "2"]


def test_a_merged_shard_waits_for_both_parents() -> None:
    made = lineage(Listed("0", (), CLOSED), Listed("1", (), CLOSED), Listed("2", ("0", "1"), OPEN))
    assert begun(made) == ["0", "1"]
    made.complete("1")
    assert begun(made) == []
    made.complete("0")
    assert begun(made) == ["2"]


def test_a_parent_that_was_trimmed_holds_nobody_up() -> None:
    assert begun(lineage(LOW, HIGH)) == ["1", "2"]


def test_a_parent_completed_by_an_earlier_run_holds_nobody_up() -> None:
    made = lineage(PARENT, LOW, HIGH, checkpoints={"0": Remembered(Position(5), ended=True)})
    assert begun(made) == ["1", "2"]


def test_a_checkpoint_is_where_a_shard_goes_on() -> None:
    made = lineage(Listed("0", (), OPEN), checkpoints={"0": Remembered(Position(5, 2), began="TRIM_HORIZON")})
    assert made.next() == [Begin("0", Position(5, 2), "TRIM_HORIZON", remembered=True, is_open=True)]


def test_from_latest_only_open_shards_are_read() -> None:
    made = lineage(PARENT, LOW, HIGH, start_at="LATEST")
    assert made.next() == [Begin("1", None, "LATEST", False, OPEN), Begin("2", None, "LATEST", False, OPEN)]


def test_what_follows_a_shard_that_was_read_is_read_from_its_beginning() -> None:
    made = lineage(Listed("0", (), OPEN), start_at="LATEST")
    assert begun(made) == ["0"]
    made.listed([PARENT, Listed("1", ("0",), CLOSED), HIGH, Listed("3", ("1",), OPEN)])
    made.complete("0")
    assert made.next() == [
        Begin("1", None, "TRIM_HORIZON", False, CLOSED),
        Begin("2", None, "TRIM_HORIZON", False, OPEN),
    ]
    made.complete("1")
    assert made.next() == [Begin("3", None, "TRIM_HORIZON", False, OPEN)]


def test_a_split_while_nobody_read_loses_nothing_from_latest() -> None:
    """The parent was begun by an earlier run and has no checkpoint yet: it starts where that run did."""
    made = lineage(PARENT, LOW, HIGH, start_at="LATEST", checkpoints={"0": Remembered(began=NOON.isoformat())})
    assert made.next() == [Begin("0", None, NOON, remembered=True, is_open=False)]
    made.complete("0")
    assert {begin.at for begin in made.next()} == {"TRIM_HORIZON"}


def test_parents_trimmed_while_nobody_read_lose_no_more_than_they_held() -> None:
    made = lineage(LOW, HIGH, start_at="LATEST", checkpoints={"0": Remembered(Position(5))})
    assert {begin.at for begin in made.next()} == {"TRIM_HORIZON"}


def test_a_time_is_where_every_shard_without_a_checkpoint_begins() -> None:
    made = lineage(PARENT, LOW, HIGH, start_at=NOON)
    assert [begin.at for begin in made.next()] == [NOON]
    made.complete("0")
    assert [begin.at for begin in made.next()] == [NOON, NOON]


def test_what_is_remembered_of_a_deleted_stream_of_that_name_does_not_count() -> None:
    """An open shard cannot be complete, and a checkpoint cannot lie before the shard's first number."""
    made = lineage(
        Listed("0", (), OPEN, first=100),
        Listed("1", (), OPEN, first=101),
        Listed("2", (), OPEN, first=102),
        checkpoints={
            "0": Remembered(Position(50), ended=True),
            "1": Remembered(Position(51)),
            "2": Remembered(Position(102), began="TRIM_HORIZON"),
        },
    )
    assert made.next() == [
        Begin("0", None, "TRIM_HORIZON", remembered=False, is_open=True),
        Begin("1", None, "TRIM_HORIZON", remembered=False, is_open=True),
        Begin("2", Position(102), "TRIM_HORIZON", remembered=True, is_open=True),
    ]
    assert made.foreign == ["0", "1"]


@given(st.data())
def test_however_shards_split_and_merge_each_is_read_once_and_after_its_parents(data: st.DataObject) -> None:
    """Any lineage, listed in any order, completed in any order."""
    tips = ["0", "1"]
    shards: dict[str, tuple[str, ...]] = {"0": (), "1": ()}
    for _ in range(data.draw(st.integers(0, 8))):
        made_of: list[tuple[str, ...]]
        if len(tips) > 1 and data.draw(st.booleans()):
            made_of = [(tips.pop(data.draw(st.integers(0, len(tips) - 1))), tips.pop())]
        else:
            made_of = [(tips.pop(data.draw(st.integers(0, len(tips) - 1))),)] * 2
        for one in made_of:
            tips.append(str(len(shards)))
            shards[tips[-1]] = one
    listed = [Listed(name, parents, name in tips) for name, parents in shards.items()]
    made = lineage(*data.draw(st.permutations(listed)))
    order = begun(made)
    running, complete = set(order), set[str]()
    while running:
        ended = data.draw(st.sampled_from(sorted(running)))
        running.discard(ended)
        complete.add(ended)
        made.complete(ended)
        for name in begun(made):
            assert set(shards[name]) <= complete
            running.add(name)
            order.append(name)
    assert sorted(order) == sorted(shards)
