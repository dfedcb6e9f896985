"""What a worker's death means for the records that were in it, and for those that were not."""

from __future__ import annotations

import pytest

from streamheal.core.host import Host
from streamheal.core.messages import (
    CallHuman,
    Cause,
    Checkpoint,
    Failed,
    Give,
    Order,
    Quarantine,
    RunAlone,
    Settle,
    Signal,
    Start,
    Verdict,
    WorkerDied,
)
from streamheal.core.policy import Policy
from streamheal.records import Position
from tests.core.telling import Telling, at, record, suspect_runs, verdict_of, verdicts


def test_whoever_ran_when_a_process_died_runs_alone_and_the_rest_goes_on() -> None:
    story = Telling()
    assert story.dies(3, 4, now=1.0) == [
        Start(None, None, 0.0),
        Give(1, rest=True, hold=(2, 3)),
        suspect_runs(3),
        suspect_runs(4),
    ]


def test_the_killer_dies_alone_twice_and_its_neighbour_is_done() -> None:
    """Twice, because the out-of-memory killer may hit a cell by chance."""
    story = Telling()
    story.dies(3, 4, now=1.0)
    assert story.done_alone(4, now=1.5) == [Settle(at(4))]
    story.another_succeeds(now=1.8)
    assert story.fails(3, now=2.0, cause=Cause.CRASHED, alone=True) == []
    assert story.another_succeeds(now=2.2) == [RunAlone(at(3))]
    assert story.fails(3, now=2.4, cause=Cause.CRASHED, alone=True) == []
    assert verdict_of(story.another_succeeds(now=2.6)) is Verdict.WITNESSED


def test_the_only_one_left_is_not_judged_while_processes_die_in_which_nothing_runs() -> None:
    """The program may be broken: what dies alone then may be as healthy as any. Ten minutes after the last of three
    such deaths it is judged."""
    story = Telling(policy=Policy(attempts_max=1, patience_s=60.0))
    story.the_rest_is_done(0.9, 10)
    story.fails(10, now=1.0)
    for death in range(1, 4):
        story.dies(now=2.0, death=death)
    assert story.keeps_failing_alone(10, now=2.0, until=601.9) == []
    assert story.healer.needs_human
    found = story.keeps_failing_alone(10, now=602.0, until=1300.0)
    assert found == [Quarantine(at(10), Verdict.NOBODY_ELSE)]


def test_a_hang_needs_to_overrun_alone_once() -> None:
    story = Telling()
    assert RunAlone(at(3)) in story.dies(3, 4, now=31.0, overran=(3,))
    story.another_succeeds(now=31.5)
    for second in range(32, 63):
        story.another_succeeds(now=float(second))
    story.fails(3, now=62.5, cause=Cause.OVERRAN, alone=True, took_s=30.0)
    assert verdict_of(story.another_succeeds(now=63.0)) is Verdict.WITNESSED


def test_a_coroutine_cancelled_at_its_deadline_is_not_judged_before_it_has_overrun_alone() -> None:
    """Successes all around it convict nobody: a neighbour may have held the event loop meanwhile."""
    story = Telling()
    for second in range(1, 32):
        story.another_succeeds(now=float(second))
    assert story.fails(3, now=31.5, cause=Cause.OVERRAN, took_s=30.0) == [RunAlone(at(3))]
    for second in range(32, 63):
        assert verdict_of(story.another_succeeds(now=float(second))) is None
    story.fails(3, now=62.5, cause=Cause.OVERRAN, alone=True, took_s=30.0)
    assert verdict_of(story.another_succeeds(now=63.0)) is Verdict.WITNESSED


def test_a_coroutine_cancelled_in_a_replay_stays_at_once() -> None:
    story = Telling(policy=Policy(replaying=True))
    assert verdict_of(story.fails(3, now=31.0, cause=Cause.OVERRAN, took_s=30.0)) is Verdict.STAYS


def test_records_behind_the_suspect_wait_for_it_in_the_next_worker() -> None:
    """3 raised and waits, 4 is queued behind it, 1 was set aside: the next worker hears of each."""
    story = Telling()
    story.fails(1, now=0.5, cause=Cause.POISON)
    story.stored(1, 0.6)
    story.fails(3, now=1.0)
    story.the_rest_is_done(1.1, 4)
    assert story.dies(now=1.2, death=2)[:2] == [
        Start(None, None, 0.5),
        Give(1, rest=False, queued=(3,), hold=(2,), skip=(0,)),
    ]


