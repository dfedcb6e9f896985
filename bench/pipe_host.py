"""A host behind one daemon's pipe: `python -m bench.pipe_host TARGET`.

As much of a KCL engine as the figures need: one shard, its lines read once into shared memory,
its checkpoints answered. It is measured, not shipped.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from collections import deque
from typing import Any

import msgspec

from bench import hosting
from streamheal.engines.base import Batch, Sink, Slot
from streamheal.errors import Unavailable
from streamheal.records import Dialect, Position, Shard

SHARD_ID = "shardId-000000000000"
_BATCH = b'{"action":"processRecords"'
_READ_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031


class _Control(msgspec.Struct):
    action: str
    error: str | None = None


_decode_control = msgspec.json.Decoder(_Control).decode


class PipeEngine:
    """Speaks the MultiLang protocol on two descriptors, for one shard."""

    def __init__(self, lines_in: int, lines_out: int) -> None:
        self._in, self._out = lines_in, lines_out
        self._slot: Slot | None = None
        self._end = self._searched = 0
        self._owed: str | None = None  # the action whose status the daemon waits for
        self._may_answer = False
        self._ending = False
        self._wanted: deque[tuple[Position, asyncio.Future[None]]] = deque()
        self._asked: asyncio.Future[None] | None = None
        self._sink: Sink
        self._over: asyncio.Event

    async def open(self) -> None: ...

    async def run(self, sink: Sink) -> None:
        self._sink, self._over = sink, asyncio.Event()
        os.set_blocking(self._in, False)
        try:
            fcntl.fcntl(self._in, _F_SETPIPE_SZ, _READ_BYTES)
        except OSError:
            pass  # limited per user: best effort
        asyncio.get_running_loop().add_reader(self._in, self._readable)
        await self._over.wait()

    def _readable(self) -> None:
        if self._slot is None:
            self._slot = self._sink.take_slot()
            if self._slot is None:
                return
        view = self._slot.view
        try:
            got = os.readv(self._in, [view[self._end : self._end + _READ_BYTES]])
        except BlockingIOError:
            return
        if not got:
            asyncio.get_running_loop().remove_reader(self._in)
            self._over.set()
            return
        self._end += got
        # The daemon waits for our status before its next line: a newline can only be the last byte.
        if view[self._end - 1] == 10:
            self._line(self._slot, self._end)

    def _line(self, slot: Slot, length: int) -> None:
        self._end = 0
        if bytes(slot.view[: len(_BATCH)]) == _BATCH:
            self._slot, self._owed = None, "processRecords"
            self._sink.batch_arrived(SHARD_ID, Batch(slot, length, Dialect.DAEMON))
            self._go_on()
            return
        control = _decode_control(slot.view[:length])
        if control.action == "checkpoint":
            assert self._asked is not None
            self._asked.set_result(None)
            self._asked = None
        elif control.action == "initialize":
            self._owed = "initialize"
            self._sink.shard_started(Shard(shard_id=SHARD_ID, stream="bench"), None)
        else:
            self._owed, self._ending = control.action, True
            self._sink.shutdown_requested(SHARD_ID)
        self._go_on()

    def answer(self, shard_id: str) -> None:
        self._may_answer = True
        self._go_on()

    async def checkpoint(self, shard_id: str, position: Position) -> None:
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wanted.append((position, kept))
        self._go_on()
        await kept

    async def shard_complete(self, shard_id: str) -> None: ...

    async def close(self) -> None: ...

    @property
    def has_brought_all(self) -> bool:
        return True

    def shard_left(self, shard_id: str) -> None:
        """Everything is settled and checkpointed: the daemon may have its last status."""
        self._ending, self._may_answer = False, True
        self._go_on()

    def _go_on(self) -> None:
        """Checkpoints are taken only within an open action; then its status ends it."""
        if self._owed is None or self._asked is not None:
            return
        if self._wanted and self._owed != "initialize":
            position, self._asked = self._wanted.popleft()
            os.write(
                self._out,
                b'\n{"action":"checkpoint","sequenceNumber":"%d","subSequenceNumber":%d}\n' % position,
            )
        elif self._may_answer and not self._ending:
            action, self._owed, self._may_answer = self._owed, None, False
            os.write(self._out, b'\n{"action":"status","responseFor":"%s"}\n' % action.encode())


async def main(target: str) -> None:
    lines_out = os.dup(1)
    os.dup2(2, 1)  # nothing but the protocol may reach that pipe
    engine = PipeEngine(0, lines_out)

    class NoStore:
        def put(self, envelopes: Any) -> Any:
            raise Unavailable("nothing is set aside here")

    async with hosting.Hosted(target, engine, NoStore(), {"shutdown_s": 60.0}, {"workers": 1}) as runtime:
        await runtime.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
