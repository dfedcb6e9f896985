"""The ledger: what is open, and how far it is safe to checkpoint."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamheal.core.balance import weigh
from streamheal.core.case import Case, Phase
from streamheal.core.ledger import Ledger
from streamheal.core.messages import At, Named
from streamheal.records import Position


def named(span: int, nth: int) -> Named:
    """Ten records a span, numbered through: 0.0 is 1, 1.0 is 11."""
    position = Position(span * 10 + nth + 1)
    return Named(At(span, nth), position, Position(position.sequence - 1) if nth else None, 1)


def test_a_clean_span_moves_the_watermark_to_its_end() -> None:
    ledger = Ledger()
    ledger.open(0, 500)
    assert ledger.watermark() is None
    ledger.report(0, 10, Position(10), filtered=3)
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


def test_a_span_without_records_is_passed_and_moves_nothing() -> None:
    ledger = Ledger()
    ledger.open(0, 2)
    ledger.report(0, 0, None, 0)
    assert ledger.first_open() is None
    assert ledger.watermark() is None


def test_a_span_not_reported_is_not_passed_even_if_everything_known_of_it_is_settled() -> None:
    ledger = Ledger()
    ledger.open(0, 10)
    ledger.count(0, 1)
    only = ledger.add(Case(named(0, 0), Phase.QUEUED))
    ledger.settle_done(only)
    assert ledger.in_flight == 0
    assert ledger.watermark() is None


@given(st.permutations(range(30)), st.integers(0, 30), st.sets(st.integers(0, 29)), st.booleans())
def test_no_order_of_settling_passes_an_open_record(
    order: list[int], settled: int, known: set[int], counted_first: bool
) -> None:
    """Three spans of ten; some records are known by themselves. Whatever settles first, every
    open one lies beyond the watermark, and the books add up at every moment."""
    ledger = Ledger()
    cases: dict[int, Case] = {}
    for span in range(3):
        ledger.open(span, 10)
        if counted_first or any(nth // 10 == span for nth in known):
            ledger.count(span, 10)
        for nth in sorted(known):
            if nth // 10 == span:
                cases[nth] = ledger.add(Case(named(span, nth % 10), Phase.WAITING))
    open_ones = set(range(30))
    for step, nth in enumerate(order[:settled]):
        if nth in cases:
            how = (ledger.settle_done, ledger.settle_filtered, ledger.settle_quarantined)[step % 3]
            how(cases[nth])
            open_ones.discard(nth)
        elif not ledger.spans[nth // 10].reported if nth // 10 in ledger.spans else False:
            ledger.report(nth // 10, 10, Position(nth // 10 * 10 + 10), 0)
            open_ones -= {other for other in range(nth // 10 * 10, nth // 10 * 10 + 10) if other not in cases}
        assert ledger.read == ledger.done + ledger.quarantined + ledger.filtered + ledger.in_flight
        mark = ledger.watermark()
        assert mark is None or all(mark < Position(nth + 1) for nth in open_ones)
        assert mark is None or weigh(ledger, mark) is None
        assert 0 <= ledger.size <= 30