def test_a_batch_names_all_its_records_and_they_run_one_by_one() -> None:
    policy = Policy(batches=True, cells_max=2)
    story = Telling(policy=policy)
    story.dies(1, 2, 3, 4, now=1.0)
    said = [story.happens(Failed(record(n), Cause.SUSPECTED, 1.0, 1.0), 1.0) for n in (1, 2, 3)]
    assert said == [[suspect_runs(1)], [suspect_runs(2)], []]
    assert story.done_alone(1, now=1.1) == [Settle(at(1)), suspect_runs(3)]


def test_an_old_mark_makes_nobody_suspect() -> None:
    """3 failed and is ours; that it is still marked running is from its try before."""
    story = Telling()
    story.fails(3, now=1.0)
    said = story.dies(3, now=1.1)
    assert not [decision for decision in said if isinstance(decision, RunAlone)]
    assert Give(1, rest=True, hold=(2,)) in said


def test_a_death_that_nothing_but_old_marks_go_with_has_no_culprit() -> None:
    story = Telling()
    story.fails(3, now=1.0)
    assert story.dies(3, now=1.1)[0] == Start(None, None, 0.5)


@pytest.mark.parametrize("passed", [False, True], ids=["its span is open", "its span is passed"])
def test_an_old_mark_of_a_settled_record_makes_nobody_suspect(passed: bool) -> None:
    story = Telling(policy=Policy(checkpoint_s=1e9))
    story.fails(3, now=1.0, cause=Cause.POISON)
    story.stored(3, 1.1)
    if passed:
        story.the_rest_is_done(1.2)
    said = story.dies(3, now=1.3)
    assert said == [Start(None, None, 0.5), *([] if passed else [Give(1, skip=(2,))])]


def test_a_record_whose_hang_was_seen_twice_has_failed_in_one_way() -> None:
    """The worker could not say what the first was like; the cell can. Another has succeeded since: it is left over."""
    story = Telling(policy=Policy(attempts_max=1, checkpoint_s=1e9))
    story.the_rest_is_done(0.9, 9, 10)
    story.fails(9, now=1.0, likeness="something else")
    story.dies(10, now=31.0, overran=(10,))
    story.another_succeeds(now=32.0)
    for sequence in (9, 10):
        story.fails(sequence, now=62.0, cause=Cause.OVERRAN, alone=True, likeness=f"kind {sequence}", took_s=30.0)
    found = []
    while not found:
        now = story.wakes()
        said = story.happens(Signal.TICKED, now)
        found += verdicts(said)
        for decision in said:
            if isinstance(decision, RunAlone):
                sequence = decision.at.nth + 1
                kind = f"kind {sequence}"
                found += verdicts(story.fails(sequence, now, Cause.OVERRAN, likeness=kind, alone=True, took_s=0.0))
    assert found[0] == Quarantine(at(10), Verdict.LEFT_OVER, 31.0, 32.0)


def test_what_was_marked_done_but_not_said_is_done() -> None:
    story = Telling()
    story.fails(3, now=1.0)
    story.ticks(1.5)
    story.happens(WorkerDied(1, (), ((at(3), False),), (), 1), 1.6)
    assert story.healer.ledger.done == 1
    assert not story.healer.undecided


def test_whoever_is_marked_done_is_not_suspect_even_if_marked_running_too() -> None:
    story = Telling()
    story.fails(3, now=1.0)
    story.ticks(1.5)
    said = story.happens(WorkerDied(1, (record(3),), ((at(3), False),), (), 1), 1.6)
    assert not [decision for decision in said if isinstance(decision, RunAlone)]
    assert story.healer.ledger.done == 1


def test_a_process_killed_for_another_shards_record_makes_no_suspects() -> None:
    story = Telling()
    said = story.happens(WorkerDied(1, (record(3),), (), (), 1, by_us=True), 1.0)
    assert said == [Start(None, None, 0.0), Give(1)]


def test_a_death_in_which_nothing_ran_delays_the_next_start() -> None:
    story = Telling()
    assert story.dies(now=1.0) == [Start(None, None, 0.5), Give(1)]
    assert story.dies(now=2.0, death=2)[0] == Start(None, None, 1.0)


