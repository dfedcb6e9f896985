"""Kinesis' limits, kept by ourselves: arithmetic on given times."""

from __future__ import annotations

import pytest

from streamheal.engines.pace import Backoff, Pace, Turn

MIB = 1024 * 1024


def test_five_calls_a_second() -> None:
    turn = Turn(Pace())
    turn.called(10.0, size=1000, at_tip=False)
    assert turn.wait_s(10.05) == pytest.approx(0.15)
    assert turn.wait_s(10.5) == 0


def test_a_large_answer_delays_the_next_call() -> None:
    """10 MiB at 2 MiB a second: Kinesis would refuse for 5 s."""
    turn = Turn(Pace())
    turn.called(10.0, size=10 * MIB, at_tip=False)
    assert turn.wait_s(10.0) == pytest.approx(5.0)


def test_a_quiet_shard_is_asked_less_and_less_until_something_comes() -> None:
    turn = Turn(Pace())
    waits = []
    for _ in range(4):
        turn.called(0.0, size=0, at_tip=True)
        waits.append(turn.wait_s(0.0))
    assert waits == [0.25, 0.5, 1.0, 1.0]
    turn.called(0.0, size=10, at_tip=True)
    assert turn.wait_s(0.0) == pytest.approx(0.2)


def test_an_empty_answer_on_the_way_to_the_tip_is_not_quiet() -> None:
    """Kinesis answers with nothing where a stretch of time holds no records."""
    turn = Turn(Pace())
    turn.called(0.0, size=0, at_tip=False)
    assert turn.wait_s(0.0) == pytest.approx(0.2)


def test_limits_can_be_lifted() -> None:
    turn = Turn(Pace(calls_per_s=float("inf"), bytes_per_s=float("inf")))
    turn.called(0.0, size=100 * MIB, at_tip=False)
    assert turn.wait_s(0.0) == 0


def test_waits_after_faults_double_up_to_a_bound_and_are_spread() -> None:
    backoff = Backoff(0.2, 10.0)
    assert [backoff.wait_s(dice=1.0) for _ in range(8)] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10])
    assert Backoff(0.2).wait_s(dice=0.0) == pytest.approx(0.1)
