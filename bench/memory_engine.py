"""An engine that brings ready-made lines, for figures in which no stream shall be measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from streamheal.engines.base import Batch, Sink
from streamheal.records import Dialect, Position, Shard


def _nobody() -> None: ...


class MemoryEngine:
    """Brings each shard's lines in turn, the next one as soon as it is answered."""

    def __init__(self, lines_by_shard: dict[str, Iterator[bytes]], dialect: Dialect = Dialect.DAEMON) -> None:
        self._lines = lines_by_shard
        self._dialect = dialect
        self._ended = 0
        self._all_brought: Callable[[], None] = _nobody
        self._answers = {shard_id: asyncio.Event() for shard_id in lines_by_shard}

    def when_all_brought(self, call: Callable[[], None]) -> None:
        """Then the shards stay, and nothing ends."""
        self._all_brought = call

    async def open(self) -> None: ...

    async def run(self, sink: Sink) -> None:
        async with asyncio.TaskGroup() as group:
            for shard_id, lines in self._lines.items():
                group.create_task(self._bring(shard_id, lines, sink))

    async def _bring(self, shard_id: str, lines: Iterator[bytes], sink: Sink) -> None:
        sink.shard_started(Shard(shard_id=shard_id, stream="bench"), None)
        answered = self._answers[shard_id]
        for line in lines:
            await answered.wait()
            answered.clear()
            while (slot := sink.take_slot()) is None:
                await asyncio.sleep(0.001)
            slot.view[: len(line)] = line
            sink.batch_arrived(shard_id, Batch(slot, len(line), self._dialect))
        await answered.wait()
        self._ended += 1
        if self._all_brought is _nobody:
            sink.shard_ended(shard_id)
            return
        if self._ended == len(self._lines):
            self._all_brought()
        await asyncio.Event().wait()

    def answer(self, shard_id: str) -> None:
        self._answers[shard_id].set()

    async def checkpoint(self, shard_id: str, position: Position) -> None: ...

    async def shard_complete(self, shard_id: str) -> None: ...

    def shard_left(self, shard_id: str) -> None: ...

    @property
    def has_brought_all(self) -> bool:
        return True

    async def close(self) -> None: ...
