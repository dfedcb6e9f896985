"""Blocking calls beside the event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from streamheal.engines.threads import Threads

anyio = pytest.mark.anyio


@anyio
async def test_a_call_returns_or_raises_what_it_does() -> None:
    threads = Threads(2, "t")
    assert await threads.call(lambda: 1 + 1) == 2
    with pytest.raises(ZeroDivisionError):
        await threads.call(lambda: 1 // 0)
    threads.close()


@anyio
async def test_calls_at_once_have_a_thread_each_up_to_the_most() -> None:
    threads, together = Threads(3, "t"), threading.Barrier(3)
    await asyncio.wait_for(asyncio.gather(*(threads.call(together.wait) for _ in range(3))), 10)
    names = await asyncio.gather(*(threads.call(lambda: threading.current_thread().name) for _ in range(20)))
    assert set(names) <= {"t-1", "t-2", "t-3"}
    threads.close()


@anyio
async def test_one_after_another_they_share_a_thread() -> None:
    threads = Threads(3, "t")
    names = {await threads.call(lambda: threading.current_thread().name) for _ in range(5)}
    assert names == {"t-1"}
    threads.close()


@anyio
async def test_a_cancelled_call_frees_its_place_when_it_ends() -> None:
    threads, go_on = Threads(1, "t"), threading.Event()
    waiting = asyncio.create_task(threads.call(go_on.wait))
    await asyncio.wait([waiting], timeout=0)
    waiting.cancel()
    go_on.set()
    assert await asyncio.wait_for(threads.call(lambda: "next"), 10) == "next"
    threads.close()


STUCK = """
import asyncio, threading
from streamheal.engines.threads import Threads

async def main():
    stuck = asyncio.create_task(Threads(1, "t").call(threading.Event().wait))
    await asyncio.wait([stuck], timeout=0.01)

asyncio.run(main())
"""


def test_a_process_does_not_wait_for_a_stuck_call_at_its_end() -> None:
    subprocess.run([sys.executable, "-c", STUCK], timeout=10, check=True)
