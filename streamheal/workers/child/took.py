"""How long records take, by a few of them: to time each would cost what a record costs.

The first to begin once a sample is due is timed, whatever it turns out to take: the one that runs when it
becomes due would more often be a long one, and of many at once the first to end would be a short one.
"""

from __future__ import annotations

from collections.abc import Callable

from streamheal.workers import wire

_EVERY_S = 0.25


class Took:
    """One shard's.

    Attributes:
        due: The next record, or call of a batch processor, that begins after this is timed. Runners
            look at it themselves, and call `begins` for that one only.
    """

    def __init__(self, seat: int, send: Callable[[wire.Message], None]) -> None:
        self.due = 0.0
        self._seat, self._send = seat, send

    def begins(self, began: float) -> None:
        self.due = began + _EVERY_S

    def tell(self, began: float, ended: float) -> None:
        self._send(wire.Took(self._seat, ended - began))
