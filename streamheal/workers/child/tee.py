"""What an attempt printed and logged, kept beside it. Costs nothing until something is printed.

Text still goes where it went, to the pipe that the host reads. Nobody says when an attempt
begins: whoever prints asks which one is running, and finds an old tail if it was another.
"""

from __future__ import annotations

import io
import sys
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, BinaryIO

from streamheal.attempts import LOG_BYTES_MAX

_CUT_NOTE = "… (the beginning is cut)\n"


class Tail:
    """The end of what one lane's current attempt wrote."""

    __slots__ = ("_attempt", "_size", "_texts", "running")

    def __init__(self, running: Callable[[], object]) -> None:
        self.running = running  # names the attempt that runs in this lane now
        self._attempt: object = None
        self._texts: deque[str] = deque()
        self._size = 0

    def write(self, text: str) -> None:
        attempt = self.running()
        if attempt != self._attempt:
            self._attempt = attempt
            self._texts.clear()
            self._size = 0
        self._texts.append(text[-LOG_BYTES_MAX:])
        self._size += len(self._texts[-1])
        while self._size - len(self._texts[0]) >= LOG_BYTES_MAX:
            self._size -= len(self._texts.popleft())

    def take(self) -> str | None:
        """What the running attempt has written, at most 16 KiB of it; None where it was silent."""
        if self._attempt is None or self.running() != self._attempt:
            return None
        text = "".join(self._texts)
        self._attempt = None
        self._texts.clear()
        self._size = 0
        raw = text.encode("utf-8", "backslashreplace")
        if len(raw) <= LOG_BYTES_MAX:
            return raw.decode()
        return _CUT_NOTE + raw[len(raw) - LOG_BYTES_MAX + len(_CUT_NOTE.encode()) :].decode("utf-8", "ignore")


_lane: ContextVar[Tail | None] = ContextVar("streamheal_lane", default=None)
_main: Tail | None = None


def set_main(tail: Tail) -> None:
    """For processes in which one attempt runs at a time, wherever it prints from."""
    global _main  # noqa: PLW0603 - one process, one pair of streams
    _main = tail


def set_lane(tail: Tail) -> None:
    """For this thread or task, and for the tasks that it starts."""
    _lane.set(tail)


class _Stream(io.TextIOWrapper):
    def write(self, text: str) -> int:
        written = super().write(text)
        tail = _lane.get() or _main
        if tail is not None and text:
            tail.write(str(text))
        return written


def install() -> None:
    """Put ourselves behind `print` and `logging`, before user code keeps a stream of its own."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        raw: BinaryIO | Any = open(fd, "wb", closefd=False)  # noqa: SIM115 - open as long as the process
        stream = _Stream(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
