"""Pauses and their probes, and when a human is called, and why."""

from __future__ import annotations

import pytest

from streamheal.core.blame import Chain
from streamheal.core.healer import Healer
from streamheal.core.host import Host
from streamheal.core.messages import (
    CallHuman,
    Cause,
    Decision,
    Failed,
    Give,
    Limit,
    Quarantine,
    RunAlone,
    Signal,
    SpanArrived,
    SpanCounted,
    Start,
    Verdict,
    Witnessed,
)
from streamheal.core.patience import Patience
from streamheal.core.policy import Policy
from streamheal.records import Position
from tests.core.telling import Telling, at, record

PAUSING = Policy(attempts_max=1, patience_s=1e6, checkpoint_s=1e9, pause_s_min=5.0)
CALM = Policy(attempts_max=1, failing_min=99, checkpoint_s=1e9)


def paused(policy: Policy = PAUSING) -> Telling:
    """1 and 2 failed, and nobody else is left: the shard pauses at 3.0, and probes at 8.0."""
    story = Telling(policy=policy)
    story.the_rest_is_done(0.9, 1, 2)
    story.fails(1, now=1.0)
    story.fails(2, now=1.0)
    assert story.ticks(3.0) == [Limit(0)]
    assert story.wakes() == 8.0
    return story


# -- pauses --------------------------------------------------------------------------------


def test_a_fresh_record_is_probed_with_as_soon_as_the_least_gap_is_over_and_the_next_one_waits() -> None:
    """There was none to probe with when it came, and the gaps had grown. For the second there is the first."""
    story = paused()
    assert story.keeps_failing_alone(1, 2, now=3.0, until=20.0) == []
    assert story.wakes() == 38.0
    story.happens(SpanArrived(2, 10), 20.0)
    assert story.wakes() == 23.0
    assert Limit(1) in story.ticks(23.0)
    assert story.wakes() == 63.0
    story.happens(SpanArrived(3, 10), 24.0)
    assert story.wakes() == 63.0


def test_a_fresh_record_that_comes_long_after_the_last_probe_is_probed_with_at_once() -> None:
    story = paused()
    story.keeps_failing_alone(1, 2, now=3.0, until=20.0)
    assert Limit(1) in story.happens(SpanArrived(2, 10), 30.0)


def test_a_second_pause_probes_as_soon_as_the_first() -> None:
    story = paused()
    story.keeps_failing_alone(1, 2, now=3.0, until=100.0)
    assert Limit(None) in story.another_succeeds(now=101.0)
    for sequence in (1, 2):
        story.fails(sequence, now=102.0, alone=True)
    assert Limit(0) in story.ticks(104.0)
    assert story.wakes() == 109.0


def test_a_success_that_ended_with_the_last_failure_ends_the_pause() -> None:
    """Only failures that ended after it are not spoken for."""
    assert Limit(None) in paused().happens(Witnessed(0.9, 1.0), 4.0)
    assert paused().happens(Witnessed(0.9, 0.99), 4.0) == []


def test_in_doubt_one_failing_record_is_an_outage() -> None:
    """The last verdict said that nobody was left to ask. It counts for one more record that fails."""
    for doubt, pauses in ((Position(9), True), (None, False)):
        healer = Healer("shard", PAUSING, Host(PAUSING), doubt=doubt)
        healer.handle(SpanArrived(1, 10), 0.0)
        healer.handle(SpanCounted(1, 10), 0.0)
        healer.handle(Failed(record(1), Cause.RAISED, 1.0, 1.0), 1.0)
        assert (Limit(0) in healer.handle(Signal.TICKED, 3.0)) is pauses


def test_a_doubt_that_outlived_its_host_ends_with_the_first_success() -> None:
    healer = Healer("shard", PAUSING, Host(PAUSING), doubt=Position(9))
    assert healer.doubt == Position(9)
    healer.handle(Witnessed(1.0, 1.5), 1.5)
    assert not healer.doubt


def test_only_a_success_that_began_after_the_verdict_ends_the_doubt() -> None:
    story = Telling(policy=CALM)
    story.the_rest_is_done(0.9, 10)
    story.fails(10, now=1.0)
    assert story.keeps_failing_alone(10, now=1.0, until=62.0) == [Quarantine(at(10), Verdict.NOBODY_ELSE)]
    decided_at = 61.1
    story.happens(Witnessed(decided_at - 0.1, 63.0), 63.0)
    assert story.healer.doubt
    story.happens(Witnessed(decided_at, 63.0), 63.0)
    assert not story.healer.doubt


# -- a worker comes and goes ---------------------------------------------------------------


