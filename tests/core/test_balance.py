"""The books are counted twice before each checkpoint: whatever slips through one count is seen by the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamheal.core.balance import weigh
from streamheal.core.case import Case, Phase
from streamheal.core.healer import Healer
from streamheal.core.ledger import Ledger
from streamheal.core.messages import (
    CallHuman,
    Checkpoint,
    LedgerBroken,
    Order,
    RunsAgain,
    Signal,
    SpanArrived,
    SpanDone,
    Stated,
    WorkerDied,
)
from streamheal.core.policy import Policy
from streamheal.records import Position
from tests.core.telling import Telling
from tests.core.test_ledger import named


def books() -> Ledger:
    """Two spans of ten were passed; in the third, 24 waits and all else is done; the fourth is under way."""
    ledger = Ledger()
    for span in range(4):
        ledger.open(span, 500)
    for span in range(3):
        ledger.count(span, 10)
    ledger.add(Case(named(2, 3), Phase.WAITING))
    for span in range(3):
        ledger.report(span, 10, Position(span * 10 + 10), 0)
    return ledger


def test_books_in_order_are_found_so() -> None:
    ledger = books()
    assert ledger.watermark() == Position(23)
    assert weigh(ledger, Position(23)) is None


def _settled_in_the_sums_only(ledger: Ledger) -> None:
    ledger.in_flight -= 1
    ledger.done += 1


def _settled_in_the_span_only(ledger: Ledger) -> None:
    ledger.spans[2].cases[3] = None


def _read_and_forgotten(ledger: Ledger) -> None:
    ledger.read += 1


def _passed_with_a_record_open(ledger: Ledger) -> None:
    """The sums know nothing of it: `left` is what spans are passed by."""
    ledger.spans[2].left = 0
    ledger._advance()


def _span_lost(ledger: Ledger) -> None:
    del ledger.spans[3]


def _span_replaced(ledger: Ledger) -> None:
    ledger.open(3, 500)


def _passed_out_of_order(ledger: Ledger) -> None:
    ledger.spans = dict(reversed(ledger.spans.items()))
    ledger.report(3, 10, Position(40), 0)


def _not_marked(ledger: Ledger) -> None:
    ledger.unmarked = 1


@pytest.mark.parametrize(
    "hole",
    [
        _settled_in_the_sums_only,
        _settled_in_the_span_only,
        _read_and_forgotten,
        _passed_with_a_record_open,
        _span_lost,
        _span_replaced,
        _passed_out_of_order,
        _not_marked,
    ],
)
def test_a_hole_is_found(hole: Callable[[Ledger], None]) -> None:
    ledger = books()
    hole(ledger)
    assert weigh(ledger, ledger.behind or Position(0)) is not None


def test_a_checkpoint_beyond_an_open_record_is_found() -> None:
    broken = weigh(books(), Position(24))
    assert broken is not None
    assert "the record at" in broken.why
    assert (broken.read, broken.done, broken.in_flight, broken.open_counted) == (30, 29, 1, 1)


def test_a_checkpoint_into_a_span_under_way_is_found() -> None:
    ledger = Ledger()
    ledger.open(0, 500)
    ledger.open(1, 500)
    ledger.report(0, 10, Position(10), 0)
    ledger.count(1, 10)
    assert weigh(ledger, Position(10)) is None
    assert weigh(ledger, Position(11)) is not None


def test_records_that_run_again_are_accounted_for() -> None:
    """Five were done, and their processor had yet to say so when its worker died."""
    ledger = books()
    ledger.open_again(RunsAgain(-1, 5, 250), Position(15))
    assert ledger.watermark() == Position(15)
    assert weigh(ledger, Position(15)) is None
    ledger.report(-1, 5, Position(20), 0)
    assert ledger.watermark() == Position(23)
    assert weigh(ledger, Position(23)) is None
    ledger.open_again(RunsAgain(-2, 3, 150), Position(17))
    assert weigh(ledger, Position(17)) is None


def healer(**policy: float) -> Healer:
    chosen = Policy(checkpoint_s=0.0, **policy)  # type: ignore[arg-type]
    return Telling(policy=chosen).healer


def test_a_hole_stops_the_shard_and_nothing_is_checkpointed() -> None:
    core = healer()
    said = core.handle(SpanDone(1, 10, Position(10), unmarked=2), 1.0)
    assert [type(one) for one in said if not isinstance(one, Order)] == [LedgerBroken, CallHuman]
    assert said[-1] is Order.STOP_SHARD
    assert not any(isinstance(one, Checkpoint) for one in said)
    assert core.over
    assert core.needs_human
    assert core.give_up() == []
    assert core.handle(Signal.SHUTDOWN_REQUESTED, 2.0) == []


def test_a_hole_stays_one_although_the_next_span_has_none() -> None:
    """The checkpoint comes only after both."""
    core = healer(open_spans_max=2)
    core.handle(SpanArrived(2, 500), 0.5)
    core.handle(Stated(None, owes=True), 0.6)
    core.handle(SpanDone(1, 10, Position(10), unmarked=2), 1.0)
    core.handle(SpanDone(2, 10, Position(20)), 1.1)
    said = core.handle(Stated(Position(20), owes=False), 1.2)
    assert [one.why for one in said if isinstance(one, LedgerBroken)] == [
        "2 records were reported as settled that are not marked so"
    ]


def test_a_hole_found_when_the_host_goes_is_not_checkpointed_either() -> None:
    core = healer()
    core.ledger.behind = Position(5)
    core.ledger.read += 1
    assert [type(one) for one in core.give_up()] == [LedgerBroken, CallHuman, Order]
    assert core.give_up() == []


def test_a_hole_found_where_the_shard_stops_anyway_is_not_checkpointed() -> None:
    core = healer(deaths_stop=1)
    core.ledger.behind = Position(5)
    core.ledger.unmarked = 1
    said = core.handle(WorkerDied(1, ()), 1.0)
    assert not any(isinstance(one, Checkpoint) for one in said)
    assert said.count(Order.STOP_SHARD) == 1


def test_what_broke_off_checkpoints_nothing_any_more() -> None:
    core = healer(shutdown_s=20.0)
    core.ledger.behind = Position(5)
    core.break_off()
    assert core.over
    assert core.give_up() == []
    assert core.needs_human
