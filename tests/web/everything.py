"""A host that /metrics can be asked of, without a runtime."""

from __future__ import annotations

from collections import Counter

from streamheal.runtime.figures import ShardFigures
from streamheal.runtime.times import Times


class _Writes:
    def __init__(self) -> None:
        self.writes = Counter(stored=1)


class OneOfEverything:
    """One of everything, so that every metric has a value and all its labels."""

    def __init__(self) -> None:
        self.deaths = Counter(signal=1)
        self.keeper = _Writes()
        self.times = Times()

    def figures(self) -> list[ShardFigures]:
        return [
            ShardFigures(
                "orders", "shardId-000000000000", 3, 1, 1, {"crash": 1}, 1, 0, 1.0, 1.0, 1.0,
                attempts_by_outcome={"crash": 1},
            )
        ]  # fmt: skip
