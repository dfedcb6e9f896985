"""What a shard has come to so far, for metrics and people."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ShardFigures:
    """Read at one moment, so that read = done + quarantined + filtered + in_flight.

    Times are seconds; None where nothing is known (no lag before the first answer of the stream).
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
