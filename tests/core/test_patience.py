"""Where nobody is left to ask: what patience decides, and what it leaves to a human (docs/judging.md)."""

from __future__ import annotations

import pytest

from streamheal.core.host import Host
from streamheal.core.messages import (
    CallHuman,
    Cause,
    Decision,
    Failed,
    Quarantine,
    RunAlone,
    Settle,
    Signal,
    SpanArrived,
    SpanDone,
    Verdict,
    WorkerDied,
)
from streamheal.core.policy import Policy
from streamheal.records import Position
from tests.core.telling import Telling, at, record, verdicts


def test_the_only_one_left_is_set_aside_after_patience_and_one_more_try_alone() -> None:
    """The last record of a backlog fails. Nobody is left to ask; after 60 s it is tried once more."""
    story = Telling(policy=Policy(attempts_max=1, patience_s=60.0))
    story.the_rest_is_done(0.9, 10)
    story.fails(10, now=1.0)
    assert story.keeps_failing_alone(10, now=1.0, until=60.0) == []
    assert story.keeps_failing_alone(10, now=60.0, until=62.0) == [Quarantine(at(10), Verdict.NOBODY_ELSE)]
    assert story.healer.doubt == Position(10)


def test_a_doubt_about_a_record_is_not_held_against_itself() -> None:
    """Its host died when it was set aside and not yet passed: the next life judges it again, and decides."""
    story = Telling(1, Policy(attempts_max=1, patience_s=60.0), doubt=Position(1))
    story.the_rest_is_done(0.9, 1)
    story.fails(1, now=1.0)
    assert story.healer.doubt is None
    found = story.keeps_failing_alone(1, now=1.0, until=63.0)
    assert found == [Quarantine(at(1), Verdict.NOBODY_ELSE)]
    assert story.healer.doubt == Position(1)


def test_whoever_fails_after_one_that_had_nobody_to_ask_is_not_set_aside() -> None:
    """Two failing one after the other, and nothing in between, may be an outage; a host's death makes no difference."""
    story = Telling(1, Policy(attempts_max=1, patience_s=60.0), doubt=Position(0))
    story.the_rest_is_done(0.9, 1)
    story.fails(1, now=1.0)
    assert story.keeps_failing_alone(1, now=1.0, until=400.0) == []


def test_whoever_succeeds_at_that_last_try_is_done() -> None:
    """The outage that hid behind the end of the backlog is over by then."""
    story = Telling(policy=Policy(attempts_max=1, patience_s=60.0, checkpoint_s=1e9))
    story.the_rest_is_done(0.9, 10)
    story.fails(10, now=1.0)
    assert story.keeps_failing_alone(10, now=1.0, until=60.9) == []
    assert story.ticks(61.0) == [RunAlone(at(10))]
    assert story.done_alone(10, now=61.1) == [Settle(at(10))]
    assert story.healer.ledger.done == 10


def test_of_two_left_neither_is_set_aside_and_a_human_is_called() -> None:
    """Both are the last of their shard and fail alike: an outage looks the same."""
    story = Telling(policy=Policy(attempts_max=1, patience_s=60.0))
    story.the_rest_is_done(0.9, 9, 10)
    now = 1.0
    for sequence in (9, 10):
        story.fails(sequence, now=now)
    called_at = None
    while now < 400:
        now = story.wakes()
        said = story.happens(Signal.TICKED, now)
        if any(isinstance(decision, CallHuman) for decision in said):
            called_at = called_at or now
        assert not verdicts(said)
        for decision in said:
            if isinstance(decision, RunAlone):
                assert not verdicts(story.fails(decision.at.nth + 1, now + 0.1, alone=True))
    assert called_at == pytest.approx(91.0, abs=1.0)
    assert story.healer.needs_human
    assert story.healer.undecided == (at(9), at(10))


def test_a_shard_that_was_given_up_decides_nothing_more() -> None:
    """The host is going, and its seat is empty: whoever would have been tried next is tried by the next host."""
    story = Telling(2, policy=Policy(checkpoint_s=0.0))
    story.the_rest_is_done(0.5, 1, 2)
    story.fails(1, now=1.0)
    story.fails(2, now=1.0)
    story.keeps_failing_alone(1, 2, now=1.0, until=300.0)
    assert story.healer.needs_human
    assert story.healer.wakes_at is not None
    story.healer.give_up()
    assert story.healer.wakes_at is None
    assert story.happens(Signal.TICKED, 10_000.0) == []
    assert story.another_succeeds(10_001.0) == []
    assert story.healer.needs_human