def test_deaths_without_a_culprit_lead_to_one_at_a_time_and_then_to_a_human() -> None:
    """Its suspects are all done, alone: never a guess."""
    story = Telling(records=50)
    now = 1.0
    for death in range(1, 6):
        said = story.dies(death, now=now, death=death)
        starts = [decision for decision in said if isinstance(decision, Start)]
        assert starts[0].lanes_max == (1 if death > 3 else None)
        story.done_alone(death, now=now + 0.1)
        now += 1
    story.dies(6, now=now, death=6)
    said = story.done_alone(6, now=now + 0.1)
    assert said == [
        Settle(at(6)),
        CallHuman("its worker dies again and again, and no record dies alone"),
        Order.ABANDON,
        Order.STOP_SHARD,
    ]
    assert story.healer.over
    assert story.healer.needs_human


def test_deaths_long_ago_are_forgiven() -> None:
    story = Telling()
    for death in range(1, 30):
        assert Order.STOP_SHARD not in story.dies(now=death * 150.0, death=death)


def test_a_death_is_explained_when_one_suspect_of_any_shard_dies_alone() -> None:
    host = Host()
    shards = [Telling(records=50, host=host, shard_id=name) for name in ("a", "b")]
    for death in range(1, 20):
        now = death * 10.0
        for shard in shards:
            shard.happens(WorkerDied(death, (record(death),), (), (), 2), now)
        shards[0].fails(death, now + 1, Cause.CRASHED, alone=True)
        assert Order.STOP_SHARD not in shards[1].done_alone(death, now + 2)
    assert not shards[1].healer.over


def test_cells_are_bounded_over_all_shards_and_taken_in_turn() -> None:
    """A shard goes on for two seconds where its own succeed one after the other: no process has to start for it."""
    policy = Policy(cells_max=1)
    host = Host(policy)
    a, b = (Telling(policy=policy, host=host, shard_id=name) for name in ("a", "b"))
    assert suspect_runs(1) in a.dies(1, 2, 3, 4, now=1.0)
    assert suspect_runs(1) not in b.dies(1, now=1.0, death=2)
    assert a.done_alone(1, now=1.1) == [Settle(at(1)), suspect_runs(2)]
    assert b.ticks(1.5) == []
    assert a.done_alone(2, now=2.9) == [Settle(at(2)), suspect_runs(3)]
    assert a.done_alone(3, now=3.1) == [Settle(at(3))]
    assert b.ticks(3.5) == [suspect_runs(1)]
    b.done_alone(1, now=3.6)
    assert a.ticks(4.0) == [suspect_runs(4)]


def test_who_needs_a_fresh_process_waits_in_line_for_it() -> None:
    """3 hung, 1 and 2 only ran beside it: that they have succeeded gives 3 no process to run in."""
    policy = Policy(cells_max=1)
    host = Host(policy)
    a, b = (Telling(policy=policy, host=host, shard_id=name) for name in ("a", "b"))
    assert suspect_runs(1) in a.dies(1, 2, 3, now=31.0, overran=(3,))
    b.dies(1, now=31.0, death=2)
    assert a.done_alone(1, now=31.1) == [Settle(at(1)), suspect_runs(2)]
    assert a.done_alone(2, now=31.2) == [Settle(at(2))]
    assert b.ticks(31.5) == [suspect_runs(1)]
    b.done_alone(1, now=31.6)
    assert a.ticks(32.0) == [RunAlone(at(3))]


def test_whoever_was_never_tried_comes_before_those_that_hang_again_and_again() -> None:
    """2 hangs; a success asks for it again, but 3 and 4, which only stood next to it, go first."""
    story = Telling(policy=Policy(cells_max=1, attempts_max=1))
    assert suspect_runs(2) in story.dies(2, 3, 4, now=1.0)
    story.another_succeeds(now=1.5)
    assert story.fails(2, now=31.0, cause=Cause.OVERRAN, alone=True, took_s=30.0) == [suspect_runs(3)]
    assert story.another_succeeds(now=31.3) == []
    assert story.done_alone(3, now=31.4) == [Settle(at(3)), suspect_runs(4)]
    assert story.done_alone(4, now=31.5) == [Settle(at(4)), RunAlone(at(2))]


