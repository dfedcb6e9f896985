"""What a pipe stands between: a host that keeps what it is told, and the daemon's end of the descriptors."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from streamheal.engines.base import Slot
from streamheal.engines.kcl.pipe import Pipe
from streamheal.records import Position
from tests.engines.kcl.heard import PATIENCE_S, go_round, until
from tests.engines.kcl.lines import checkpointed
from tests.engines.recorder import MemorySlot

Said = dict[str, Any]


class RecordingHost:
    """Implements `kcl.pipe.Host`.

    Attributes:
        told: Everything, in order: ("initialized", after), ("brought", bytes), ("closed", why), …
        free: How many slots there are left to take; what is brought comes back with `settle`.
        refused: How often there was none.
        on_brought: Called within `brought`, as a runtime that answers at once.
    """

    def __init__(self, slots: int, slot_bytes: int) -> None:
        self.told: list[tuple[str, Any]] = []
        self.free, self._slot_bytes = slots, slot_bytes
        self.out: list[Slot] = []
        self.brought_slots = self.refused = 0
        self.on_brought: Callable[[Pipe], None] | None = None

    def take_slot(self) -> Slot | None:
        if not self.free:
            self.refused += 1
            return None
        self.free -= 1
        slot = MemorySlot(self._slot_bytes)
        self.out.append(slot)
        return slot

    def give_back(self, slot: Slot) -> None:
        self.out.remove(slot)  # fails for one that was given back, or brought
        self.free += 1

    def settle(self) -> None:
        self.free, self.brought_slots = self.free + self.brought_slots, 0

    def initialized(self, pipe: Pipe, after: Position | None) -> None:
        self.told.append(("initialized", after))

    def brought(self, pipe: Pipe, slot: Slot, length: int) -> None:
        self.out.remove(slot)
        self.brought_slots += 1
        self.told.append(("brought", bytes(slot.view[:length])))
        if self.on_brought is not None:
            self.on_brought(pipe)

    def measured(self, pipe: Pipe, lag_s: float) -> None:
        self.told.append(("measured", lag_s))

    def ended(self, pipe: Pipe) -> None:
        self.told.append(("ended", None))

    def lost(self, pipe: Pipe) -> None:
        self.told.append(("lost", None))

    def asked_to_leave(self, pipe: Pipe) -> None:
        self.told.append(("asked_to_leave", None))

    def closed(self, pipe: Pipe, why: str | None) -> None:
        self.told.append(("closed", why))

    def all(self, event: str) -> list[Any]:
        return [what for told, what in self.told if told == event]

    @property
    def batches(self) -> list[bytes]:
        return self.all("brought")


class DaemonEnd:
    """The other end, as KCL's MultiLangDaemon behaves: reads only while it waits for a status.

    Attributes:
        errors: What the next checkpoints are answered with; none left: they are stored.
        stored: What was.
        host_stub: The host's end of the stub's socket; `stub` is the stub's.
    """

    def __init__(self) -> None:
        self.lines_in, self._to_host = os.pipe()
        self._from_host, self.lines_out = os.pipe()
        self.stub, self.host_stub = socket.socketpair()
        for descriptor in (self._to_host, self._from_host):
            os.set_blocking(descriptor, False)
        self.stub.setblocking(False)
        self._heard = bytearray()
        self.errors: deque[str] = deque()
        self.stored: list[Said] = []

    async def write(self, line: bytes) -> None:
        while line:
            try:
                line = line[os.write(self._to_host, line) :]
            except BlockingIOError:
                await _ready(self._to_host, asyncio.get_running_loop().add_writer)

    def write_now(self, line: bytes) -> None:
        """All of it at once; for what is small beside the pipe."""
        assert os.write(self._to_host, line) == len(line)

    async def hear(self) -> Said:
        """The next line that is not blank."""
        while True:
            line, newline, rest = self._heard.partition(b"\n")
            if not newline:
                await _ready(self._from_host, asyncio.get_running_loop().add_reader)
                got = os.read(self._from_host, 1 << 16)
                assert got, f"the host closed its end; left: {bytes(self._heard)!r}"
                self._heard += got
                continue
            self._heard = rest
            if line.strip():
                said: Said = json.loads(line.decode("ascii"))
                return said

    async def act(self, line: bytes) -> list[Said]:
        """Write an action's line and wait for its status, storing checkpoints meanwhile; what was said."""
        action = json.loads(line)["action"]
        await self.write(line)
        return await self.waits_for(action)

    async def waits_for(self, action: str) -> list[Said]:
        heard: list[Said] = []
        while True:
            said = await self.hear()
            heard.append(said)
            if said["action"] == "checkpoint":
                error = self.errors.popleft() if self.errors else None
                if error is None:
                    self.stored.append(said)
                await self.write(checkpointed(said, error))
            elif said["action"] == "status":
                assert said["responseFor"] == action
                return heard

    def heard_now(self) -> bytes:
        """Whatever lies in the pipe; a daemon would not look."""
        try:
            return os.read(self._from_host, 1 << 16)
        except BlockingIOError:
            return b""

    def hang_up(self) -> None:
        """Close both pipes: it is through with the child, or has died."""
        self.stop_reading()
        if self._to_host >= 0:
            os.close(self._to_host)
            self._to_host = -1

    def stop_reading(self) -> None:
        if self._from_host >= 0:
            os.close(self._from_host)
            self._from_host = -1

    def farewell(self) -> bytes | None:
        """What the stub heard: b"0\\n" ends it well, b"" badly; None: it still waits."""
        try:
            return self.stub.recv(8)
        except BlockingIOError:
            return None

    def close(self) -> None:
        self.hang_up()
        self.stub.close()


