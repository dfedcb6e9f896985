"""One record in trouble: what its tries add up to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamheal.core.case import Case, Kind, Phase
from streamheal.core.messages import Cause
from tests.core.telling import record

WAYS = st.tuples(st.sampled_from([Cause.RAISED, Cause.OVERRAN, Cause.THROTTLED]), st.sampled_from(["", "one", "other"]))


def one_way(tries: list[Kind]) -> bool:
    """The worker cannot say what a death was like, so that an empty likeness is like any."""
    return len({cause for cause, _ in tries}) <= 1 and len({likeness for _, likeness in tries if likeness}) <= 1


@given(st.lists(WAYS, max_size=8))
def test_only_tries_that_failed_in_one_way_add_up(kinds: list[Kind]) -> None:
    """Each try fails between two far successes. What several outages do to a record is not one guilt."""
    case = Case(record(1), Phase.QUEUED)
    tries: list[Kind] = []
    for kind in kinds:
        case.failed(kind, 1.0, 2.0, own=True)
        if kind[0] is Cause.THROTTLED:
            continue
        case.loose += 1
        tries.append(kind)
        assert one_way(tries[-case.loose :])
        if not one_way(tries[-2:]):
            assert case.loose == 1
    assert case.uniform is one_way(tries)
    assert case.loose == len(tries) or not case.uniform
    assert (case.attempts, case.throttles) == (len(tries), len(kinds) - len(tries))
