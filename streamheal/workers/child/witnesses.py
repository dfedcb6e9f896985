"""Which of a shard's records succeeded when, as far as anybody needs to know.

On the clean path nobody takes times; runners leave here what they know without asking the
clock again. From the first failure on successes are timed, and told at most every 10 ms, until
the host says that it is not curious any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from streamheal.workers import wire

_TELL_EVERY_S = 0.01


class Witnesses:
    """One shard's.

    Attributes:
        timing: Successes are to be told by `succeeded`.
        began, ended: Else, the latest success that the runner knows of: when it began at the
            earliest, and by when it was over (None: by now).
    """

    def __init__(self, seat: int, send: Callable[[wire.Message], None]) -> None:
        self.timing = False
        self.began: float | None = None
        self.ended: float | None = None
        self._seat, self._send = seat, send
        self._untold: tuple[float, float] | None = None
        self._due = 0.0

    def curious(self, wanted: bool) -> None:
        self.timing = wanted
        if not wanted:
            self._untold = None

    def trouble(self) -> None:
        """Something failed: take times from here on, and tell the next success at once."""
        self.timing = True
        self._due = 0.0

    def saw(self, began: float) -> None:
        """A success just now, timed if anybody wants to know. Loops that would feel the call say the same in place."""
        if self.timing:
            self.succeeded(began)
        else:
            self.began, self.ended = began, None

    def succeeded(self, began: float) -> None:
        """A success just now. The latest begun says most."""
        now = time.monotonic()
        if self._untold is None or began >= self._untold[0]:
            self._untold = began, now
        self.began, self.ended = began, now
        if now >= self._due:
            self.tell()
            self._due = now + _TELL_EVERY_S

    def tell(self) -> None:
        """What was not told yet. Called before the shard goes idle, too."""
        if self._untold is not None:
            self._send(wire.Witness(self._seat, *self._untold))
            self._untold = None

    def last(self, now: float) -> tuple[float | None, float | None]:
        """The last success before a failure, if it has not been told."""
        if self._untold is not None:
            untold, self._untold = self._untold, None
            return untold
        if self.timing or self.began is None:
            return None, None
        return self.began, self.ended or now