class Stand:
    def __init__(self, pipe: Pipe, host: RecordingHost, daemon: DaemonEnd) -> None:
        self.pipe, self.host, self.daemon = pipe, host, daemon
        self.faults: list[dict[str, Any]] = []  # what the loop's exception handler was called with
        self.checkpoints: list[asyncio.Task[None]] = []

    def checkpoint(self, position: Position | None) -> asyncio.Task[None]:
        task = asyncio.ensure_future(self.pipe.checkpoint(position))
        self.checkpoints.append(task)
        return task

    @property
    def is_closed(self) -> bool:
        return bool(self.host.all("closed"))

    async def until(self, holds: Callable[[], bool]) -> None:
        await until(holds, lambda: self.host.told)

    async def quiet(self) -> None:
        """All that is ready now has been handled."""
        await go_round()


@asynccontextmanager
async def standing(slots: int = 8, slot_bytes: int = 4096) -> AsyncIterator[Stand]:
    """A pipe between both ends; afterwards nothing may be left over, whatever was done with it."""
    loop = asyncio.get_running_loop()
    daemon, host = DaemonEnd(), RecordingHost(slots, slot_bytes)
    ours = (daemon.lines_in, daemon.lines_out, daemon.host_stub.fileno())
    pipe = Pipe(host, daemon.host_stub, daemon.lines_in, daemon.lines_out)
    stand = Stand(pipe, host, daemon)
    loop.set_exception_handler(lambda loop, context: stand.faults.append(context))
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield stand
            await stand.quiet()
    finally:
        pipe.close("the test is over")
        await stand.quiet()
        daemon.close()
    assert stand.faults == []
    assert host.out == []
    assert all(task.done() for task in stand.checkpoints)
    await asyncio.gather(*stand.checkpoints, return_exceptions=True)
    assert len(host.all("closed")) == 1
    assert len(host.all("lost")) <= 1
    assert host.told[-1][0] == "closed"
    assert not any(loop.remove_reader(descriptor) or loop.remove_writer(descriptor) for descriptor in ours)
    assert not any(map(_is_open, ours))


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


async def _ready(descriptor: int, listen: Callable[..., None]) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    listen(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
        loop.remove_writer(descriptor)