def test_whoever_failed_in_one_way_while_another_succeeded_is_left_over() -> None:
    """3 and 4 fail, 5 succeeds after them, then the backlog ends. Both are decided, and it is told
    since when they failed, and until when others succeeded."""
    story = Telling(policy=Policy(attempts_max=1, patience_s=60.0))
    story.fails(3, now=1.0, likeness="kind 3")
    story.fails(4, now=1.0, likeness="kind 4")
    story.another_succeeds(now=1.2)
    for sequence in (3, 4):
        story.fails(sequence, now=1.4, alone=True, likeness=f"kind {sequence}")
    story.the_rest_is_done(1.5)
    found = story.keeps_failing_alone(3, 4, now=1.5, until=70.0)
    assert found == [
        Quarantine(at(3), Verdict.LEFT_OVER, 1.0, 1.2),
        Quarantine(at(4), Verdict.LEFT_OVER, 1.0, 1.2),
    ]
    assert not story.healer.doubt


def hang(story: Telling, said: list[Decision], *, since: float, until: float) -> list[Verdict]:
    """Whoever is tried alone hangs there for 30 s, one at a time; until there are verdicts."""
    now, said = since, list(said)
    while not (found := verdicts(said)) and now < until:
        if alone := [decision.at for decision in said if isinstance(decision, RunAlone)]:
            now += 30.0
            said = story.fails(alone[0].nth + 1, now, Cause.OVERRAN, likeness="deadline", alone=True, took_s=30.0)
        else:
            now = max(now, story.wakes())
            said = story.happens(Signal.TICKED, now)
    return [decision.verdict for decision in found if isinstance(decision, Quarantine)]


def test_many_that_hang_are_left_over_although_their_last_tries_alone_take_their_time() -> None:
    """Twenty hang for 30 s each, one cell: when the last had its last try, the first would be due again."""
    story = Telling(records=20, policy=Policy(cells_max=1))
    sick = range(1, 21)
    said = story.dies(*sick, now=31.0, overran=tuple(sick))
    story.another_succeeds(now=32.0)
    said += story.the_rest_is_done(32.0)
    assert hang(story, said, since=32.0, until=8_000.0) == [Verdict.LEFT_OVER] * 20


def test_who_may_have_been_held_by_another_has_not_failed_by_itself() -> None:
    """As above, but nothing else ran in the process. One of the two may have held the other, and what is alike after
    the last success may be an outage."""
    story = Telling(records=2, policy=Policy(cells_max=1))
    died = WorkerDied(1, (record(1), record(2)), (), (at(1), at(2)), 2, held=True)
    said = story.happens(died, 31.0)
    story.another_succeeds(now=32.0)
    said += story.the_rest_is_done(32.0)
    assert hang(story, said, since=32.0, until=8_000.0) == []
    assert story.healer.needs_human


def test_whoever_dies_in_fresh_cells_is_left_over_and_what_happened_in_used_ones_is_not_told() -> None:
    """Others succeeded too far from their deaths to convict them, but they have followed them."""
    story = Telling(policy=Policy(attempts_max=1, patience_s=60.0))
    story.dies(3, 4, now=1.0)
    for sequence in (3, 4):
        story.fails(sequence, 2.0, Cause.CRASHED, likeness=f"signal {sequence}", used=True)
    assert story.another_succeeds(now=10.0) == [RunAlone(at(3)), RunAlone(at(4))]
    for failed_at in (18.0, 28.0):
        for sequence in (3, 4):
            story.fails(sequence, failed_at, Cause.CRASHED, likeness=f"signal {sequence}", alone=True)
        if failed_at < 20.0:
            assert story.another_succeeds(now=20.0) == [RunAlone(at(3)), RunAlone(at(4))]
            story.the_rest_is_done(20.1)
    found = []
    while not found and (now := story.wakes()) < 100.0:
        for decision in story.happens(Signal.TICKED, now):
            if isinstance(decision, RunAlone):
                sequence = decision.at.nth + 1
                said = story.fails(sequence, now, Cause.CRASHED, likeness=f"signal {sequence}", alone=True)
                found += verdicts(said)
    assert found == [
        Quarantine(at(3), Verdict.LEFT_OVER, 18.0, 20.0),
        Quarantine(at(4), Verdict.LEFT_OVER, 18.0, 20.0),
    ]


def test_whoever_failed_now_like_this_now_like_that_is_not_left_over() -> None:
    story = Telling(policy=Policy(attempts_max=1, patience_s=60.0))
    story.fails(3, now=1.0, likeness="something else")
    story.fails(4, now=1.0, likeness="something else")
    story.another_succeeds(now=1.2)
    for sequence in (3, 4):
        story.fails(sequence, now=1.4, alone=True, likeness=f"kind {sequence}")
    story.the_rest_is_done(1.5)
    assert story.keeps_failing_alone(3, 4, now=1.5, until=400.0) == []


