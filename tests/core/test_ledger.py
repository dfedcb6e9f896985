"""The ledger: what is open, and how far it is safe to checkpoint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamheal.core.balance import weigh
from streamheal.core.case import Case, Phase
from streamheal.core.ledger import Ledger
from streamheal.core.messages import At, Named, RunsAgain
from streamheal.records import Position


def named(span: int, nth: int) -> Named:
    """Ten records a span, numbered through: 0.0 is 1, 1.0 is 11."""
    position = Position(span * 10 + nth + 1)
    return Named(At(span, nth), position, Position(position.sequence - 1) if nth else None, 1)


def test_a_clean_span_moves_the_watermark_to_its_end() -> None:
    ledger = Ledger()
    ledger.open(0, 500)
    assert ledger.watermark() is None
    assert ledger.report(0, 10, Position(10), filtered=3) == 7, "so many succeeded"
    assert ledger.watermark() == Position(10)
    assert (ledger.read, ledger.done, ledger.filtered, ledger.in_flight, ledger.size) == (10, 7, 3, 0, 0)


def test_a_span_is_read_when_it_has_been_counted() -> None:
    """Until the worker has decoded it, nobody knows what it holds; a worker after a death counts again."""
    ledger = Ledger()
    ledger.open(0, 500)
    assert (ledger.read, ledger.uncounted, ledger.size) == (0, 1, 500)
    ledger.count(0, 10)
    ledger.count(0, 10)
    assert (ledger.read, ledger.in_flight, ledger.uncounted) == (10, 10, 0)


def test_the_watermark_stands_before_the_first_open_record() -> None:
    """4 waits for its second try: all around it is done, and 3 is as far as it is safe."""
    ledger = Ledger()
    ledger.open(0, 500)
    ledger.open(1, 500)
    ledger.count(0, 10)
    four = ledger.add(Case(named(0, 3), Phase.WAITING))
    ledger.report(0, 10, Position(10), 0)
    ledger.report(1, 10, Position(20), 0)
    assert ledger.watermark() == Position(3)
    assert ledger.first_open() == 0
    ledger.settle_quarantined(four)
    assert ledger.watermark() == Position(20)
    assert ledger.first_open() is None


def test_it_stands_before_the_first_in_the_stream_and_not_before_the_first_to_get_into_trouble() -> None:
    """Also where a later span was settled before: 8 failed, then 4, then 6."""
    ledger = Ledger()
    ledger.open(0, 500)
    ledger.count(0, 10)
    for nth in (7, 3, 5):
        ledger.add(Case(named(0, nth), Phase.WAITING))
    ledger.report(0, 10, Position(10), 0)
    assert ledger.watermark() == Position(3)
    assert ledger.first_open_known() == At(0, 3)


def test_a_span_without_records_is_passed_and_moves_nothing() -> None:
    ledger = Ledger()
    ledger.open(0, 2)
    ledger.report(0, 0, None, 0)
    assert ledger.first_open() is None
    assert (ledger.passed, ledger.passed_spans) == (0, 1)
    assert ledger.watermark() is None


def test_a_span_not_reported_is_not_passed_even_if_everything_known_of_it_is_settled() -> None:
    ledger = Ledger()
    ledger.open(0, 10)
    ledger.count(0, 1)
    only = ledger.add(Case(named(0, 0), Phase.QUEUED))
    ledger.settle_done(only)
    assert ledger.in_flight == 0
    assert ledger.watermark() is None


def test_records_that_run_again_are_open_before_all_others() -> None:
    """7 to 10 were done, but their processor had not said so. 11 is open, and span 2 is under way. That they are
    done again, whatever the last of them was, passes nothing else."""
    ledger = Ledger()
    for span in range(3):
        ledger.open(span, 100)
    ledger.report(0, 10, Position(10), 0)
    ledger.count(1, 10)
    eleven = ledger.add(Case(named(1, 0), Phase.WAITING))
    ledger.report(1, 10, Position(20), 0)
    assert ledger.watermark() == Position(10)

    ledger.open_again(RunsAgain(-1, 4, 40), Position(6))
    assert ledger.watermark() == Position(6)
    assert (ledger.first_open(), ledger.first_unreported()) == (-1, -1)
    assert ledger.passed_upto == 0
    assert (ledger.read, ledger.done, ledger.in_flight) == (20, 15, 5)
    assert (ledger.size, ledger.unreported, ledger.uncounted) == (141, 2, 1)

    ledger.report(-1, 4, Position(30), 0)
    assert ledger.watermark() == Position(10)
    assert (ledger.read, ledger.done, ledger.in_flight) == (20, 19, 1)
    assert (ledger.size, ledger.unreported, ledger.uncounted) == (101, 1, 1)
    assert ledger.first_unreported() == 2
    assert ledger.passed_upto == 0
    ledger.settle_done(eleven)
    assert ledger.watermark() == Position(20)


def test_what_runs_again_before_all_others_need_not_lie_before_them() -> None:
    """1 is open. 12 and 14 run again, and 14 fails: nothing may be passed, though all before it in its span is done."""
    ledger = Ledger()
    for span in range(2):
        ledger.open(span, 100)
    ledger.count(0, 10)
    one = ledger.add(Case(named(0, 0), Phase.WAITING))
    ledger.report(0, 10, Position(10), 0)
    ledger.report(1, 10, Position(20), 0)
    ledger.open_again(RunsAgain(-1, 2, 20), None)
    fourteen = ledger.add(Case(Named(At(-1, 1), Position(14), Position(12), 1), Phase.WAITING))
    ledger.report(-1, 2, Position(14), 0)
    assert ledger.watermark() is None
    ledger.settle_done(one)
    assert ledger.watermark() == Position(12)
    ledger.settle_done(fourteen)
    assert ledger.watermark() == Position(20)


def test_what_is_settled_behind_records_that_run_again_takes_no_watermark_back() -> None:
    """7 and 14 run again, and 14 fails. When 5 is done, all of its span is; span 1 holds nothing, and 21 has none
    before it in its own."""
    ledger = Ledger()
    for span in range(3):
        ledger.open(span, 100)
    ledger.count(0, 10)
    five = ledger.add(Case(named(0, 4), Phase.WAITING))
    ledger.report(0, 10, Position(10), 0)
    ledger.report(1, 0, None, 0)
    ledger.count(2, 10)
    ledger.add(Case(named(2, 0), Phase.WAITING))
    ledger.report(2, 10, Position(30), 0)
    ledger.open_again(RunsAgain(-1, 2, 20), Position(3))
    ledger.add(Case(Named(At(-1, 1), Position(14), Position(7), 1), Phase.WAITING))
    ledger.report(-1, 2, Position(14), 0)
    assert ledger.watermark() == Position(4)
    ledger.settle_done(five)
    assert ledger.watermark() == Position(7)


def test_what_comes_behind_records_that_run_again_takes_no_watermark_back() -> None:
    """7 to 10 run again, and 8 fails; all that came before 11, which has none before it in its span, is known to be
    done but for those."""
    ledger = Ledger()
    ledger.open(0, 100)
    ledger.report(0, 10, Position(10), 0)
    ledger.open_again(RunsAgain(-1, 4, 40), Position(6))
    ledger.count(-1, 4)
    ledger.add(Case(Named(At(-1, 1), Position(8), Position(7), 1), Phase.WAITING))
    ledger.report(-1, 4, Position(10), 0)
    assert ledger.watermark() == Position(7)
    ledger.open(1, 100)
    ledger.count(1, 10)
    ledger.add(Case(named(1, 0), Phase.WAITING))
    assert ledger.watermark() == Position(7)
    ledger.report(1, 10, Position(20), 0)
    assert ledger.watermark() == Position(7)


def test_spans_are_numbered_on_and_before_the_first_stands_minus_one() -> None:
    ledger = Ledger()
    assert (ledger.newest, ledger.passed_upto) == (-1, -1)
    ledger.open(0, 10)
    assert ledger.newest == 0


def test_a_record_that_its_span_does_not_hold_is_not_taken() -> None:
    ledger = Ledger()
    ledger.open(0, 10)
    ledger.count(0, 3)
    ledger.add(Case(named(0, 2), Phase.WAITING))
    with pytest.raises(AssertionError, match="named, of 3 records"):
        ledger.add(Case(named(0, 3), Phase.WAITING))


@given(st.permutations(range(30)), st.integers(0, 30), st.sets(st.integers(0, 29)), st.booleans())
def test_no_order_of_settling_passes_an_open_record(
    order: list[int], settled: int, known: set[int], counted_first: bool
) -> None:
    """Three spans of ten; some records are known by themselves. Whatever settles first, the watermark is the last
    position before the first open record, and the books add up at every moment."""
    ledger = Ledger()
    cases: dict[int, Case] = {}
    for span in range(3):
        ledger.open(span, 100)
        if counted_first or any(nth // 10 == span for nth in known):
            ledger.count(span, 10)
        for nth in sorted(known):
            if nth // 10 == span:
                cases[nth] = ledger.add(Case(named(span, nth % 10), Phase.WAITING))
    open_ones, counted, reported = set(range(30)), {nth // 10 for nth in known}, set()
    if counted_first:
        counted = {0, 1, 2}
    for step, nth in enumerate(order[:settled]):
        span = nth // 10
        if nth in cases:
            how = (ledger.settle_done, ledger.settle_filtered, ledger.settle_quarantined)[step % 3]
            how(cases[nth])
            open_ones.discard(nth)
        elif span not in reported:
            bulk = {other for other in range(span * 10, span * 10 + 10) if other not in cases}
            filtered = min(1, len(bulk))
            assert ledger.report(span, 10, Position(span * 10 + 10), filtered) == len(bulk) - filtered
            open_ones -= bulk
            counted.add(span)
            reported.add(span)

        unreported = [span for span in range(3) if span not in reported]
        first_open = min([*open_ones, *(span * 10 for span in unreported)], default=30)
        assert ledger.watermark() == (Position(first_open) if first_open else None)
        mark = ledger.watermark()
        assert mark is None or weigh(ledger, mark) is None
        assert ledger.first_open() == (first_open // 10 if first_open < 30 else None)
        assert ledger.first_unreported() == min(unreported, default=None)
        assert (ledger.unreported, ledger.uncounted) == (len(unreported), 3 - len(counted))
        assert ledger.size == 100 * len(unreported) + len([nth for nth in open_ones if nth // 10 in reported])
        assert ledger.in_flight == len([nth for nth in open_ones if nth // 10 in counted])
        assert ledger.read == 10 * len(counted) == ledger.done + ledger.quarantined + ledger.filtered + ledger.in_flight
