"""What the engine is told: the next batch, checkpoints, the end; and what a clean span costs."""

from __future__ import annotations

import sys
from collections.abc import Callable

from streamheal.core.healer import Healer
from streamheal.core.host import Host
from streamheal.core.messages import (
    At,
    Cause,
    Checkpoint,
    Checkpointed,
    Give,
    Halted,
    Named,
    Order,
    Signal,
    SpanArrived,
    SpanCounted,
    SpanDone,
    WorkerDied,
)
from streamheal.core.policy import Policy
from streamheal.records import Position
from tests.core.telling import Telling, record


def healer(**policy: float) -> Healer:
    chosen = Policy(**policy)  # type: ignore[arg-type]  # whole numbers are given where they are asked for
    return Healer("shard", chosen, Host(chosen))


def test_a_batch_is_answered_before_it_is_done() -> None:
    assert healer().handle(SpanArrived(1, 100), 0.0) == [Give(1), Order.ANSWER]


def test_batches_nobody_has_counted_yet_are_few() -> None:
    """How many records they hold is not known, so the window cannot see them."""
    core = healer()
    said = [core.handle(SpanArrived(span, 100), 0.0) for span in (1, 2, 3)]
    assert [Order.ANSWER in one for one in said] == [True, True, False]
    assert core.handle(SpanCounted(1, 10), 0.1) == [Order.ANSWER]


def test_the_window_of_open_records_is_kept() -> None:
    core = healer(open_records_max=20, checkpoint_s=1e9)
    assert Order.ANSWER in core.handle(SpanArrived(1, 100), 0.0)
    core.handle(SpanCounted(1, 20), 0.0)
    assert Order.ANSWER not in core.handle(SpanArrived(2, 100), 0.0)
    assert core.handle(SpanDone(1, 20, Position(20)), 0.1) == [Order.ANSWER]


def test_spans_of_which_something_may_run_are_few() -> None:
    """Each keeps a piece of memory that all shards share: one that stands still must leave the others theirs."""
    core = healer(open_spans_max=3, checkpoint_s=1e9)
    said = []
    for span in (1, 2, 3):
        said.append(core.handle(SpanArrived(span, 1), 0.0))
        core.handle(SpanCounted(span, 1), 0.0)
    assert [Order.ANSWER in one for one in said] == [True, True, False]
    assert core.handle(SpanDone(1, 1, Position(1)), 0.1) == [Order.ANSWER]


def test_the_window_of_open_bytes_is_kept() -> None:
    core = healer(open_bytes_max=1000, checkpoint_s=1e9)
    assert Order.ANSWER not in core.handle(SpanArrived(1, 1000), 0.0)
    assert core.handle(SpanDone(1, 20, Position(20)), 0.1) == [Order.ANSWER]


def test_one_blocked_record_does_not_hold_up_the_stream() -> None:
    """It counts as one open record; the rest of its span is settled and gone."""
    story = Telling(records=10)
    story.fails(3, now=0.5)
    story.the_rest_is_done(0.6)
    assert Order.ANSWER in story.happens(SpanArrived(2, 100), 0.7)
    assert story.healer.ledger.in_flight == 1
    assert story.healer.ledger.size == 101


def test_checkpoints_come_every_checkpoint_s_and_one_at_a_time() -> None:
    core = healer(checkpoint_s=5.0)
    core.handle(SpanArrived(1, 10), 95.0)
    assert Checkpoint(Position(10)) in core.handle(SpanDone(1, 10, Position(10)), 100.0)
    core.handle(SpanArrived(2, 10), 101.0)
    assert core.handle(SpanDone(2, 10, Position(20)), 107.0) == []
    assert core.handle(Checkpointed(Position(10)), 107.1) == [Checkpoint(Position(20))]
    assert core.handle(Checkpointed(Position(20)), 107.2) == []
    assert core.wakes_at is None


def test_the_first_checkpoint_takes_its_time_as_well() -> None:
    """Or a host that dies soon after each start would get a little further each time, and never know of the others."""
    core = healer(checkpoint_s=5.0)
    core.handle(SpanArrived(1, 10), 100.0)
    assert not [one for one in core.handle(SpanDone(1, 10, Position(10)), 104.0) if isinstance(one, Checkpoint)]
    assert core.wakes_at == 105.0
    assert core.handle(Signal.TICKED, 105.0) == [Checkpoint(Position(10))]


def test_a_checkpoint_that_failed_is_tried_again() -> None:
    core = healer(checkpoint_s=5.0)
    core.handle(SpanArrived(1, 10), 95.0)
    core.handle(SpanDone(1, 10, Position(10)), 100.0)
    assert core.handle(Checkpointed(None), 100.1) == []
    assert core.wakes_at == 105.0
    assert core.handle(Signal.TICKED, 105.0) == [Checkpoint(Position(10))]


