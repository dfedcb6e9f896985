"""Signals, whenever they come: checked with a real process, because they are the operating system's business."""

from __future__ import annotations

import subprocess
import sys

CLOSING = """
import asyncio, os, signal
from streamheal.runtime.driving import drive, stoppable
from tests.runtime.test_leases import QUICK, Stand

async def run(times):
    stand = Stand(QUICK)
    stand.runtime.stop()
    code = await drive(stand.runtime)
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.01)
    print("closed", flush=True)
    return code

raise SystemExit(stoppable(run({times})))
"""

STARTING = """
import asyncio, os, signal
from streamheal.runtime.driving import stoppable

async def run():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()
    finally:
        for _ in range({times} - 1):
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.01)
        print("closed", flush=True)

raise SystemExit(stoppable(run()))
"""

ENDING = """
import atexit, os, signal
from streamheal.runtime.driving import stoppable

async def run():
    return 3

def late():
    os.kill(os.getpid(), signal.SIGTERM)
    print("closed", flush=True)

atexit.register(late)  # called after what is registered later
code = stoppable(run())
for _ in range({times}):
    os.kill(os.getpid(), signal.SIGTERM)
raise SystemExit(code)
"""


def _ended(script: str, times: int) -> tuple[int, bytes]:
    command = [sys.executable, "-c", script.replace("{times}", str(times))]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    return done.returncode, b"closed" if b"closed" in done.stdout else b""


def test_a_signal_while_all_is_given_back_is_what_is_done_already() -> None:
    """A host that was caught up ends its daemon then, and releases its lock: neither may be cut short."""
    assert _ended(CLOSING, 1) == (0, b"closed")


def test_a_second_signal_ends_everything_at_once() -> None:
    assert _ended(CLOSING, 2) == (143, b"")


def test_a_signal_while_python_ends_leaves_the_exit_code_as_it_is() -> None:
    """It was over, and somebody asks it to stop: before the interpreter is taken down, and in the midst of that."""
    assert _ended(ENDING, 1) == (3, b"closed")


def test_a_second_signal_while_python_ends_does_not_wait_for_it() -> None:
    assert _ended(ENDING, 2) == (143, b"")


def test_a_signal_during_the_start_gives_back_what_was_opened() -> None:
    assert _ended(STARTING, 1) == (0, b"closed")


def test_a_second_signal_during_the_start_ends_everything_at_once() -> None:
    assert _ended(STARTING, 2) == (143, b"")
