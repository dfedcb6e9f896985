"""Standard output for lines that programs read: each is whole, and none is waited for."""

from __future__ import annotations

import errno
import os
import select
import sys


class Stdout:
    """Standard output as it was when this was made.

    A pipe that nobody reads would stop whoever writes to it. One that is ready takes at least
    PIPE_BUF bytes at once (POSIX; 4,096 on Linux), and keeps them together even where several
    write to it. So it is asked first, and lines are written that long at most.
    """

    def __init__(self) -> None:
        # None where it was closed before Python began: its number may be another file's by now,
        # a database's for one.
        self._descriptor = None if sys.stdout is None else sys.stdout.fileno()

    def write(self, line: bytes) -> None:
        """
        Raises:
            OSError: It was not written: nobody reads, the disk is full, it is closed.
        """
        assert len(line) <= select.PIPE_BUF or sys.platform != "linux", f"{len(line)} bytes in a line"
        if self._descriptor is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if os.isatty(self._descriptor):
            # Through the live view, which has put itself there.
            sys.stdout.write(line.decode())
            sys.stdout.flush()
            return
        if not select.select([], [self._descriptor], [], 0)[1]:
            raise OSError(errno.EAGAIN, "nobody reads it")
        if os.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