def test_an_ended_shard_is_complete_when_everything_is_settled_and_kept() -> None:
    story = Telling(policy=Policy(checkpoint_s=1e9))
    story.fails(3, now=0.5, cause=Cause.POISON)
    assert story.happens(Signal.SHARD_ENDED, 0.6) == []
    assert story.the_rest_is_done(0.7) == []
    assert story.stored(3, 0.8)[-1] == Checkpoint(Position(10))
    assert story.kept(10, 0.9) == [Order.SHARD_COMPLETE]
    assert story.healer.over
    assert not story.healer.needs_human


def test_a_shard_that_ends_without_a_record_is_complete_at_once() -> None:
    assert healer().handle(Signal.SHARD_ENDED, 1.0) == [Order.SHARD_COMPLETE]


def test_a_shutdown_lets_open_records_finish() -> None:
    story = Telling(policy=Policy(checkpoint_s=1e9))
    assert story.happens(Signal.SHUTDOWN_REQUESTED, 1.0) == []
    assert story.the_rest_is_done(2.0) == [Checkpoint(Position(10))]
    assert story.kept(10, 2.1) == [Order.SHUTDOWN_COMPLETE]


def test_a_shard_that_ends_after_it_was_asked_for_is_not_complete() -> None:
    """What was brought between the two was not taken: SHARD_END in the lease table would lose it for good."""
    story = Telling(policy=Policy(checkpoint_s=1e9))
    assert story.happens(Signal.SHUTDOWN_REQUESTED, 1.0) == []
    assert story.happens(Signal.SHARD_ENDED, 1.5) == []
    assert story.the_rest_is_done(2.0) == [Checkpoint(Position(10))]
    assert story.kept(10, 2.1) == [Order.SHUTDOWN_COMPLETE]


def test_an_ended_shard_that_is_asked_for_is_complete() -> None:
    """All of it had come before."""
    story = Telling(policy=Policy(checkpoint_s=1e9))
    assert story.happens(Signal.SHARD_ENDED, 1.0) == []
    assert story.happens(Signal.SHUTDOWN_REQUESTED, 1.5) == []
    assert story.the_rest_is_done(2.0) == [Checkpoint(Position(10))]
    assert story.kept(10, 2.1) == [Order.SHARD_COMPLETE]


def test_a_shutdown_waits_no_longer_than_shutdown_s() -> None:
    story = Telling(policy=Policy(shutdown_s=20.0, attempts_max=99, retry_s_min=30.0, checkpoint_s=1e9))
    story.fails(3, now=0.5)
    story.the_rest_is_done(0.6)
    story.happens(Signal.SHUTDOWN_REQUESTED, 1.0)
    assert story.healer.wakes_at == 21.0
    assert story.ticks(21.0) == [Order.HALT]
    assert story.happens(Halted(), 21.1) == [Checkpoint(Position(2))]
    assert story.kept(2, 21.2) == [Order.ABANDON, Order.SHUTDOWN_COMPLETE]


def halted(*spans: int) -> Telling:
    """Ten records in span 1, `spans` in the next ones; the shard has been asked for and its time is up."""
    story = Telling(policy=Policy(shutdown_s=20.0, checkpoint_s=1e9))
    for number, records in enumerate(spans, start=2):
        story.happens(SpanArrived(number, records), 0.1)
        story.happens(SpanCounted(number, records), 0.1)
    story.happens(Signal.SHUTDOWN_REQUESTED, 1.0)
    assert story.ticks(21.0) == [Order.HALT]
    assert story.healer.wakes_at is None
    return story


def test_a_shutdown_that_outlasts_shutdown_s_checkpoints_what_is_done_of_a_span() -> None:
    story = halted()
    assert story.happens(Halted((), record(7)), 21.1) == [Checkpoint(Position(6))]
    assert story.kept(6, 21.2) == [Order.ABANDON, Order.SHUTDOWN_COMPLETE]


def test_a_span_done_but_not_reported_is_passed() -> None:
    """The first is done to its end; of the second, 11 to 14 are."""
    story = halted(10)
    fifth = Named(At(2, 4), Position(15), Position(14))
    said = story.happens(Halted((SpanDone(1, 10, Position(10), filtered=3),), fifth), 21.1)
    assert said == [Checkpoint(Position(14))]
    ledger = story.healer.ledger
    assert (ledger.read, ledger.done, ledger.filtered, ledger.in_flight) == (20, 7, 3, 10)


def test_nothing_is_checkpointed_where_not_even_the_first_record_is_done() -> None:
    story = halted()
    assert story.happens(Halted(), 21.1) == [Order.ABANDON, Order.SHUTDOWN_COMPLETE]


