"""What the oldest open record waits for, in every phase of a trouble."""

from __future__ import annotations

import pytest

from streamheal.core.case import Case, Phase
from streamheal.core.messages import At, Cause, Signal, StoreFailed
from streamheal.core.policy import Policy
from streamheal.core.waiting import Wait, Waits, waits
from streamheal.records import Position
from tests.core.telling import Telling, at, record


def test_a_record_that_nobody_has_complained_of_waits_for_its_worker() -> None:
    assert Telling().healer.waits(at(3)) == Wait(Waits.WORKER)


def test_between_tries_it_waits_for_the_next_one() -> None:
    story = Telling(policy=Policy(retry_s_min=4.0))
    story.fails(3, now=10.0)
    assert story.healer.waits(at(3)) == Wait(Waits.NEXT_TRY, 1, until=14.0)


def test_out_of_tries_it_waits_for_a_witness_and_then_for_its_try_alone() -> None:
    story = Telling(policy=Policy(attempts_max=2, checkpoint_s=1e9))
    story.fails(3, now=10.0)
    assert story.healer.waits(at(3)) == Wait(Waits.WITNESS, 1)
    story.another_succeeds(now=11.0)
    assert story.healer.waits(at(3)) == Wait(Waits.ALONE, 1)


def test_where_no_cell_is_free_it_waits_for_one() -> None:
    story = Telling(policy=Policy(cells_max=1, checkpoint_s=1e9))
    story.dies(3, 4, now=1.0)
    assert {story.healer.waits(at(nth)).what for nth in (3, 4)} == {Waits.ALONE, Waits.CELL}  # type: ignore[union-attr]


def test_a_record_to_be_stored_waits_for_the_store() -> None:
    story = Telling(policy=Policy(retry_s_min=4.0, checkpoint_s=1e9))
    story.fails(3, now=1.0, cause=Cause.POISON)
    assert story.healer.waits(at(3)) == Wait(Waits.STORE)
    story.happens(StoreFailed(at(3)), 2.0)
    assert story.healer.waits(at(3)) == Wait(Waits.STORE_AGAIN, until=6.0)


def test_in_a_pause_everything_waits_for_the_probe() -> None:
    story = Telling(policy=Policy(checkpoint_s=1e9, failing_s_min=1.0))
    story.fails(3, now=1.0)
    story.fails(4, now=1.1)
    story.happens(Signal.TICKED, 2.5)
    assert story.healer.paused
    probe = story.healer.waits(at(1))
    assert probe is not None
    assert probe.what is Waits.PROBE
    assert probe.until is not None
    assert probe.until > 2.5


def test_once_a_human_is_called_it_waits_for_one() -> None:
    case = Case(record(3), Phase.TRIED)
    for cause in (Cause.RAISED, Cause.RAISED, Cause.THROTTLED):
        case.failed((cause, "x"), 1.0, 2.0, own=True)
    assert waits(case, probe_at=None, human_called=True) == Wait(Waits.HUMAN, attempts=3)


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_is_known(phase: Phase) -> None:
    waits(Case(record(3), phase), probe_at=None, human_called=False)
    waits(Case(record(3), phase), probe_at=5.0, human_called=True)


def test_where_all_is_settled_the_engine_may_be_waited_for() -> None:
    story = Telling(records=10)
    assert story.healer.waits(None) is None
    story.the_rest_is_done(1.0)
    assert story.healer.ledger.first_open() is None
    assert story.healer.ledger.first_open_known() is None
    assert story.healer.waits(None) == Wait(Waits.ENGINE)
    assert story.healer.unacknowledged == Position(10)
    story.kept(10, now=2.0)
    assert story.healer.waits(None) is None


def test_the_ledger_tells_the_oldest_open_record_of_a_span_that_is_over() -> None:
    story = Telling(records=10, policy=Policy(checkpoint_s=1e9))
    story.fails(5, now=1.0)
    assert story.healer.ledger.first_open_known() is None
    story.the_rest_is_done(2.0, 7)
    assert story.healer.ledger.first_open_known() == At(1, 4)
