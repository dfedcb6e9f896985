"""What a shard has come to so far, for metrics and people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class ShardFigures:
    """Read at one moment, so that read = done + quarantined + filtered + in_flight.

    Times are seconds; None where nothing is known (no lag before the first answer of the stream).

    Attributes:
        held: The shard is this host's. Of one that is not, only the counts are known.
        lost: It was taken away with records open: what became of them is for its next host to tell.
    """

    stream: str
    shard_id: str
    read: int
    done: int
    quarantined: int
    quarantined_by_reason: dict[str, int] = field(default_factory=dict)
    filtered: int = 0
    in_flight: int = 0
    lag_s: float | None = None
    retention_left_s: float | None = None
    oldest_open_s: float | None = None
    paused: bool = False
    waits_for: str | None = None
    attempts_by_outcome: dict[str, int] = field(default_factory=dict)
    checkpoints: int = 0
    held: bool = True
    lost: bool = False

    def left(self) -> ShardFigures:
        """Once the shard is not ours any more. Records that were open are not of our reading."""
        return replace(
            self,
            read=self.read - self.in_flight,
            in_flight=0,
            lag_s=None,
            retention_left_s=None,
            oldest_open_s=None,
            paused=False,
            waits_for=None,
            held=False,
            lost=self.in_flight > 0,
        )

    def after(self, before: ShardFigures | None) -> ShardFigures:
        """With what was counted when the shard was ours before."""
        if before is None:
            return self
        return replace(
            self,
            read=before.read + self.read,
            done=before.done + self.done,
            quarantined=before.quarantined + self.quarantined,
            quarantined_by_reason=_sum(before.quarantined_by_reason, self.quarantined_by_reason),
            filtered=before.filtered + self.filtered,
            attempts_by_outcome=_sum(before.attempts_by_outcome, self.attempts_by_outcome),
            checkpoints=before.checkpoints + self.checkpoints,
        )


def _sum(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    return dict(Counter(before) + Counter(now))
