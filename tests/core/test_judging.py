"""How a record is judged: whom the core asks before it sets a record aside (docs/judging.md)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from streamheal.core.messages import (
    Cause,
    Checkpoint,
    Done,
    Failed,
    Limit,
    Order,
    Quarantine,
    Retry,
    RunAlone,
    Settle,
    Signal,
    SpanArrived,
    SpanDone,
    Stored,
    StoreFailed,
    Verdict,
    Witnessed,
)
from streamheal.core.policy import Policy
from streamheal.records import Position
from tests.core.telling import Telling, at, record, suspect_runs, verdict_of, verdicts


def test_a_record_is_set_aside_when_it_fails_alone_between_two_successes() -> None:
    """3 raises three times. Before its third try, alone, and after it others succeed: it is 3."""
    story = Telling(policy=Policy(attempts_max=3, checkpoint_s=0.0))
    assert story.fails(3, now=1.0) == []
    assert story.ticks(1.5) == [Retry(at(3))]
    assert story.fails(3, now=1.6) == []
    assert story.another_succeeds(now=1.8) == [RunAlone(at(3))]
    assert story.fails(3, now=2.0, alone=True) == []
    assert story.another_succeeds(now=2.2) == [Quarantine(at(3), Verdict.WITNESSED, 1.8, 2.2)]
    assert story.the_rest_is_done(2.3) == [Checkpoint(Position(2))]
    assert story.kept(2, 2.3) == []
    assert story.stored(3, 2.4) == [Settle(at(3)), Checkpoint(Position(10))]


def test_a_record_that_succeeds_at_its_second_try_was_never_in_danger() -> None:
    story = Telling()
    story.fails(3, now=1.0)
    assert story.ticks(1.5) == [Retry(at(3))]
    assert story.happens(Done(at(3)), 1.6) == []
    assert not story.healer.undecided
    assert not story.healer.curious
    assert story.healer.ledger.done == 1


def test_without_a_witness_nobody_is_tried_alone_let_alone_set_aside() -> None:
    """Others are still running, so they will tell; while they do not, 3 waits."""
    story = Telling(policy=Policy(attempts_max=1))
    story.fails(3, now=1.0)
    assert story.ticks(50.0) == []
    assert story.healer.undecided == (at(3),)


def test_a_success_begun_before_the_failure_ended_is_no_witness() -> None:
    """It may have asked the database before that went down."""
    story = Telling(policy=Policy(attempts_max=1))
    story.fails(3, now=1.0)
    assert story.happens(Witnessed(0.9, 1.2), 1.2) == []
    assert story.happens(Witnessed(1.0, 1.3), 1.3) == [RunAlone(at(3))]


def test_a_filtered_record_is_no_witness() -> None:
    """The processor did not want it: it says nothing of the database."""
    story = Telling(policy=Policy(attempts_max=3, checkpoint_s=1e9))
    story.fails(3, now=1.0)
    assert story.ticks(1.5) == [Retry(at(3))]
    story.fails(5, now=1.5)
    story.fails(3, now=1.6)
    assert story.ticks(2.0) == [Retry(at(5))]
    assert story.happens(Done(at(5), filtered=True), 2.1) == []


def test_a_success_after_the_try_alone_is_not_enough() -> None:
    """7 s pass without a success around the try: an outage has room there, and may just have ended."""
    story = Telling(policy=Policy(attempts_max=1))
    story.fails(3, now=1.0)
    assert story.another_succeeds(now=1.3) == [RunAlone(at(3))]
    story.fails(3, now=2.0, alone=True)
    assert story.another_succeeds(now=9.0) == [RunAlone(at(3))]


def test_three_wide_brackets_convict_where_successes_are_rare() -> None:
    """One record in 20 s, as on a quiet shard. An innocent would need three outages."""
    story = Telling(policy=Policy(attempts_max=1))
    story.fails(3, now=1.0)
    assert story.another_succeeds(now=20.0) == [RunAlone(at(3))]
    for now in (40.0, 60.0):
        story.fails(3, now=now - 10, alone=True)
        assert story.another_succeeds(now=now) == [RunAlone(at(3))]
    story.fails(3, now=70.0, alone=True)
    assert verdict_of(story.another_succeeds(now=80.0)) is Verdict.THINLY


def test_whoever_runs_alone_again_whenever_a_witness_comes_is_decided_all_the_same() -> None:
    """It hangs for 30 s each time, and another succeeds every 20 s: always while it is tried once more."""
    story = Telling(policy=Policy(patience_s=10.0))
    story.another_succeeds(now=1.0)
    said = story.dies(3, now=31.0, overran=(3,))
    said += story.the_rest_is_done(31.0)
    now, ends_at = 31.0, 0.0
    while (verdict := verdict_of(said)) is None and now < 1_000:
        if RunAlone(at(3)) in said:
            ends_at = now + 30
        now = min(when for when in (now // 20 * 20 + 20, ends_at, story.healer.wakes_at or 1_000) if when > now)
        if now == ends_at:
            said = story.fails(3, now, Cause.OVERRAN, likeness="deadline", alone=True, took_s=30.0)
        else:
            said = story.another_succeeds(now) if now % 20 == 0 else story.ticks(now)
    assert verdict is Verdict.THINLY


def test_wide_brackets_of_different_kinds_do_not_add_up() -> None:
    """Twice it failed like this and once like that: what several outages do is not one guilt."""
    story = Telling(policy=Policy(attempts_max=1))
    story.fails(3, now=1.0)
    story.another_succeeds(now=20.0)
    for now, likeness in ((40.0, "ValueError"), (60.0, "ValueError"), (80.0, "Timeout"), (100.0, "ValueError")):
        story.fails(3, now=now - 10, alone=True, likeness=likeness)
        assert story.another_succeeds(now=now) == [RunAlone(at(3))]


def test_poison_needs_one_try_and_no_witness() -> None:
    """The processor itself has said that it is the record; even while everything else fails."""
    story = Telling()
    story.fails(1, now=1.0)
    story.fails(2, now=1.0)
    assert Limit(0) in story.ticks(3.5)
    assert story.fails(3, now=4.0, cause=Cause.POISON) == [Quarantine(at(3), Verdict.SAID_SO)]


def test_throttling_is_never_held_against_a_record() -> None:
    """Fifty times throttled, it has not used up one of its tries."""
    story = Telling(policy=Policy(attempts_max=2, failing_min=99))
    now = 1.0
    for _ in range(50):
        assert not verdicts(story.fails(3, now=now, cause=Cause.THROTTLED))
        story.another_succeeds(now + 0.2)
        now = story.wakes() + 0.2
        assert Retry(at(3)) in story.ticks(now)
    story.fails(3, now=now + 0.5)
    assert verdicts(story.ticks(now + 0.5)) == []


def test_retries_back_off() -> None:
    story = Telling(policy=Policy(attempts_max=9, retry_s_min=0.5, retry_s_max=2.0, checkpoint_s=1e9, failing_min=99))
    now, waits = 1.0, []
    for _ in range(5):
        story.fails(3, now=now)
        waits.append(story.wakes() - now)
        now += waits[-1]
        assert story.ticks(now) == [Retry(at(3))]
    assert waits == [0.5, 1.0, 2.0, 2.0, 2.0]


def test_a_throttled_record_waits_as_long_as_it_was_told() -> None:
    story = Telling(policy=Policy(checkpoint_s=1e9))
    story.happens(Failed(record(3), Cause.THROTTLED, 0.9, 1.0, "", retry_after_s=40.0), 1.0)
    assert story.healer.wakes_at == 41.0


# -- outages -------------------------------------------------------------------------------


def test_different_records_failing_and_none_succeeding_is_an_outage() -> None:
    """The shard pauses, lets one fresh and one known record try now and then, and blames nobody."""
    story = Telling(policy=Policy(attempts_max=1))
    story.fails(1, now=1.0)
    story.fails(2, now=1.1)
    assert not story.healer.paused
    assert story.ticks(3.0) == [Limit(0)]
    assert story.healer.paused
    assert story.ticks(8.0) == [Limit(1), RunAlone(at(1))]


def test_any_success_ends_the_pause() -> None:
    story = Telling(policy=Policy(attempts_max=1))
    story.fails(1, now=1.0)
    story.fails(2, now=1.1)
    story.ticks(3.0)
    said = story.another_succeeds(now=9.0)
    assert said == [Limit(None), RunAlone(at(1)), RunAlone(at(2))]
    assert not story.healer.paused


def test_news_of_a_success_before_the_failures_ends_no_pause() -> None:
    """Every failure comes with what the worker knows of the last success, and that may be long ago."""
    story = Telling(policy=Policy(attempts_max=1))
    story.fails(1, now=1.0)
    story.fails(2, now=1.1)
    story.ticks(3.0)
    assert story.happens(Witnessed(0.1, 0.2), 4.0) == []
    assert story.healer.paused


def test_probes_come_ever_more_rarely() -> None:
    story = Telling(policy=Policy(attempts_max=1, patience_s=1e6))
    story.fails(1, now=1.0)
    story.fails(2, now=1.1)
    probes = []
    now = 0.0
    while now < 700:
        now = story.wakes()
        said = story.happens(Signal.TICKED, now)
        if Limit(1) in said:
            probes.append(now)
        for decision in said:
            if isinstance(decision, RunAlone):
                story.fails(decision.at.nth + 1, now, alone=True)
    gaps = [later - earlier for earlier, later in pairwise(probes)]
    assert gaps[:6] == pytest.approx([10, 20, 40, 80, 160, 300], abs=0.5)


def test_a_pause_with_fresh_records_behind_it_is_probed_however_long_it_lasts() -> None:
    """Two fail, patience ends, a human is called; the third span, not begun because of the pause, would succeed."""
    story = Telling(records=2)
    said = [*story.fails(1, now=1.0), *story.fails(2, now=1.0), *story.the_rest_is_done(1.1)]
    story.happens(SpanArrived(2, 0), 1.2)
    story.happens(SpanDone(2, 0, None), 1.3)
    story.happens(SpanArrived(3, 1), 1.4)
    probes: list[float] = []
    while (now := story.wakes()) < 4_000:
        said = story.happens(Signal.TICKED, now)
        probes += [now] * (Limit(1) in said)
        for decision in said:
            if isinstance(decision, RunAlone):
                said += story.fails(decision.at.nth + 1, now, alone=True)
            elif isinstance(decision, Retry):
                said += story.fails(decision.at.nth + 1, now)
    assert probes[-1] > 3_600


def test_a_fresh_record_that_comes_into_a_pause_is_tried_soon() -> None:
    """Two poison records had paused a quiet shard; a healthy one must not wait for the next probe in minutes."""
    story = Telling(policy=Policy(attempts_max=1))
    story.the_rest_is_done(0.9, 1, 2)
    story.fails(1, now=1.0)
    story.fails(2, now=1.1)
    story.keeps_failing_alone(1, 2, now=1.2, until=900.0)
    assert story.healer.paused
    assert Order.ANSWER in story.happens(SpanArrived(2, 10), 1000.0) or Limit(1) in story.ticks(1005.0)


# -- storing -------------------------------------------------------------------------------


def test_a_record_is_passed_only_when_the_quarantine_has_it() -> None:
    story = Telling()
    story.fails(3, now=1.0, cause=Cause.POISON)
    assert Checkpoint(Position(2)) in story.the_rest_is_done(1.1)
    story.kept(2, 1.1)
    now = 1.2
    for _ in range(40):
        assert story.happens(StoreFailed(at(3)), now) == []
        now = story.wakes()
        assert story.ticks(now) == [Quarantine(at(3), Verdict.SAID_SO)]
        assert story.healer.ledger.watermark() == Position(2)
    assert story.happens(Stored(at(3)), now) == [Settle(at(3)), Checkpoint(Position(10))]


# -- replays -------------------------------------------------------------------------------

REPLAYING = Policy(attempts_max=3, replaying=True, checkpoint_s=1e9)


def test_a_record_that_fails_its_tries_in_a_replay_stays_where_it_is() -> None:
    story = Telling(policy=REPLAYING)
    for now, wait in ((1.0, 0.5), (1.5, 1.0)):
        assert story.fails(3, now=now) == []
        assert story.ticks(now + wait) == [Retry(at(3))]
    assert story.fails(3, now=3.0) == [Quarantine(at(3), Verdict.STAYS)]


def test_a_replay_does_not_pause_when_everything_fails() -> None:
    story = Telling(policy=REPLAYING)
    for sequence in (1, 2, 3):
        story.fails(sequence, now=1.0)
    assert story.ticks(20.0) == [Retry(at(1)), Retry(at(2)), Retry(at(3))]
    assert not story.healer.paused


def test_a_hang_in_a_replay_stays_at_once_and_its_neighbour_runs_alone() -> None:
    story = Telling(policy=REPLAYING)
    said = story.dies(3, 4, now=31.0, overran=(3,))
    assert Quarantine(at(3), Verdict.STAYS) in said
    assert suspect_runs(4) in said


def test_a_crash_in_a_replay_stays_when_it_has_happened_alone_twice() -> None:
    story = Telling(policy=REPLAYING)
    assert suspect_runs(3) in story.dies(3, 4, now=1.0)
    assert story.fails(3, now=2.0, cause=Cause.CRASHED, alone=True) == []
    assert story.ticks(3.0) == [RunAlone(at(3))]
    assert story.fails(3, now=4.0, cause=Cause.CRASHED, alone=True) == [Quarantine(at(3), Verdict.STAYS)]
