"""A pipe that is paused says nothing of its open action; the daemon waits, and its clock is kept."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import Any

from streamheal.engines.kcl.pipe import Pipe
from streamheal.records import Position


class PausingHost:
    """Pauses at a shard's end, as the engine does until it has asked for the stream."""

    def __init__(self) -> None:
        self.ended_once = asyncio.Event()

    def take_slot(self) -> Any:
        return Slot()

    def ended(self, pipe: Pipe) -> None:
        pipe.pause()
        self.ended_once.set()

    def __getattr__(self, name: str) -> Any:
        return lambda *told: None


class Slot:
    def __init__(self) -> None:
        self.view = memoryview(bytearray(4096))


def test_what_waits_when_a_shard_ends_is_said_once_the_end_is_believed() -> None:
    """KCL stores SHARD_END for a checkpoint of the last record, too, once the shard is said to have ended."""

    async def story() -> None:
        host = PausingHost()
        lines_in, ours = os.pipe()
        theirs, lines_out = os.pipe()
        stub, peer = socket.socketpair()
        pipe = Pipe(host, peer, lines_in, lines_out)

        async def said() -> list[dict[str, Any]]:
            raw = await asyncio.to_thread(os.read, theirs, 4096)
            return [json.loads(line) for line in raw.splitlines() if line]

        os.write(ours, b'{"action":"initialize","shardId":"s0","sequenceNumber":"7","subSequenceNumber":0}\n')
        assert await said() == [{"action": "status", "responseFor": "initialize"}]
        last = asyncio.ensure_future(pipe.checkpoint(Position(9)))
        os.write(ours, b'{"action":"shardEnded"}\n')
        await host.ended_once.wait()
        pipe.keep_alive()
        assert await said() == [{"action": "shutdownRequested"}]

        pipe.resume()

        assert await said() == [{"action": "checkpoint", "sequenceNumber": "9", "subSequenceNumber": 0}]
        os.write(ours, b'{"action":"checkpoint","sequenceNumber":"9","subSequenceNumber":0,"error":null}\n')
        await last
        pipe.close()
        stub.close()
        os.close(ours)
        os.close(theirs)

    asyncio.run(asyncio.wait_for(story(), 20))