def test_a_record_in_trouble_ends_what_is_checkpointed_unless_it_is_settled() -> None:
    """1 to 7 do not run any more, and are marked done but for 3 and 5, which are known by themselves."""
    story = Telling(policy=Policy(shutdown_s=20.0, retry_s_min=1e9, retry_s_max=1e9, checkpoint_s=1e9))
    story.fails(3, now=0.5, cause=Cause.POISON)
    story.fails(5, now=0.6)
    story.happens(Signal.SHUTDOWN_REQUESTED, 1.0)
    story.stored(3, now=1.1)
    assert story.ticks(21.0) == [Order.HALT]
    assert story.happens(Halted((), record(8)), 21.1) == [Checkpoint(Position(4))]


def test_nothing_begins_any_more_once_a_shard_is_halted() -> None:
    """What is heard until its process is dead still counts; its death, a retry and a batch begin nothing."""
    story = halted()
    said = story.fails(3, now=21.1, cause=Cause.THROTTLED)
    said += story.happens(WorkerDied(1, (record(4),), by_us=True), 21.2)
    said += story.happens(SpanArrived(2, 10), 21.3)
    said += story.happens(Signal.TICKED, 1e6)
    assert said == []
    assert story.happens(Halted((), record(9)), 1e6) == [Checkpoint(Position(2))]


def test_a_checkpoint_that_fails_after_the_halt_is_tried_again() -> None:
    story = halted()
    story.happens(Halted((), record(7)), 21.1)
    assert story.happens(Checkpointed(None), 22.0) == [Checkpoint(Position(6))]
    assert story.kept(6, 22.1) == [Order.ABANDON, Order.SHUTDOWN_COMPLETE]


def test_a_shard_that_has_ended_is_not_complete_when_it_had_to_be_halted() -> None:
    """Its processor has not heard of the end: the next owner tells it."""
    story = halted()
    story.happens(Signal.SHARD_ENDED, 21.05)
    said = story.happens(Halted((SpanDone(1, 10, Position(10)),)), 21.1)
    assert said == [Checkpoint(Position(10))]
    assert story.kept(10, 21.2) == [Order.ABANDON, Order.SHUTDOWN_COMPLETE]


def test_a_lease_lost_while_it_is_halted_is_checkpointed_nowhere() -> None:
    story = halted()
    assert story.happens(Signal.LEASE_LOST, 21.1) == [Order.ABANDON]
    assert story.happens(Halted((), record(7)), 21.2) == []


def test_no_batch_is_asked_for_once_a_shutdown_is_requested() -> None:
    core = healer()
    core.handle(Signal.SHUTDOWN_REQUESTED, 0.0)
    assert Order.ANSWER not in core.handle(SpanArrived(1, 10), 0.1)


def test_a_lost_lease_abandons_everything_and_checkpoints_nothing() -> None:
    story = Telling()
    story.fails(3, now=0.5)
    assert story.happens(Signal.LEASE_LOST, 1.0) == [Order.ABANDON]
    assert story.healer.over
    assert story.the_rest_is_done(1.1) == []
    assert story.healer.wakes_at is None


def lines_run(work: Callable[[], None]) -> int:
    """Lines of Python that the work runs: what it costs, however busy the machine is."""
    ran = 0

    def trace(*_: object) -> object:
        nonlocal ran
        ran += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]  # the protocol it wants is this function's
    try:
        work()
    finally:
        sys.settrace(before)
    return ran


def test_a_clean_span_costs_the_same_whatever_its_size() -> None:
    def spans(records: int) -> None:
        core = healer(checkpoint_s=1e9)
        for span in range(50):
            core.handle(SpanArrived(span, records * 200), float(span))
            core.handle(SpanDone(span, records, Position((span + 1) * records)), span + 0.5)

    # A few lines more or less are the interpreter's own (finalizers run when they like).
    assert abs(lines_run(lambda: spans(10_000)) - lines_run(lambda: spans(10))) < 100
    assert lines_run(lambda: spans(10)) < 50 * 250


def test_a_flood_of_poison_costs_each_record_the_same() -> None:
    def flood(records: int) -> None:
        story = Telling(records=records, policy=Policy(open_records_max=10**6, checkpoint_s=1e9))
        for sequence in range(1, records + 1):
            story.fails(sequence, now=1.0, cause=Cause.POISON)
            assert story.healer.wakes_at is None
        for sequence in range(1, records + 1):
            story.stored(sequence, 2.0)

    few, many = lines_run(lambda: flood(50)) / 50, lines_run(lambda: flood(1000)) / 1000
    assert many < few * 1.1