def test_a_worker_that_starts_in_a_pause_starts_nothing_by_itself() -> None:
    story = paused()
    held = Give(1, rest=False, hold=(0, 1))
    assert story.dies(now=4.0)[:2] == [Start(None, 0, 0.5), held]
    assert story.healer.seated(4.5) == [Limit(0), held]
    story.another_succeeds(now=5.0)
    assert story.healer.seated(5.5) == [Limit(None), held]


def test_a_worker_is_told_when_seated_what_else_shall_not_run() -> None:
    healer = Healer("shard", PAUSING, Host(PAUSING))
    assert healer.begin() == [Start(None, None, 0.0)]
    assert not healer.needs_human
    healer.handle(SpanArrived(1, 10, suspects=(4,)), 0.0)
    assert healer.seated(0.1) == [Limit(None), Give(1, ask=(4,))]


def test_whoever_ran_again_when_the_place_was_taken_runs_again_in_it() -> None:
    story = Telling(policy=Policy(checkpoint_s=1e9))
    story.fails(3, now=1.0)
    story.ticks(1.5)
    assert story.healer.seated(1.6) == [Limit(None), Give(1, hold=(2,))]
    assert story.wakes() == 1.6


# -- a human is called ---------------------------------------------------------------------


def called(story: Telling, *failing: int, until: float) -> list[tuple[float, str]]:
    """When a human is called until then, and why, while these fail whenever they are tried."""
    found: list[tuple[float, str]] = []
    while (wakes := story.healer.wakes_at) is not None and wakes <= until:
        said: list[Decision] = story.happens(Signal.TICKED, wakes)
        found += [(wakes, decision.why) for decision in said if isinstance(decision, CallHuman)]
        for decision in said:
            if isinstance(decision, RunAlone):
                assert decision.at.nth + 1 in failing
                story.fails(decision.at.nth + 1, wakes, alone=True)
    return found


def test_a_pause_as_long_as_patience_calls_a_human() -> None:
    """Others of the shard have not run, so that there is no last try to wait for."""
    story = Telling(policy=Policy(attempts_max=1, patience_s=60.0))
    story.fails(1, now=1.0)
    story.fails(2, now=1.0)
    assert called(story, 1, 2, until=300.0) == [(61.0, "different records fail, and none succeeds")]


@pytest.mark.parametrize("policy", [CALM, Policy(attempts_max=1)], ids=["not paused", "paused"])
def test_where_nobody_is_left_to_ask_last_tries_are_given_time_to_tell(policy: Policy) -> None:
    story = Telling(policy=policy)
    story.the_rest_is_done(0.9, 1, 2)
    story.fails(1, now=1.0)
    story.fails(2, now=1.0)
    why = "different records fail, and none succeeds" if policy is not CALM else "nobody is left to judge a record by"
    assert called(story, 1, 2, until=300.0) == [(91.0, why)]


def test_a_last_try_that_is_under_way_may_still_decide_and_no_human_is_called_meanwhile() -> None:
    story = Telling(policy=Policy(attempts_max=1, failing_min=99, patience_s=60.0, human_s=0.0, checkpoint_s=1e9))
    story.the_rest_is_done(0.9, 10)
    story.fails(10, now=1.0)
    assert story.keeps_failing_alone(10, now=1.0, until=60.9) == []
    assert story.ticks(61.0) == [RunAlone(at(10))]
    assert story.ticks(300.0) == []
    assert not story.healer.needs_human
    assert story.fails(10, now=300.0, alone=True) == [Quarantine(at(10), Verdict.NOBODY_ELSE)]


def test_while_one_of_ours_runs_again_in_its_lane_there_is_somebody_to_ask() -> None:
    """10 hangs at its second try, 9 fails whenever it is tried. Once 10 has failed, nobody is left."""
    story = Telling(policy=Policy(attempts_max=3, failing_min=99, patience_s=60.0, checkpoint_s=1e9))
    story.the_rest_is_done(0.9, 9, 10)
    story.fails(9, now=1.0)
    story.fails(10, now=1.0)
    story.ticks(1.5)
    story.fails(9, now=1.6)
    assert called(story, 9, until=300.0) == []
    assert CallHuman("nobody is left to judge a record by") in story.fails(10, now=300.0)


def test_a_call_holds_until_something_succeeds_after_it() -> None:
    patience = Patience("shard", CALM, Host(CALM), Chain(CALM.bracket_s))
    patience.began(1.0)
    patience.call(91.0)
    patience.succeeded(91.0)
    assert patience.called
    patience.succeeded(91.1)
    assert not patience.called
