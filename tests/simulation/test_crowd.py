"""Many worlds at once: what is told meanwhile, and how it ends early."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import crowd
from tests.simulation.__main__ import alike
from tests.simulation.crowd import Found, run

ROOT = Path(__file__).parents[2]


def test_a_world_is_the_same_on_any_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "_CHUNK", 3)
    alone, together = run(0, 10), run(0, 10, 2)
    assert (alone.worlds, alone.seen, alone.failed) == (together.worlds, together.seen, together.failed)


def test_a_world_that_fails_is_told_at_once_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the end: that may be hours away."""
    told = io.StringIO()
    told_before_the_end: list[str] = []

    def fails(spec: object, seen: object) -> str:
        told_before_the_end.append(told.getvalue())
        return "Violation: it is\nbroken" if spec == 3 else ""

    monkeypatch.setattr(crowd, "make", lambda seed: seed)
    monkeypatch.setattr(crowd, "failure_of", fails)
    found = run(0, 30, progress=told)
    assert found.failed == [(3, "Violation: it is\nbroken")]
    assert told.getvalue() == "world 3 fails: Violation: it is broken\n"
    assert told_before_the_end[-1] == told.getvalue()


def test_how_far_it_is_names_the_rate_and_the_time_to_go() -> None:
    found = Found()
    found.worlds, found.took_s = 1_000, 10.0
    assert crowd._how_far(found, 1_000_000) == "1,000 of 1,000,000 worlds, 100/s, 2:46:30 to go, 0 failed"


def test_worlds_that_fail_in_one_way_are_told_together() -> None:
    found = Found()
    found.failed = [
        (9, "Violation: record 3 (bad, k1) runs"),
        (4, "KeyError: 1"),
        (2, "Violation: record 1 (bad, k2) runs"),
    ]
    assert [[seed for seed, _ in worlds] for worlds in alike(found)] == [[2, 9], [4]]


def test_when_it_is_enough_nothing_more_begins() -> None:
    assert run(0, 1_000, enough=lambda: True).worlds == 0


@pytest.mark.parametrize("asks", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_was_found_so_far(asks: signal.Signals) -> None:
    """Asked once it says how far it is; `-m` has its own processes, whose chunks are still counted."""
    telling = (
        "import sys; from tests.simulation import crowd, __main__ as it; crowd._TELL_EVERY_S, crowd._CHUNK = 0.0, 5; "
    )
    command = [sys.executable, "-c", telling + "sys.exit(it.main(['0', '1000000', '2']))"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "of 1,000,000 worlds" in process.stderr.readline()
        process.send_signal(asks)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + asks
    assert f"ended by {asks.name}, after " in out
    assert "workers that died: " in out
