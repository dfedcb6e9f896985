"""The Unix socket at which the daemon's stubs hand over their pipes.

It lies in a folder that only we may enter, and whoever knocks has to be of our user: what comes
through that door decides where records go.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

from streamheal import platform
from streamheal.engines.base import Log

_BACKLOG = 1024  # every shard's stub may come at once

Arrived = Callable[[socket.socket, int, int], None]


class Doorway:
    """Listens from `open` to `close`.

    Args:
        arrived: Told of each stub: its socket, the daemon's lines to us, and ours to the daemon.
    """

    def __init__(self, folder: Path, arrived: Arrived, log: Log) -> None:
        self.path = folder / "stubs"
        self._arrived = arrived
        self._log = log
        self._socket: socket.socket | None = None
        self._silent: set[socket.socket] = set()  # let in, and nothing said yet

    def open(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | getattr(socket, "SOCK_CLOEXEC", 0))
        listener.setblocking(False)
        listener.bind(str(self.path))
        listener.listen(_BACKLOG)
        self._socket = listener
        asyncio.get_running_loop().add_reader(listener, self._knock)

    def close(self) -> None:
        for peer in self._silent:
            asyncio.get_running_loop().remove_reader(peer)
            peer.close()
        self._silent.clear()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            self.path.unlink(missing_ok=True)

    def _knock(self) -> None:
        assert self._socket is not None
        try:
            peer, _ = self._socket.accept()
        except BlockingIOError:
            return
        if platform.peer_uid(peer) != os.getuid():
            self._log.warning("stub_refused", why="its process is another user's")
            peer.close()
            return
        peer.setblocking(False)
        self._silent.add(peer)
        asyncio.get_running_loop().add_reader(peer, self._receive, peer)

    def _receive(self, peer: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(peer)
        self._silent.discard(peer)
        descriptors = _received(peer)
        if len(descriptors) != 2:
            self._log.warning("stub_refused", why=f"it handed over {len(descriptors)} descriptors, not 2")
            for descriptor in descriptors:
                os.close(descriptor)
            peer.close()
            return
        self._arrived(peer, *descriptors)


def _received(peer: socket.socket) -> list[int]:
    """What the stub handed over, closed on exec: a worker that held a pipe open would keep the daemon waiting."""
    room = socket.CMSG_SPACE(8 * array.array("i").itemsize)
    try:
        _, told, _, _ = peer.recvmsg(1, room, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    except OSError:
        return []
    found = array.array("i")
    for level, kind, data in told:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    for descriptor in found:
        os.set_inheritable(descriptor, False)
    return list(found)
