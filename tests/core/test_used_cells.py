"""A cell in which others have run, alone and well: it can clear a suspect, and convicts nobody."""

from __future__ import annotations

import pytest

from streamheal.core.host import Host
from streamheal.core.messages import (
    CallHuman,
    Cause,
    Order,
    Quarantine,
    RunAlone,
    Settle,
    Signal,
    Verdict,
)
from streamheal.core.policy import Policy
from tests.core.telling import Telling, at, suspect_runs, verdict_of, verdicts


def test_only_of_whom_a_shared_death_is_all_that_is_known_may_run_where_others_have() -> None:
    """3 had raised before, and runs again when the process dies; 4 runs for the first time."""
    story = Telling()
    story.fails(3, now=1.0)
    story.ticks(1.5)
    alone = [decision for decision in story.dies(3, 4, now=1.6) if isinstance(decision, RunAlone)]
    assert alone == [suspect_runs(4), RunAlone(at(3))]


def test_a_killer_that_dies_in_a_used_cell_dies_twice_alone_and_not_three_times() -> None:
    story = Telling()
    story.dies(3, 4, now=1.0)
    story.done_alone(4, now=1.5)
    assert story.fails(3, now=2.0, cause=Cause.CRASHED, used=True) == []
    assert story.another_succeeds(now=2.2) == [RunAlone(at(3))]
    assert story.fails(3, now=2.4, cause=Cause.CRASHED, alone=True) == []
    assert verdict_of(story.another_succeeds(now=2.6)) is Verdict.WITNESSED


def test_a_death_in_a_used_cell_is_not_what_convicts() -> None:
    """Even where one death alone were enough."""
    story = Telling(policy=Policy(crashes_alone_min=1))
    story.another_succeeds(now=0.9)
    story.dies(3, 4, now=1.0)
    story.fails(3, now=2.0, cause=Cause.CRASHED, used=True)
    assert story.another_succeeds(now=2.2) == [RunAlone(at(3))]


def test_an_innocent_that_dies_of_what_another_left_behind_is_done_in_a_fresh_cell() -> None:
    story = Telling()
    story.dies(3, 4, now=1.0)
    story.done_alone(3, now=1.5)
    story.fails(4, now=2.0, cause=Cause.CRASHED, used=True)
    assert story.another_succeeds(now=2.2) == [RunAlone(at(4))]
    assert story.done_alone(4, now=2.5) == [Settle(at(4))]
    assert not story.healer.undecided


def test_a_death_in_a_used_cell_explains_no_other() -> None:
    """Each suspect dies once in a used cell, and is done in a fresh one: six deaths without a culprit."""
    story = Telling(records=50)
    for death in range(1, 7):
        now = death * 10.0
        story.dies(death, now=now, death=death)
        said = story.fails(death, now + 1, Cause.CRASHED, used=True)
        assert Order.STOP_SHARD not in said
        story.another_succeeds(now + 2)
        said = story.done_alone(death, now + 3)
    assert said[-1] is Order.STOP_SHARD
    assert any(isinstance(decision, CallHuman) for decision in said)


def test_a_death_that_its_suspect_repeats_in_a_fresh_cell_is_explained() -> None:
    story = Telling(records=50)
    for death in range(1, 20):
        now = death * 10.0
        story.dies(death, now=now, death=death)
        story.fails(death, now + 1, Cause.CRASHED, used=True)
        story.another_succeeds(now + 2)
        assert Order.STOP_SHARD not in story.fails(death, now + 3, Cause.CRASHED, alone=True)
        story.another_succeeds(now + 4)


def test_after_a_failure_alone_the_next_cell_is_anothers_who_is_in_line() -> None:
    """To go on where one has succeeded costs nothing. 3 died, so that 4 needs a new process as the other does."""
    policy = Policy(cells_max=1)
    host = Host(policy)
    story = Telling(policy=policy, host=host)
    assert suspect_runs(3) in story.dies(3, now=1.0)
    assert not host.take_cell("another", 1.1, fresh=False)
    story.dies(4, now=1.2, death=2)
    assert story.fails(3, now=1.3, cause=Cause.CRASHED, used=True) == []
    assert host.take_cell("another", 1.3, fresh=False)


