"""The times that workers tell of, for the metrics of a host."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

from streamheal.workers.port import Timed

# From what a no-op takes to the default deadline, and what lies beyond.
BOUNDS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class Histogram:
    """How often values fell under each of a few bounds, as Prometheus wants it; `sum` is that of all values."""

    def __init__(self, bounds: tuple[float, ...] = BOUNDS_S) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, int]]:
        """By upper bound, each with all that is below it."""
        names = [*map(str, self._bounds), "+Inf"]
        return list(zip(names, accumulate(self._counts), strict=True))


class Times:
    """Attributes:
    took: How long records took, by a sample of them.
    collateral_s: How long records have waited behind a sick one of their key, all of them together.
    """

    def __init__(self) -> None:
        self.took = Histogram()
        self.collateral_s = 0.0

    def add(self, what: Timed, seconds: float) -> None:
        if what == "took":
            self.took.observe(seconds)
        else:
            self.collateral_s += seconds