def test_of_many_coroutines_only_the_one_that_was_being_resumed_is_suspect() -> None:
    """The others merely stood there: they run again as before, and once they have, each can be named."""
    story = Telling(records=20)
    said = story.dies(3, 4, 5, now=1.0, stood=(3, 5))
    assert said == [Start(None, None, 0.0), Give(1, hold=(3,)), suspect_runs(4)]
    assert story.done_alone(4, now=1.1) == [Settle(at(4))]
    said = story.dies(3, 5, 6, 7, now=2.0, death=2, stood=(3, 5, 7))
    assert [decision for decision in said if isinstance(decision, RunAlone)] == [
        suspect_runs(3), suspect_runs(5), suspect_runs(6),
    ]  # fmt: skip


def test_a_death_whose_only_suspect_is_innocent_has_no_culprit() -> None:
    story = Telling(records=50)
    for death in range(1, 7):
        story.dies(death, death + 20, now=float(death), death=death, stood=(death + 20,))
        said = story.done_alone(death, now=death + 0.1)
    assert said[-1] is Order.STOP_SHARD


def test_of_those_that_overran_none_is_spared_for_standing_there() -> None:
    story = Telling()
    said = story.dies(3, 4, now=31.0, overran=(3, 4), stood=(4,))
    assert RunAlone(at(4)) in said


def test_records_of_a_batch_that_died_are_suspects_each_in_its_turn() -> None:
    """4 may be of the same key as 3, which only the worker knows: it must not run beside it, or before it."""
    story = Telling(policy=Policy(batches=True))
    assert story.dies(3, 4, now=1.0) == [Start(None, None, 0.0), Give(1, rest=True, queued=(2, 3), ask=(2, 3))]
    assert story.happens(Failed(record(3), Cause.SUSPECTED, 1.1, 1.1), 1.1) == [suspect_runs(3)]
    assert Give(1, rest=True, queued=(3,), hold=(2,), ask=(3,)) in story.dies(now=1.2)
    assert story.done_alone(3, now=1.3) == [Settle(at(3))]
    assert story.happens(Failed(record(4), Cause.SUSPECTED, 1.4, 1.4), 1.4) == [suspect_runs(4)]


def test_a_batch_whose_records_all_are_well_alone_died_without_a_culprit() -> None:
    """So that its next death is the second, and delays the next start by more."""
    story = Telling(policy=Policy(batches=True))
    story.dies(3, 4, now=1.0)
    for sequence in (3, 4):
        story.happens(Failed(record(sequence), Cause.SUSPECTED, 1.1, 1.1), 1.1)
        story.done_alone(sequence, now=1.2)
    assert story.dies(now=1.3, death=2)[0] == Start(None, None, 1.0)


def test_who_is_to_be_asked_for_is_so_in_a_span_that_was_reported() -> None:
    """All of it but the suspects is settled, and another worker dies."""
    story = Telling(policy=Policy(batches=True))
    story.dies(3, 4, now=1.0)
    story.happens(Failed(record(3), Cause.SUSPECTED, 1.1, 1.1), 1.1)
    story.the_rest_is_done(1.2)
    assert Give(1, rest=False, queued=(3,), hold=(2,), ask=(3,)) in story.dies(now=1.3)


def test_a_stopped_shard_leaves_its_checkpoint_behind() -> None:
    story = Telling(records=50, policy=Policy(deaths_stop=1, checkpoint_s=1e9))
    story.the_rest_is_done(0.5, 7)
    said = story.dies(now=1.0)
    assert Checkpoint(Position(6)) in said
    assert said[-1] is Order.STOP_SHARD


def test_who_was_only_kept_from_running_alone_is_still_suspected_of_the_death() -> None:
    """A cell made room for others, or could not begin. What comes of the record tells, not that."""
    story = Telling(records=50)
    for death in range(1, 20):
        now = death * 10.0
        story.dies(death, now=now, death=death)
        story.fails(death, now + 0.5, Cause.THROTTLED, alone=True)
        assert story.ticks(now + 2) == [RunAlone(at(death))]
        assert Order.STOP_SHARD not in story.fails(death, now + 3, Cause.CRASHED, alone=True)
        story.another_succeeds(now + 4)
