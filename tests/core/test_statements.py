"""A processor that says itself how far it is done: the checkpoint never passes its word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamheal.core.messages import (
    CallHuman,
    Cause,
    Checkpoint,
    Decision,
    Done,
    Give,
    Halted,
    HearOut,
    Order,
    Quarantine,
    Retry,
    RunAlone,
    RunsAgain,
    Signal,
    SpanArrived,
    SpanDone,
    Stated,
    Verdict,
    WorkerDied,
)
from streamheal.core.policy import Policy
from streamheal.core.statements import Statements
from streamheal.records import Position
from tests.core.telling import Telling, at, record, suspect_runs


def checkpoints(said: list[Decision]) -> list[Position]:
    return [decision.position for decision in said if isinstance(decision, Checkpoint)]


def test_what_is_settled_but_not_stated_is_not_checkpointed() -> None:
    """All ten are done, and the processor answers for seven of them."""
    story = Telling()
    story.happens(Stated(Position(7), owes=True), 0.5)
    assert story.the_rest_is_done(0.6) == [Checkpoint(Position(7))]
    story.kept(7, 0.7)
    assert story.happens(Stated(Position(10), owes=False), 0.8) == [Checkpoint(Position(10))]


def test_what_is_stated_but_not_settled_is_not_checkpointed() -> None:
    story = Telling()
    story.fails(3, now=0.4)
    story.happens(Stated(Position(10), owes=False), 0.5)
    assert checkpoints(story.the_rest_is_done(0.6)) == [Position(2)]


def test_a_processor_that_has_stated_nothing_has_nothing_checkpointed() -> None:
    story = Telling()
    story.happens(Stated(None, owes=True), 0.5)
    assert story.the_rest_is_done(0.6) == []
    assert story.healer.wakes_at is None


def test_a_record_that_came_out_of_turn_is_owed_although_later_ones_are_stated() -> None:
    """3 fails, all others are stated. Then 3 succeeds, and is kept in memory: the checkpoint stays at 2."""
    story = Telling()
    story.fails(3, now=0.4)
    story.happens(Stated(Position(10), owes=False), 0.5)
    assert checkpoints(story.the_rest_is_done(0.6)) == [Position(2)]
    story.kept(2, 0.7)
    assert Retry(at(3)) in story.ticks(5.0)
    story.happens(Stated(None, owes=True), 5.1)
    assert checkpoints(story.happens(Done(at(3)), 5.2)) == []
    assert story.happens(Stated(Position(10), owes=False), 5.3) == [Checkpoint(Position(10))]


def test_a_poison_record_needs_no_word_of_the_processor() -> None:
    story = Telling()
    story.fails(3, now=0.4, cause=Cause.POISON)
    story.happens(Stated(Position(10), owes=False), 0.5)
    story.the_rest_is_done(0.6)
    story.kept(2, 0.7)
    assert checkpoints(story.stored(3, 0.8)) == [Position(10)]


def test_what_a_dead_worker_owed_is_not_passed_until_the_shard_is_begun_anew() -> None:
    """It had returned from five and stated two. Whatever its successor says, the checkpoint stays at two."""
    story = Telling()
    story.happens(Stated(Position(2), owes=True), 0.4)
    story.dies(6, now=0.5)
    assert story.healer.statements.forgone_after == Position(2)
    story.happens(Stated(Position(10), owes=False), 0.6)
    assert story.fails(6, now=0.65, cause=Cause.SUSPECTED) == [suspect_runs(6)]
    story.done_alone(6, 0.7)
    assert checkpoints(story.the_rest_is_done(0.8)) == [Position(2)]
    story.kept(2, 0.9)
    assert story.happens(Signal.SHUTDOWN_REQUESTED, 1.0) == [Order.SHUTDOWN_COMPLETE]


def test_what_a_dead_worker_owed_runs_again_where_it_was_kept() -> None:
    """Twenty are done but for 3, which failed; the processor states five. All from 6 on run again, before 3 does."""
    story = Telling(records=20)
    story.fails(3, now=0.3)
    story.happens(Stated(Position(5), owes=True), 0.4)
    assert checkpoints(story.the_rest_is_done(0.5)) == [Position(2)]
    story.kept(2, 0.6)
    said = story.happens(WorkerDied(1, (), kept=True, again=RunsAgain(-1, 15, 500)), 0.7)
    assert [give.span for give in said if isinstance(give, Give)] == [-1, 1]
    ledger = story.healer.ledger
    assert (ledger.read, ledger.done, ledger.in_flight) == (20, 4, 16)
    assert not story.healer.statements.forgone
    assert story.healer.safe == Position(2)

    story.happens(Stated(Position(20), owes=False), 0.8)
    story.happens(SpanDone(-1, 15, Position(20)), 0.9)
    assert story.healer.safe == Position(2)
    story.ticks(5.0)
    assert checkpoints(story.happens(Done(at(3)), 5.2)) == [Position(20)]
    assert (ledger.read, ledger.done, ledger.in_flight) == (20, 20, 0)


def owing(story: Telling, *again: int) -> list[Decision]:
    """A worker dies in which nothing ran, and these run again, in a span before all others."""
    died = WorkerDied(1, (), kept=True, again=RunsAgain(-1, len(again), 10) if again else None)
    return story.happens(died, 1.0)


def test_who_would_run_alone_waits_for_those_before_it_that_run_again() -> None:
    """3 has had its tries in the worker, and waits for a witness; 1 and 2, of its key perhaps, were only in memory."""
    story = Telling(policy=Policy(attempts_max=2, checkpoint_s=1_000.0))
    story.happens(Stated(None, owes=True), 0.1)
    story.fails(3, now=0.2)
    story.the_rest_is_done(0.3)
    (again, give) = [one for one in owing(story, 1, 2) if isinstance(one, Give)]
    assert (again.span, give.span, give.queued, give.ask, give.hold) == (-1, 1, (2,), (2,), ())
    assert story.another_succeeds(now=1.2) == []
    assert story.fails(3, now=1.3, cause=Cause.SUSPECTED) == [RunAlone(at(3))]


def test_who_runs_alone_already_waits_for_them_before_its_next_try() -> None:
    story = Telling(policy=Policy(attempts_max=2, checkpoint_s=1_000.0))
    story.happens(Stated(None, owes=True), 0.1)
    story.fails(3, now=0.2)
    assert RunAlone(at(3)) in story.another_succeeds(now=0.4)
    story.the_rest_is_done(0.5)
    (_, give) = [one for one in owing(story, 1, 2) if isinstance(one, Give)]
    assert give.ask == (2,)
    story.fails(3, now=1.1, alone=True)
    assert story.another_succeeds(now=1.2) == []
    assert story.fails(3, now=1.3, cause=Cause.SUSPECTED) == [RunAlone(at(3))]


def test_whose_lane_asks_about_it_when_it_is_done_alone_or_set_aside_is_let_be() -> None:
    """The two words have crossed."""
    story = Telling(policy=Policy(attempts_max=2, checkpoint_s=1_000.0))
    story.happens(Stated(None, owes=True), 0.1)
    story.fails(3, now=0.2)
    story.fails(4, now=0.2)
    story.another_succeeds(now=0.4)
    owing(story)
    story.done_alone(3, 1.1)
    assert story.fails(3, now=1.2, cause=Cause.SUSPECTED) == []
    assert Quarantine(at(4), Verdict.SAID_SO) in story.fails(4, now=1.3, cause=Cause.POISON, alone=True)
    assert story.fails(4, now=1.4, cause=Cause.SUSPECTED) == []


def test_a_worker_that_owed_nothing_takes_nothing_with_it() -> None:
    story = Telling()
    story.happens(Stated(Position(5), owes=False), 0.4)
    story.dies(6, now=0.5)
    story.done_alone(6, 0.6)
    assert checkpoints(story.the_rest_is_done(0.8)) == [Position(10)]


def test_what_ran_alone_and_was_not_stated_is_owed_for_good() -> None:
    """Its process ended with it: the record is done, but its processor never said so."""
    story = Telling()
    story.dies(6, now=0.5)
    story.happens(Stated(None, owes=True, gone=True), 0.6)
    story.done_alone(6, 0.6)
    story.the_rest_is_done(0.8)
    assert story.healer.statements.forgone
    assert story.healer.safe is None


def test_the_processor_is_heard_out_before_the_last_checkpoint() -> None:
    story = Telling(policy=Policy(checkpoint_s=1e9))
    story.happens(Stated(Position(4), owes=True), 0.4)
    story.the_rest_is_done(0.5)
    assert story.happens(Signal.SHARD_ENDED, 0.6) == [HearOut(shard_ended=True)]
    assert story.happens(Stated(Position(10), owes=False), 0.7) == []
    assert story.happens(Signal.HEARD_OUT, 0.8) == [Checkpoint(Position(10))]
    assert story.kept(10, 0.9) == [Order.SHARD_COMPLETE]


def test_a_shutdown_hears_the_processor_out_no_longer_than_shutdown_s() -> None:
    story = Telling(policy=Policy(shutdown_s=20.0, checkpoint_s=1e9))
    story.happens(Stated(Position(4), owes=True), 0.4)
    story.the_rest_is_done(0.5)
    assert story.happens(Signal.SHUTDOWN_REQUESTED, 1.0) == [HearOut(shard_ended=False)]
    assert story.healer.wakes_at == 21.0
    assert story.ticks(21.0) == [Checkpoint(Position(4))]
    assert story.kept(4, 21.1) == [Order.SHUTDOWN_COMPLETE]


@pytest.mark.parametrize("stated", [4, None])
def test_a_halted_shard_is_not_checkpointed_beyond_what_its_processor_has_stated(stated: int | None) -> None:
    """It has returned from eight of ten when its time is up. Its memory is gone with its process."""
    story = Telling(policy=Policy(shutdown_s=20.0, checkpoint_s=1e9))
    story.happens(Stated(stated and Position(stated), owes=True), 0.4)
    story.happens(Signal.SHUTDOWN_REQUESTED, 1.0)
    assert story.ticks(21.0) == [Order.HALT]
    assert story.happens(WorkerDied(1, (record(9),), by_us=True), 21.1) == []
    said = story.happens(Halted((), record(9)), 21.1)
    assert checkpoints(said) == ([Position(stated)] if stated else [])
    assert story.healer.statements.forgone


def test_an_ended_shard_whose_end_nobody_states_is_stopped_and_a_human_called() -> None:
    """Its children must not begin before it is done, and KCL would wait for ever, too."""
    story = Telling()
    story.happens(Stated(Position(4), owes=True), 0.4)
    story.the_rest_is_done(0.5)
    story.kept(4, 0.6)
    assert story.happens(Signal.SHARD_ENDED, 0.7) == [HearOut(shard_ended=True)]
    assert story.happens(Signal.HEARD_OUT, 0.8) == [
        CallHuman("the shard has ended, but the processor did not checkpoint its end: its children cannot begin"),
        Order.STOP_SHARD,
    ]
    assert story.healer.needs_human


def test_an_ended_shard_whose_worker_died_with_what_it_owed_is_stopped_and_a_human_called() -> None:
    """Nobody has to mend anything: whoever starts again is given the records again."""
    story = Telling()
    story.happens(Stated(Position(4), owes=True), 0.4)
    story.dies(now=0.5)
    story.the_rest_is_done(0.6)
    story.kept(4, 0.7)
    assert story.happens(Signal.SHARD_ENDED, 0.8) == [
        CallHuman(
            "the shard has ended, but its worker died with records it had not checkpointed: "
            "start again, and they are given again"
        ),
        Order.STOP_SHARD,
    ]


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        pytest.param([(3, 4, True), (7, None, True)], 4, id="one out of turn is owed besides: the limit stays"),
        pytest.param([(5, None, True), (7, None, True)], 5, id="two out of turn: up to the first"),
        pytest.param([(3, 4, True), (8, 6, True)], 6, id="stated further, and owing beyond"),
        pytest.param([(5, 2, False), (8, 6, True)], 8, id="where nothing was owed, all settled by then is done"),
        pytest.param([(5, None, True), (8, 6, False)], 9, id="nothing is owed any more"),
    ],
)
def test_nothing_owed_is_passed_and_nothing_else_holds(said: list[tuple[int, int | None, bool]], limit: int) -> None:
    """Each is what was settled when it was said, up to where, and whether more is owed. In the end 9 are settled."""
    statements = Statements()
    for watermark, stated, owes in said:
        statements.stated(Stated(None if stated is None else Position(stated), owes), Position(watermark))
    assert statements.limited(Position(9)) == Position(limit)


def test_of_two_deaths_the_first_to_owe_holds_the_checkpoint() -> None:
    statements = Statements()
    for upto, watermark in ((2, 1), (7, 6)):
        statements.stated(Stated(Position(upto), owes=True), Position(watermark))
        statements.worker_died(kept=False)
    assert statements.limited(Position(9)) == Position(2)


def test_what_is_owed_from_now_on_is_owed_beyond_what_is_settled_now() -> None:
    """The first span is settled. Of the second, a record returned, alone or in its lane, and was not stated."""
    for gone in (False, True):
        story = Telling()
        story.the_rest_is_done(0.1)
        story.happens(Stated(None, owes=True, gone=gone), 0.2)
        assert story.healer.safe == Position(10)
        story.happens(SpanArrived(2, 10), 0.3)
        story.happens(SpanDone(2, 10, Position(20)), 0.4)
        assert story.healer.safe == Position(10)


def test_an_open_record_of_a_dead_worker_is_owed_like_any_other() -> None:
    """Killed for another shard's sake: nobody is suspect, but its memory is gone all the same."""
    story = Telling()
    story.happens(Stated(Position(2), owes=True), 0.4)
    story.happens(WorkerDied(1, (record(6),), by_us=True), 0.5)
    assert story.healer.statements.forgone_after == Position(2)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("state"), st.integers(0, 40), st.booleans()),
            st.tuples(st.just("out of turn"), st.just(0), st.just(True)),
            st.tuples(st.just("settle"), st.integers(0, 5), st.just(False)),
            st.tuples(st.just("die"), st.just(0), st.just(False)),
        ),
        max_size=30,
    )
)
def test_the_limit_never_goes_back_behind_what_was_checkpointed(acts: list[tuple[str, int, bool]]) -> None:
    """In whatever order it is stated, settled and died: a checkpoint once made stays good."""
    statements, watermark, kept = Statements(), Position(0), Position(0)
    for what, number, owes in acts:
        if what == "state":
            statements.stated(Stated(Position(number), owes), watermark)
        elif what == "out of turn":
            statements.stated(Stated(None, owes=True), watermark)
        elif what == "die":
            statements.worker_died(kept=False)
        else:
            watermark = Position(watermark.sequence + number)
        safe = statements.limited(watermark)
        assert safe is not None
        assert kept <= safe <= watermark
        kept = safe
