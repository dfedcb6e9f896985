"""What workers print: lines for the log, and the tail that goes into envelopes."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable

from streamheal import platform
from streamheal.attempts import LOG_BYTES_MAX

_LINE_BYTES_MAX = 8 * 1024
_READ_BYTES = 64 * 1024
# Of a process that prints faster than we read, so that others are heard too: each line costs one of our log.
_TURN_BYTES, _READS_A_TURN, _LINES_A_TURN = 1024, 64, 100
_LINES_AT_ONCE = 1000


class Tail:
    """The last lines of a process, as they came from both its streams; at most 16 KiB."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._size = 0

    def add(self, line: str) -> None:
        self._lines.append(line)
        self._size += len(line.encode()) + 1
        while self._size > LOG_BYTES_MAX:
            self._size -= len(self._lines.popleft().encode()) + 1

    def clear(self) -> None:
        self._lines.clear()
        self._size = 0

    def text(self) -> str | None:
        return "\n".join(self._lines) + "\n" if self._lines else None


class OutputReader:
    """Reads one pipe of a worker in the loop and hands it on by lines; long lines are cut. It closes the pipe."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pipe: int, line: Callable[[str], None]) -> None:
        self._loop, self._pipe, self._line = loop, pipe, line
        self._rest = b""
        self._skipping = False  # the rest of a line that was cut
        self._open = True
        self._lines = 0
        os.set_blocking(pipe, False)
        loop.add_reader(pipe, self._readable)

    def _readable(self) -> None:
        stop_at = self._lines + _LINES_A_TURN
        for _ in range(_READS_A_TURN):
            if not self._take(self._read(_TURN_BYTES)) or self._lines > stop_at:
                return

    @property
    def mid_line(self) -> bool:
        """A line was begun, and has not ended."""
        return bool(self._rest) or self._skipping

    def read_all(self) -> None:
        """What was printed until now, and no more: whoever prints without end must not hold us here."""
        left = platform.unread_bytes(self._pipe) if self._open else 0
        chunks = []
        while left > 0 and (chunk := self._read(_READ_BYTES)):
            chunks.append(chunk)
            left -= len(chunk)
        self._take(b"".join(chunks), lines_max=_LINES_AT_ONCE)

    def _read(self, size: int) -> bytes:
        """Empty: there is nothing now, or never again."""
        try:
            chunk = os.read(self._pipe, size)
        except (BlockingIOError, InterruptedError):
            return b""
        if not chunk:
            self._stop()
        return chunk

    def _take(self, chunk: bytes, lines_max: int | None = None) -> bool:
        """Returns whether there was anything in it. `lines_max`: of more lines than that the first are left out."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if self._skipping and lines:
            del lines[0]
            self._skipping = False
        if lines_max is not None and (more := len(lines) - lines_max) > 0:
            lines[:more] = [f"… ({more:,} lines are left out)".encode()]
        for line in lines:
            self._hand_on(line)
        if self._skipping:
            self._rest = b""
        elif len(self._rest) > _LINE_BYTES_MAX:
            self._hand_on(self._rest)
            self._rest, self._skipping = b"", True
        return bool(chunk)

    def _hand_on(self, line: bytes) -> None:
        self._lines += 1
        more = len(line) - _LINE_BYTES_MAX
        text = line[:_LINE_BYTES_MAX].decode("utf-8", "replace")
        self._line(f"{text} … (cut)" if more > 0 else text)

    def close(self) -> None:
        """Read what is there (a grandchild may hold the pipe open for ever), and be done."""
        self.read_all()
        if self._rest:
            self._hand_on(self._rest)
            self._rest = b""
        self._stop()
        os.close(self._pipe)

    def _stop(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._pipe)
