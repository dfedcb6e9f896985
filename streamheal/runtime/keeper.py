"""Puts envelopes into quarantine, many at once, and says of each whether it is kept."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Protocol

from streamheal.errors import StoreError, StoreUnavailable, Unavailable
from streamheal.quarantine.envelope import Envelope
from streamheal.runtime.chronicle import Chronicle

Answer = Callable[[Exception | None], None]

# A flood fills batches by itself: while one is being written, the next one gathers.
_BATCH_MAX = 500
_WRITES_AT_ONCE = 4


class Shelf(Protocol):
    """The one thing that a keeper needs of a store."""

    def put(self, envelopes: Sequence[Envelope]) -> Sequence[StoreError | StoreUnavailable | None]: ...


class Keeper:
    """Writes are tried once here. When to try again is the core's to say, as everything else is.

    `writes` counts outcomes for the metrics: `stored`, `unavailable`, `failed`.
    """

    def __init__(self, shelf: Shelf, chronicle: Chronicle, *, executor: Executor | None = None) -> None:
        self._shelf = shelf
        self._chronicle = chronicle
        self._executor = executor or ThreadPoolExecutor(_WRITES_AT_ONCE, thread_name_prefix="quarantine")
        self._waiting: deque[tuple[Envelope, Answer]] = deque()
        self._writing: set[asyncio.Task[None]] = set()
        self.writes: Counter[str] = Counter()

    def keep(self, envelope: Envelope, answer: Answer) -> None:
        """Write soon; `answer` is called in the loop's thread with None, or with what went wrong."""
        self._waiting.append((envelope, answer))
        self._write_more()

    def _write_more(self) -> None:
        while self._waiting and len(self._writing) < _WRITES_AT_ONCE:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH_MAX, len(self._waiting)))]
            write = asyncio.get_running_loop().create_task(self._write(batch))
            self._writing.add(write)
            write.add_done_callback(self._written)

    def _written(self, write: asyncio.Task[None]) -> None:
        self._writing.discard(write)
        if not write.cancelled():
            write.result()  # an error here is ours: let it be seen
            self._write_more()

    async def _write(self, batch: list[tuple[Envelope, Answer]]) -> None:
        loop = asyncio.get_running_loop()
        outcomes: Sequence[Exception | None]
        try:
            outcomes = await loop.run_in_executor(self._executor, self._shelf.put, [envelope for envelope, _ in batch])
        except (StoreError, Unavailable) as error:
            outcomes = [error] * len(batch)
        failures = [outcome for outcome in outcomes if outcome is not None]
        self.writes["stored"] += len(outcomes) - len(failures)
        for failure in failures:
            self.writes["unavailable" if isinstance(failure, Unavailable) else "failed"] += 1
        if failures:
            self._chronicle.warning("quarantine_unavailable", records=len(failures), error=str(failures[0]))
        for (_, answer), outcome in zip(batch, outcomes, strict=True):
            answer(outcome)

    async def close(self) -> None:
        """Wait for the writes that are under way; those that wait are forgotten (nothing passed them)."""
        self._waiting.clear()
        if self._writing:
            await asyncio.wait(self._writing)
        self._executor.shutdown(wait=False, cancel_futures=True)
