"""How often and how much may be read: Kinesis' own limits, kept by ourselves.

Beyond them Kinesis refuses, and every refusal costs another call of the same budget.
"""

from __future__ import annotations

from typing import NamedTuple


class Pace(NamedTuple):
    """How one shard is read.

    Attributes:
        calls_per_s, bytes_per_s: Kinesis' quotas of a shard; `inf` lifts them.
        quiet_s_min, quiet_s_max: Between calls where nothing comes, growing.
        fault_s_min, fault_s_max: After a fault, growing.
    """

    calls_per_s: float = 5.0
    bytes_per_s: float = 2.0 * 1024 * 1024
    quiet_s_min: float = 0.25
    quiet_s_max: float = 1.0
    fault_s_min: float = 0.2
    fault_s_max: float = 10.0


class Turn:
    """When one shard may be called next."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._quiet_s = 0.0
        self._next_at = 0.0

    def wait_s(self, now: float) -> float:
        return max(0.0, self._next_at - now)

    def called(self, now: float, size: int, at_tip: bool) -> None:
        """A call was made at `now` and brought so many bytes of payload."""
        pace = self._pace
        if size or not at_tip:
            self._quiet_s = 0.0
        else:
            self._quiet_s = min(pace.quiet_s_max, max(pace.quiet_s_min, self._quiet_s * 2))
        self._next_at = now + max(1 / pace.calls_per_s, size / pace.bytes_per_s, self._quiet_s)


class Backoff:
    """Waits that double from fault to fault, spread by chance so that shards do not return together."""

    def __init__(self, s_min: float = 0.2, s_max: float = 10.0) -> None:
        self._min, self._max = s_min, s_max
        self.faults = 0

    def wait_s(self, dice: float) -> float:
        """The next wait; `dice` lies in 0 … 1."""
        longest = min(self._max, self._min * 2.0 ** min(self.faults, 30))
        self.faults += 1
        return longest * (0.5 + dice / 2)
