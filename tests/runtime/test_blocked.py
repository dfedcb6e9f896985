"""A record that holds its shard up is told of, once, with what it waits for."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from streamheal.core.messages import At, Cause, Checkpointed, SpanArrived, SpanDone, Stored
from streamheal.core.policy import Policy
from streamheal.core.waiting import Wait, Waits
from streamheal.records import Position, Record
from streamheal.runtime.blocked import Blocked, worded
from streamheal.runtime.casebook import Casebook
from streamheal.runtime.chronicle import Chronicle
from tests.core.telling import Telling, at
from tests.runtime.fakes import FakePool, FakeSeat, attempt
from tests.runtime.test_runtime import fine

NAMES = {"stream": "orders", "shard_id": "shard-0"}


class Watched:
    """One shard with ten records, looked at every second."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.story = Telling(records=10, policy=policy or Policy(checkpoint_s=0.0))
        self.pool = FakePool(fine)
        self.seat = FakeSeat(self.pool, None)  # type: ignore[arg-type]  # nobody listens
        for sequence in range(1, 11):
            self.seat.records[at(sequence)] = Record(b"", "key", str(sequence))
        self.casebook = Casebook()
        self.events: list[tuple[str, dict[str, Any]]] = []
        chronicle = Chronicle(structlog.get_logger())
        chronicle.listen(lambda event, fields: self.events.append((event, fields)))
        self.blocked = Blocked(
            self.story.healer, self.seat, self.casebook, chronicle, lambda record: f"id-{record.sequence_number}"
        )
        self.now = 0.0

    def passes(self, seconds: int, *, seated: bool = True) -> list[str]:
        """Time passes; returns what was told meanwhile."""
        before = len(self.events)
        for _ in range(seconds):
            self.now += 1.0
            self.blocked.look(self.now, 60.0, NAMES, seated=seated)
        return [event for event, _ in self.events[before:]]

    def done(self, *sequences: int) -> None:
        self.pool.settled |= {at(sequence) for sequence in sequences}


def test_a_record_that_stays_the_oldest_is_told_of_once() -> None:
    watched = Watched()
    assert watched.passes(60) == []
    assert watched.passes(1) == ["shard_blocked"]
    assert watched.passes(600) == []
    assert watched.events[0][1] == NAMES | {
        "sequence_number": "1",
        "id": "id-1",
        "for_s": 60.0,
        "waits_for": "its worker: it runs, or has its turn to come",
        "attempts": 0,
        "last_failure": None,
    }
    assert watched.blocked.waits_for == "its worker: it runs, or has its turn to come"


def test_the_end_of_it_is_told_as_well() -> None:
    watched = Watched()
    watched.passes(100)
    watched.done(1)
    assert watched.passes(1) == ["shard_unblocked"]
    assert watched.events[-1][1] == NAMES | {"sequence_number": "1", "id": "id-1", "after_s": 100.0}
    assert watched.blocked.waits_for is None


def test_slow_records_that_move_on_one_after_the_other_block_nothing() -> None:
    """A span of ten takes nine minutes. Its watermark stands all that time; its marks do not."""
    watched = Watched()
    for sequence in range(1, 11):
        assert watched.passes(55) == []
        watched.done(sequence)


def test_the_next_record_that_holds_it_up_is_told_of_again() -> None:
    watched = Watched()
    watched.passes(61)
    watched.done(1, 2, 3)
    assert watched.passes(62) == ["shard_unblocked", "shard_blocked"]
    assert watched.events[-1][1]["sequence_number"] == "4"


def test_a_failing_record_is_told_of_with_its_tries_and_what_comes_next() -> None:
    watched = Watched(Policy(retry_s_min=100.0, retry_s_max=100.0, checkpoint_s=0.0))
    watched.casebook.add(at(3), attempt("exception", "KeyError"))
    watched.story.fails(3, now=0.5)
    watched.story.the_rest_is_done(0.6)
    assert watched.passes(61) == ["shard_blocked"]
    fields = watched.events[0][1]
    assert (fields["id"], fields["attempts"], fields["last_failure"]) == ("id-3", 1, "KeyError")
    assert fields["waits_for"] == "its next try in 40 s"
    watched.passes(10)
    assert watched.blocked.waits_for == "its next try in 30 s"


def test_a_store_that_does_not_answer_is_named() -> None:
    watched = Watched()
    watched.story.fails(3, now=0.5, cause=Cause.POISON)
    watched.story.the_rest_is_done(0.6)
    assert watched.passes(61) == ["shard_blocked"]
    assert watched.blocked.waits_for == "the quarantine to acknowledge it"
    watched.story.happens(Stored(at(3)), watched.now)
    watched.story.kept(10, watched.now)
    assert watched.passes(1) == ["shard_unblocked"]


def test_an_engine_that_does_not_answer_is_named() -> None:
    watched = Watched()
    watched.story.the_rest_is_done(0.6)
    assert watched.passes(61) == ["shard_blocked"]
    assert watched.events[0][1]["sequence_number"] == "10"
    assert watched.blocked.waits_for == "the engine to acknowledge a checkpoint; every record is settled"


def test_an_idle_shard_is_not_blocked() -> None:
    watched = Watched()
    watched.story.the_rest_is_done(0.6)
    watched.story.kept(10, 0.7)
    assert watched.passes(1000) == []


def test_checkpoints_that_follow_each_other_are_answered() -> None:
    """At each look one is on its way, never the same for long."""
    watched = Watched()
    watched.story.the_rest_is_done(0.6)
    for span in range(2, 120):
        watched.story.happens(Checkpointed(watched.story.healer.unacknowledged), watched.now)
        watched.story.happens(SpanArrived(span, 1), watched.now)
        watched.story.happens(SpanDone(span, 1, Position(span * 10)), watched.now)
        assert watched.passes(1) == []


def test_where_no_worker_has_the_shard_that_is_said() -> None:
    watched = Watched()
    watched.passes(61, seated=False)
    assert watched.blocked.waits_for == "a worker: the processor is not initialized"


def test_a_watch_that_fails_stops_nobody() -> None:
    watched = Watched()
    watched.seat.first_open = lambda span: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    assert watched.passes(100) == ["rule_broken"]
    assert not watched.story.healer.over


@pytest.mark.parametrize("what", list(Waits))
def test_everything_that_can_be_waited_for_has_words(what: Waits) -> None:
    assert worded(Wait(what), 0.0)


def test_known_records_are_shown_before_they_block() -> None:
    watched = Watched()
    watched.story.fails(3, now=0.5)
    assert watched.blocked.waits_for == "1 suspect to be judged"
    assert watched.story.healer.undecided == (At(1, 2),)
