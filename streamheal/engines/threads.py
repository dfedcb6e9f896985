"""Blocking calls in threads that nobody has to wait for at the end."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_Work = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class Threads:
    """Runs calls, each in a thread, in as many threads as there are calls at once.

    A ThreadPoolExecutor's threads are joined when the interpreter ends, so that a process
    told to stop would wait for a read from a server that does not answer.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._works: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._threads = 0
        self._calls = 0

    async def call(self, work: Callable[[], T]) -> T:
        """What the call returns or raises. Cancelled, the call goes on and its outcome is forgotten."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls += 1
        if self._calls > self._threads and self._threads < self._most:
            self._threads += 1
            threading.Thread(target=self._run, name=f"{self._name}-{self._threads}", daemon=True).start()
        self._works.put((work, future))
        return await future

    def close(self) -> None:
        """Threads end after the call they are in."""
        for _ in range(self._threads):
            self._works.put(None)

    def _run(self) -> None:
        while (item := self._works.get()) is not None:
            work, future = item
            try:
                result, error = work(), None
            except Exception as raised:
                result, error = None, raised
            try:
                future.get_loop().call_soon_threadsafe(self._settle, future, result, error)
            except RuntimeError:
                return  # The loop is closed: nobody waits any more.
            # Kept while this thread waits, they would hold a batch's bytes.
            del item, work, future, result, error

    def _settle(self, future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
        self._calls -= 1
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
