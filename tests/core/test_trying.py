"""When a record is tried again, and where: in its lane, or alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamheal.core.host import Host
from streamheal.core.messages import (
    Cause,
    Decision,
    Done,
    Failed,
    Quarantine,
    Retry,
    RunAlone,
    Settle,
    SpanDone,
    StoreFailed,
    Verdict,
)
from streamheal.core.policy import Policy
from streamheal.records import Position
from tests.core.telling import Telling, at, record, suspect_runs, verdict_of

# Nothing pauses and no patience ends, so that only the one thing is seen.
CALM = Policy(attempts_max=1, failing_min=99, patience_s=1e6, checkpoint_s=1e9)


def calm(**changes: float) -> Policy:
    values = {"attempts_max": 1, "failing_min": 99, "patience_s": 1e6, "checkpoint_s": 1e9} | changes
    return Policy(**values)  # type: ignore[arg-type]  # whole numbers are given where they are asked for


# -- how long it waits ---------------------------------------------------------------------


def test_a_throttled_record_waits_longer_each_time() -> None:
    story = Telling(policy=calm(retry_s_min=0.5, retry_s_max=2.0))
    now, waits = 1.0, []
    for _ in range(4):
        story.fails(3, now=now, cause=Cause.THROTTLED)
        waits.append(story.wakes() - now)
        now += waits[-1]
        assert story.ticks(now) == [Retry(at(3))]
    assert waits == [0.5, 1.0, 2.0, 2.0]


def test_chance_spreads_waits_between_half_and_all_and_without_dice_they_lie_in_the_middle() -> None:
    for jitter, wait in ((0.0, 2.0), (1.0, 4.0), (None, 3.0)):
        story = Telling(policy=calm(attempts_max=3, retry_s_min=4.0))
        failed = Failed(record(3), Cause.RAISED, 0.5, 1.0)
        story.healer.handle(failed, 1.0, *(() if jitter is None else (jitter,)))
        assert story.wakes() == 1.0 + wait


def test_a_store_that_fails_is_asked_more_rarely_each_time() -> None:
    story = Telling(policy=calm(retry_s_min=0.5, retry_s_max=2.0))
    story.fails(3, now=1.0, cause=Cause.POISON)
    now, waits = 1.0, []
    for _ in range(4):
        story.happens(StoreFailed(at(3)), now)
        waits.append(story.wakes() - now)
        now += waits[-1]
        assert story.ticks(now) == [Quarantine(at(3), Verdict.SAID_SO)]
    assert waits == [0.5, 1.0, 2.0, 2.0]


def test_with_nobody_to_ask_it_is_tried_alone_more_rarely_each_time_until_somebody_succeeds() -> None:
    story = Telling(policy=calm(pause_s_min=5.0, pause_s_max=20.0))
    story.the_rest_is_done(0.9, 10)
    story.fails(10, now=1.0)
    now, waits = 1.0, []
    for _ in range(4):
        waits.append(story.wakes() - now)
        now += waits[-1]
        assert story.ticks(now) == [RunAlone(at(10))]
        story.fails(10, now=now, alone=True)
    assert waits == [5.0, 10.0, 20.0, 20.0]
    assert story.another_succeeds(now=now + 1.0) == [RunAlone(at(10))]
    story.fails(10, now=now + 2.0, alone=True)
    assert story.wakes() == now + 7.0


def test_while_others_run_they_will_tell_and_it_is_tried_once_they_have_told_nothing() -> None:
    """All others turn out to be filtered."""
    story = Telling(policy=calm(pause_s_min=5.0))
    story.fails(3, now=1.0)
    assert story.ticks(6.0) == []
    assert story.healer.wakes_at is None
    assert RunAlone(at(3)) in story.happens(SpanDone(1, 10, Position(10), filtered=9), 7.0)


def test_a_cell_that_is_not_free_is_asked_for_again_the_longer_it_takes_the_more_rarely() -> None:
    """After a tenth of a second at first, and then of the time waited so far: the cell may hang until its deadline."""
    policy = calm(cells_max=1)
    host = Host(policy)
    assert host.take_cell("another", 0.0, fresh=True)
    story = Telling(policy=policy, host=host)
    story.dies(3, now=100.0)
    assert story.wakes() == 100.1
    assert story.ticks(110.0) == []
    assert 110.0 < story.wakes() <= 111.0
    story.dies(now=120.0, death=2)
    assert story.wakes() == 122.0


# -- where ---------------------------------------------------------------------------------


def died_around(story: Telling) -> list[Decision]:
    return story.dies(3, now=1.0)


def overran(story: Telling) -> list[Decision]:
    return story.dies(3, now=1.0, overran=(3,))


def suspected(story: Telling) -> list[Decision]:
    return story.happens(Failed(record(3), Cause.SUSPECTED, 1.0, 1.0), 1.0)


def crashed_alone(story: Telling) -> list[Decision]:
    story.fails(3, now=0.1)
    story.another_succeeds(now=0.3)
    story.fails(3, now=0.5, cause=Cause.CRASHED, alone=True)
    return story.another_succeeds(now=1.0)


@pytest.mark.parametrize("met", [died_around, overran, suspected, crashed_alone])
def test_whoever_has_met_a_death_never_runs_beside_others_again(met: Callable[[Telling], list[Decision]]) -> None:
    """The next thing that happens to it is harmless: it is throttled. That does not bring it back to its lane."""
    story = Telling(policy=CALM)
    assert at(3) in [decision.at for decision in met(story) if isinstance(decision, RunAlone)]
    story.fails(3, now=1.5, cause=Cause.THROTTLED, alone=True)
    (said,) = story.ticks(3.0)
    assert isinstance(said, RunAlone)


def test_whoever_was_told_to_run_again_is_told_once_more_when_its_worker_dies() -> None:
    """The word did not arrive, or what came of it was not heard."""
    story = Telling(policy=calm(attempts_max=3))
    story.fails(3, now=1.0)
    assert story.ticks(1.5) == [Retry(at(3))]
    assert story.dies(now=1.6)[-1] == Retry(at(3))


def test_whoever_waited_for_its_turn_or_ran_again_is_suspect_like_any_other() -> None:
    """3 ran again in its lane, and 5, queued before, for the first time: that one is tried before the other."""
    story = Telling(policy=calm(attempts_max=3))
    story.fails(3, now=1.0)
    story.the_rest_is_done(1.1, 5)
    story.ticks(1.5)
    assert story.dies(3, 5, now=1.6)[-2:] == [suspect_runs(5), RunAlone(at(3))]


def test_whoever_waited_for_its_turn_is_done_in_it() -> None:
    story = Telling(policy=calm(attempts_max=3))
    story.fails(3, now=1.0)
    story.the_rest_is_done(1.1, 5)
    assert story.happens(Done(at(5)), 1.2) == []
    assert story.healer.ledger.done == 9
    assert story.healer.undecided == (at(3),)


# -- what its success and its failure say ---------------------------------------------------


def test_a_success_at_the_second_try_is_a_witness_for_others() -> None:
    story = Telling(policy=calm(attempts_max=3))
    story.fails(3, now=1.0)
    story.fails(5, now=1.0)
    assert story.ticks(1.5) == [Retry(at(3)), Retry(at(5))]
    story.fails(5, now=1.4)
    assert story.happens(Done(at(3)), 1.6) == [RunAlone(at(5))]


def test_whoever_waits_for_a_cell_after_its_last_try_is_convicted_by_a_witness_meanwhile() -> None:
    """And once: what is being stored is not judged again, however many succeed."""
    policy = calm(cells_max=1, pause_s_min=1.0)
    host = Host(policy)
    story = Telling(policy=policy, host=host)
    story.fails(3, now=1.0)
    assert story.another_succeeds(now=1.2) == [RunAlone(at(3))]
    story.the_rest_is_done(1.25)
    story.fails(3, now=1.5, alone=True)
    assert host.take_cell("another", 0.0, fresh=True)
    assert story.ticks(2.5) == []
    assert story.another_succeeds(now=3.0) == [Quarantine(at(3), Verdict.WITNESSED, 1.2, 3.0)]
    assert story.another_succeeds(now=3.2) == []


def test_whoever_runs_alone_again_is_not_convicted_meanwhile() -> None:
    """A success convicts for the try before; but this one may be well, and its success would come too late."""
    story = Telling(policy=calm(pause_s_min=1.0))
    story.fails(3, now=1.0)
    assert story.another_succeeds(now=1.2) == [RunAlone(at(3))]
    story.the_rest_is_done(1.25)
    story.fails(3, now=1.5, alone=True)
    assert story.ticks(2.5) == [RunAlone(at(3))]
    assert story.another_succeeds(now=3.0) == []
    assert story.done_alone(3, now=3.1) == [Settle(at(3))]


def test_a_gap_between_successes_counts_once_however_many_end_it() -> None:
    """Four more succeed while it runs alone again. The verdict tells since when it has failed."""
    story = Telling(policy=CALM)
    story.fails(3, now=1.0)
    assert story.another_succeeds(now=20.0) == [RunAlone(at(3))]
    story.fails(3, now=30.0, alone=True)
    assert story.another_succeeds(now=40.0) == [RunAlone(at(3))]
    for now in (41.0, 42.0, 43.0, 44.0):
        assert story.another_succeeds(now) == []
    story.fails(3, now=55.0, alone=True)
    assert story.another_succeeds(now=60.0) == [RunAlone(at(3))]
    story.fails(3, now=70.0, alone=True)
    assert story.another_succeeds(now=80.0) == [Quarantine(at(3), Verdict.THINLY, 1.0, 80.0)]


def test_a_gap_counts_once_however_many_succeed_while_it_is_in_line_for_a_cell() -> None:
    policy = calm(cells_max=1)
    host = Host(policy)
    story = Telling(policy=policy, host=host)
    story.fails(3, now=1.0)
    assert story.another_succeeds(now=20.0) == [RunAlone(at(3))]
    story.fails(3, now=30.0, alone=True)
    assert host.take_cell("another shard", 31.0, fresh=True)
    for now in (40.0, 41.0, 42.0, 43.0):
        assert story.another_succeeds(now) == []
    host.give_cell_back("another shard")
    assert story.ticks(50.0) == [RunAlone(at(3))]
    story.fails(3, now=55.0, alone=True)
    assert story.another_succeeds(now=60.0) == [RunAlone(at(3))]
    story.fails(3, now=70.0, alone=True)
    assert verdict_of(story.another_succeeds(now=80.0)) is Verdict.THINLY


def test_a_gap_that_ended_while_it_ran_alone_again_counts_as_soon_as_that_fails_too() -> None:
    """Nobody has to succeed once more: on a quiet shard that may take hours."""
    story = Telling(policy=calm(pause_s_min=1.0))
    story.fails(3, now=1.0)
    assert story.another_succeeds(now=20.0) == [RunAlone(at(3))]
    for failed_at in (30.0, 50.0):
        story.fails(3, now=failed_at, alone=True)
        assert story.another_succeeds(now=failed_at + 10) == [RunAlone(at(3))]
    story.the_rest_is_done(61.0)
    story.fails(3, now=70.0, alone=True)
    assert story.ticks(75.0) == [RunAlone(at(3))]
    assert story.another_succeeds(now=80.0) == []
    assert story.fails(3, now=90.0, alone=True) == [Quarantine(at(3), Verdict.THINLY, 1.0, 80.0)]


def test_a_try_before_the_first_success_lies_between_no_two() -> None:
    """An outage from the start on would explain it."""
    story = Telling(policy=CALM)
    assert suspect_runs(3) in story.dies(3, now=1.0)
    for failed_at in (10.0, 30.0, 50.0):
        story.fails(3, now=failed_at, alone=True)
        assert story.another_succeeds(now=failed_at + 10) == [RunAlone(at(3))]
    story.fails(3, now=70.0, alone=True)
    assert verdict_of(story.another_succeeds(now=80.0)) is Verdict.THINLY


def test_a_try_that_began_in_a_gap_that_is_counted_does_not_count_again() -> None:
    """It fails late, after a success; but the outage in which it began is the one that its try before had met."""
    story = Telling(policy=calm(pause_s_min=1.0))
    story.fails(3, now=1.0)
    assert story.another_succeeds(now=20.0) == [RunAlone(at(3))]
    story.the_rest_is_done(21.0)
    story.fails(3, now=30.0, alone=True)
    assert story.ticks(35.0) == [RunAlone(at(3))]
    assert story.another_succeeds(now=40.0) == []
    story.fails(3, now=65.0, alone=True)
    for failed_at in (75.0, 95.0):
        assert story.another_succeeds(now=failed_at - 5) == [RunAlone(at(3))]
        story.fails(3, now=failed_at, alone=True)
    assert story.another_succeeds(now=100.0) == [Quarantine(at(3), Verdict.THINLY, 1.0, 100.0)]
