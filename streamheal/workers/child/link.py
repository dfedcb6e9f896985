"""The worker's end of its conversation with the host."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from typing import NoReturn

from streamheal.workers.wire import PART_BYTES, Joiner, Message, ToWorker, datagrams, unpack_for_worker

_DATAGRAM_MAX = PART_BYTES + 64


class Link:
    """Messages to and from the host. Sending waits for room; threads take turns by their runner's mutex."""

    def __init__(self, fd: int) -> None:
        self._sock = socket.socket(fileno=fd)
        self._sock.setblocking(True)
        self._joiner = Joiner()
        self._pid = os.getpid()
        os.register_at_fork(after_in_child=self._forked)

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, message: Message) -> None:
        self.check_not_forked()
        for datagram in datagrams(message):
            try:
                self._sock.send(datagram)
            except OSError:
                self.gone()

    def receive(self, *, wait: bool) -> ToWorker | None:
        """The next message, or None: there is none now."""
        while True:
            try:
                datagram = self._sock.recv(_DATAGRAM_MAX, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError:
                self.gone()
            if not datagram:
                self.gone()
            if (whole := self._joiner.whole(datagram)) is not None:
                message: ToWorker = unpack_for_worker(whole)
                return message

    def wait_for_end(self) -> None:
        """Return, in a thread of its own, when the host is gone."""
        poll = select.poll()
        poll.register(self._sock.fileno(), 0)
        poll.poll()
        self.gone()

    def check_not_forked(self) -> None:
        """A child that user code forked, and that came back to our loop, ends here and says nothing."""
        if os.getpid() != self._pid:
            os._exit(0)

    def gone(self) -> NoReturn:
        """The host is no more, or user code closed our descriptors: end, with all we started."""
        if os.getpid() == self._pid and os.getpgrp() == self._pid:
            os.killpg(self._pid, signal.SIGKILL)
            time.sleep(60)  # the signal is on its way
        os._exit(1)

    def _forked(self) -> None:
        self._sock.close()
