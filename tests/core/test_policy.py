"""The numbers a user may turn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamheal.core.policy import Policy

POLICY = Policy(retry_s_min=0.5, retry_s_max=30.0, pause_s_min=5.0, pause_s_max=300.0)


@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_waits_double_up_to_a_limit_and_chance_halves_them_at_most(nth: int, jitter: float) -> None:
    """However often it fails: not even then is a wait too large to be a number."""
    for waits, least, most in ((POLICY.retry_s, 0.5, 30.0), (POLICY.pause_s, 5.0, 300.0)):
        whole = waits(nth, 1.0)
        assert whole == min(most, least * 2.0 ** (max(nth, 1) - 1)) if nth < 1000 else whole == most
        assert waits(nth, 0.0) == whole / 2
        assert waits(nth, jitter) == pytest.approx(whole / 2 + jitter * whole / 2)
