"""Finding who makes a batch fail."""

from __future__ import annotations

from math import ceil, log2

from hypothesis import given
from hypothesis import strategies as st

from streamheal.core.halving import Halving


def bisect(count: int, bad: set[int]) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    """Culprits, records done in order, and the runs it took."""
    halving = Halving(0, count - 1)
    culprits: list[int] = []
    done: list[int] = []
    runs: list[tuple[int, int]] = []
    while (span := halving.next_run()) is not None:
        first, last = span
        runs.append(span)
        assert len(runs) < 1000, "it never ends"
        ok = not bad & set(range(first, last + 1))
        if ok:
            done += range(first, last + 1)
        culprit = halving.ran(ok)
        if culprit is not None:
            culprits.append(culprit)
    return culprits, done, runs


def test_a_clean_batch_is_one_run() -> None:
    assert bisect(1000, set()) == ([], list(range(1000)), [(0, 999)])


def test_the_culprit_fails_alone_and_what_is_before_it_runs_no_more() -> None:
    culprits, done, runs = bisect(8, {5})
    assert culprits == [5]
    assert done == [0, 1, 2, 3, 4, 6, 7]
    assert runs == [(0, 7), (0, 3), (4, 5), (4, 4), (5, 5), (6, 7)]


@given(st.integers(1, 80).flatmap(lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1)))))
def test_exactly_the_bad_ones_are_named_and_all_else_is_done_once_in_order(case: tuple[int, set[int]]) -> None:
    count, bad = case
    culprits, done, runs = bisect(count, bad)
    assert culprits == sorted(bad)
    assert done == [nth for nth in range(count) if nth not in bad]
    for nth in bad:
        assert (nth, nth) in runs
    for nth in set(range(count)) - bad:
        assert sum(first <= nth <= last for first, last in runs) <= 1 + ceil(log2(count)) * len(bad)
    if len(bad) == 1:
        assert len(runs) <= 3 + ceil(log2(count))


def test_a_batch_that_fails_once_and_never_again_blames_nobody() -> None:
    """An outage in the middle of bisecting ends; what failed together succeeds in halves."""
    halving = Halving(0, 7)
    assert halving.ran(ok=False) is None
    for run in ((0, 3), (4, 5), (6, 6), (7, 7)):
        assert halving.next_run() == run
        assert halving.ran(ok=True) is None
    assert halving.next_run() is None