def test_nobody_is_left_over_while_two_that_nobody_followed_fail_alike() -> None:
    """1 was followed by a success. Then 9 and 10 fail alike, and nothing succeeds: an outage
    would explain the last failures of 1 as well."""
    story = Telling(policy=Policy(attempts_max=1, patience_s=60.0))
    story.fails(1, now=1.0, likeness="kind 1")
    story.another_succeeds(now=1.2)
    story.the_rest_is_done(1.3, 9, 10)
    story.fails(1, now=1.4, alone=True, likeness="kind 1")
    for sequence in (9, 10):
        story.fails(sequence, now=1.5, likeness="refused")
    now = 1.5
    while now < 300:
        now = story.wakes()
        said = story.happens(Signal.TICKED, now)
        for decision in said:
            if isinstance(decision, RunAlone):
                sequence = decision.at.nth + 1
                said += story.fails(sequence, now, likeness="kind 1" if sequence == 1 else "refused", alone=True)
        assert not verdicts(said)


def test_two_in_a_row_are_never_convicted_with_nobody_to_ask() -> None:
    """That they came one after the other does not make an outage less likely."""
    story = Telling(policy=Policy(attempts_max=1, patience_s=60.0))
    story.the_rest_is_done(0.9, 10)
    story.fails(10, now=1.0)
    assert story.keeps_failing_alone(10, now=1.0, until=70.0)
    story.stored(10, 70.0)
    story.happens(SpanArrived(2, 10), 80.0)
    story.happens(SpanDone(2, 1, Position(11), 0, (record(11)._replace(at=at(1)._replace(span=2), before=None),)), 80.0)
    eleven = record(11)._replace(at=at(1)._replace(span=2), before=None)
    now = 81.0
    said = story.happens(Failed(eleven, Cause.RAISED, now, now, "x"), now)
    while now < 600:
        now = story.wakes()
        said = story.happens(Signal.TICKED, now)
        if RunAlone(eleven.at) in said:
            said += story.happens(Failed(eleven, Cause.RAISED, now, now, "x", alone=True), now)
        assert not verdicts(said)
    assert story.healer.needs_human


def test_a_stream_of_filtered_records_is_nobody_to_ask() -> None:
    """There is always a span under way, and never a witness in it."""
    story = Telling(policy=Policy(attempts_max=1, patience_s=60.0))
    story.fails(3, now=1.0)
    found = []
    story.happens(SpanArrived(2, 10), 1.1)
    story.happens(SpanDone(1, 10, Position(10), filtered=9), 1.2)
    for second in range(2, 130):
        now = float(second)
        said = story.happens(SpanArrived(second + 1, 10), now)
        said += story.happens(SpanDone(second, 10, Position(second * 10), filtered=10), now + 0.1)
        said += story.ticks(now + 0.5)
        if RunAlone(at(3)) in said:
            said += story.fails(3, now=now + 0.6, alone=True)
        found += verdicts(said)
    assert found == [Quarantine(at(3), Verdict.NOBODY_ELSE)]


def test_one_span_that_was_asked_and_has_said_nothing_is_enough() -> None:
    """The one that is under way when the record fails may still say something, however long it takes."""
    story = Telling(policy=Policy(attempts_max=1, patience_s=60.0, checkpoint_s=1e9))
    story.fails(3, now=1.0)
    story.happens(SpanArrived(2, 10), 1.1)
    story.happens(SpanDone(1, 10, Position(10), filtered=9), 1.2)
    assert story.ticks(500.0) == []
    story.happens(SpanArrived(3, 10), 500.1)
    assert RunAlone(at(3)) in story.happens(SpanDone(2, 10, Position(20), filtered=10), 500.2)


def test_trouble_in_another_shard_and_no_success_anywhere_is_an_outage_too() -> None:
    """Each of two shards has one record that fails, the last of it: together they are two."""
    policy = Policy(attempts_max=1, patience_s=60.0)
    host = Host(policy)
    stories = [Telling(policy=policy, host=host, shard_id=name) for name in ("a", "b")]
    for story in stories:
        story.the_rest_is_done(0.9, 10)
        story.fails(10, now=1.0)
    for until in range(2, 400, 5):
        for story in stories:
            assert story.keeps_failing_alone(10, now=until - 5.0, until=float(until)) == []


def test_whether_the_others_fare_better_is_asked_the_more_rarely_the_longer_it_takes() -> None:
    """After a second at first, and then after a tenth of the time waited so far."""
    policy = Policy(attempts_max=1, patience_s=60.0, pause_s_min=1e6, pause_s_max=1e6, checkpoint_s=1e9)
    host = Host(policy)
    story = Telling(policy=policy, host=host)
    host.failing("another", 1)
    story.the_rest_is_done(0.9, 10)
    story.fails(10, now=1.0)
    assert story.wakes() == 61.0
    assert story.ticks(61.0) == []
    assert story.wakes() == 62.0
    story.happens(Signal.TICKED, 161.0)
    assert story.wakes() == 171.0
    host.failing("another", 0)
    assert story.ticks(171.0) == [RunAlone(at(10))]
