"""Sequence numbers as Kinesis writes them: 56 digits, and increasing over a whole stream."""

from __future__ import annotations

import time
from collections.abc import Callable

_FIRST = 49 * 10**54


class SequenceNumbers:
    """Gives each number once, larger than every one before.

    They are made of the time, so that a stream made again under an old name goes on above
    the checkpoints of the first, as in AWS.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._last = 0

    def next(self) -> int:
        self._last = max(self._last + 1, _FIRST + self._clock_ns() * 10**8)
        return self._last
