"""The engine kcl as it is, but that there is no JVM: whoever measures plays the daemon."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import structlog

import streamheal.engines.kcl
from streamheal.engines.kcl.doorway import Doorway
from streamheal.engines.kcl.engine import KclEngine
from streamheal.engines.kcl.pipe import Pipe

_STUB = Path(streamheal.engines.kcl.__file__).with_name("stub.py")


def stub_command(path: Path) -> list[str]:
    """As the engine tells it to the daemon."""
    return [str(Path(sys.executable).resolve()), "-I", "-S", str(_STUB), str(path)]


class _Lives:
    """In the place of `lives.Lives`: one daemon, which lives as long as its pipes."""

    def __init__(self, engine: PlayedKcl) -> None:
        self._engine = engine
        self.over = asyncio.Event()

    async def live(self) -> None:
        self._engine.begin()
        await self.over.wait()

    def pipe_broke(self, shard_id: str, why: str) -> None: ...

    def ask_to_end(self) -> None: ...

    async def end(self, handed_out_again: asyncio.Event) -> None: ...


class PlayedKcl(KclEngine):
    """Its run ends with its last pipe.

    Args:
        folder: Where stubs find the doorway; None: our own standard input and output are the one pipe.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__("bench", application="bench", worker_id=f"bench-{os.getpid()}")
        self._where = folder
        if folder is None:
            self._lines_out = os.dup(1)
            os.dup2(2, 1)  # nothing but the protocol may reach that pipe

    async def open(self) -> None:
        self._lives = self._played = _Lives(self)  # type: ignore[assignment]  # as much of it as is called

    def begin(self) -> None:
        if self._where is not None:
            self._doorway = Doorway(self._where, self._stub_arrived, structlog.get_logger())
            self._doorway.open()
        else:
            ours, self._stub = socket.socketpair()
            self._stub_arrived(ours, 0, self._lines_out)

    def closed(self, pipe: Pipe, why: str | None) -> None:
        super().closed(pipe, why)
        if not self._every_pipe:
            self._played.over.set()
