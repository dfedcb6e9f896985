"""How far a shard is behind the tip of its stream.

Reading alone does not tell. What was read may wait a long time to be done, and a shard that nobody
reads any more would stand at what was measured last:

    read lag   as the engine measured it; grows by itself once that was too long ago
    age        of the oldest open record, since it arrived in the stream
    lag        the longer of the two
"""

from __future__ import annotations

# A shard that is read is measured once a second or oftener (KCL's `idleTimeBetweenReadsInMillis` is
# 1,000). After half a minute without, the stream does not answer, or a batch waits to be taken.
_MEASURED_S_MAX = 30.0


class Lag:
    """All in seconds; `now` is the time of one clock, whichever."""

    def __init__(self) -> None:
        self._measured: tuple[float, float] | None = None

    def measured(self, lag_s: float, now: float) -> None:
        self._measured = lag_s, now

    def lag_s(self, now: float, oldest_age_s: float | None) -> float | None:
        """None before the first measurement: a replay has no tip, and its records are as old as they are."""
        return None if self._measured is None else self.age_s(now, oldest_age_s)

    def age_s(self, now: float, oldest_age_s: float | None) -> float | None:
        """How old the oldest record may be that is not settled; None: nothing is known of it."""
        ages = [age for age in (oldest_age_s, self._read_lag_s(now)) if age is not None]
        return max(0.0, *ages) if ages else None

    def _read_lag_s(self, now: float) -> float | None:
        if self._measured is None:
            return None
        lag_s, at = self._measured
        return lag_s if now - at < _MEASURED_S_MAX else lag_s + now - at