def test_poison_in_a_used_cell_is_poison_and_the_death_has_one_suspect_less() -> None:
    story = Telling(records=50)
    for death in range(1, 7):
        story.dies(death, now=float(death), death=death)
        said = story.fails(death, death + 0.1, Cause.POISON, used=True)
        assert verdict_of(said) in (Verdict.SAID_SO, None)
    assert said[-1] is Order.STOP_SHARD


@pytest.mark.parametrize("replaying", [False, True])
def test_a_hang_in_a_used_cell_is_tried_again_in_a_fresh_one_at_once(replaying: bool) -> None:
    """A thread that another left behind may have held the interpreter."""
    story = Telling(policy=Policy(replaying=replaying, checkpoint_s=0.0))
    story.another_succeeds(now=0.9)
    story.dies(3, 4, now=1.0)
    for second in range(1, 32):
        story.another_succeeds(now=float(second))
    assert story.fails(3, now=31.5, cause=Cause.OVERRAN, used=True, took_s=30.0) == [RunAlone(at(3))]
    assert verdict_of(story.another_succeeds(now=31.8)) is None
    assert story.done_alone(3, now=32.0) == [Settle(at(3))]


def test_what_raises_in_a_used_cell_has_had_one_try_and_not_its_last() -> None:
    story = Telling(policy=Policy(attempts_max=1))
    story.dies(3, 4, now=1.0)
    story.done_alone(4, now=1.1)
    story.another_succeeds(now=1.2)
    assert story.fails(3, now=1.5, used=True) == []
    assert story.another_succeeds(now=1.8) == [RunAlone(at(3))]
    assert story.fails(3, now=2.0, alone=True) == []
    assert verdict_of(story.another_succeeds(now=2.2)) is Verdict.WITNESSED


def test_whoever_is_throttled_in_a_used_cell_is_still_suspected_of_the_death() -> None:
    story = Telling(records=50)
    story.dies(3, now=1.0)
    story.fails(3, now=1.1, cause=Cause.THROTTLED, used=True)
    assert story.ticks(2.0) == [RunAlone(at(3))]
    story.fails(3, now=2.1, cause=Cause.CRASHED, alone=True)
    assert story.dies(now=2.2, death=2)[0].delay_s == 0.5, "the death of nobody is the first without a culprit"  # type: ignore[union-attr]  # it is a Start


def test_what_others_left_behind_and_one_outage_are_no_way_in_which_a_record_fails() -> None:
    """A hang in a used cell, then a success of another, then hangs in fresh ones, which may be an outage: with
    somebody else undecided nobody is left over."""
    story = Telling(policy=Policy(attempts_max=1, checkpoint_s=1e9))
    story.the_rest_is_done(0.9, 9, 10)
    story.fails(9, now=1.0, likeness="something else")
    story.dies(10, now=1.0)
    story.fails(10, now=31.0, cause=Cause.OVERRAN, likeness="kind 10", used=True, took_s=29.0)
    story.another_succeeds(now=32.0)
    found = []
    story.fails(9, now=33.0, likeness="kind 9", alone=True)
    story.fails(10, now=62.0, cause=Cause.OVERRAN, likeness="kind 10", alone=True, took_s=29.0)
    for _ in range(20):
        now = story.wakes()
        said = story.happens(Signal.TICKED, now)
        found += verdicts(said)
        for decision in said:
            if isinstance(decision, RunAlone):
                sequence = decision.at.nth + 1
                cause = Cause.OVERRAN if sequence == 10 else Cause.RAISED
                kind = f"kind {sequence}"
                found += verdicts(story.fails(sequence, now, cause, likeness=kind, alone=True, took_s=0.0))
    assert not [one for one in found if isinstance(one, Quarantine) and one.at == at(10)]
