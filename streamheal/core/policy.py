"""The numbers a user may turn. Arithmetic only: no clock, no dice."""

from __future__ import annotations

from dataclasses import dataclass

# Beyond 2.0 ** 1023 there is no float.
_DOUBLINGS_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How the core decides. Times are seconds.

    Attributes:
        replaying: A record that fails its tries stays in quarantine: no witness is asked for.
        batches: The processor takes many records at once, so a death names all of them.
        bracket_s: Successes at most so far apart leave no room for an outage between them.
            A shorter outage cannot be told from poison, by anybody.
        brackets_loose: So many wider brackets with one cause convict as well.
        crashes_alone_min: The out-of-memory killer may hit a cell; twice is taken for a pattern.
        failing_min: So many different records failing and none succeeding is an outage,
        failing_s_min: once it has lasted so long; two failures between two samples have not.
        human_s: So long beyond `patience_s` the last tries alone may take, before a human is called.
        open_spans_max: Spans of which something may still run; each keeps a piece of memory that all shards share.
        uncounted_max: Spans whose records nobody has counted yet, beyond which no batch is asked for.
        deaths_one_at_a_time: Deaths without a culprit within `calm_s`, until records run one at a time,
        deaths_stop: and until the shard stops.
    """

    attempts_max: int = 3
    retry_s_min: float = 0.5
    retry_s_max: float = 30.0
    patience_s: float = 60.0
    checkpoint_s: float = 5.0
    shutdown_s: float = 20.0
    open_records_max: int = 10_000
    open_bytes_max: int = 64 << 20
    cells_max: int = 4
    replaying: bool = False
    batches: bool = False
    bracket_s: float = 5.0
    brackets_loose: int = 3
    crashes_alone_min: int = 2
    failing_min: int = 2
    failing_s_min: float = 2.0
    pause_s_min: float = 5.0
    pause_s_max: float = 300.0
    human_s: float = 30.0
    uncounted_max: int = 2
    open_spans_max: int = 32
    deaths_one_at_a_time: int = 3
    deaths_stop: int = 6
    calm_s: float = 600.0

    def retry_s(self, failures: int, jitter: float) -> float:
        """The wait after the nth failure: doubling, halved at most by `jitter` in 0..1."""
        return _doubling(self.retry_s_min, self.retry_s_max, failures) * (0.5 + jitter / 2)

    def pause_s(self, probes: int, jitter: float) -> float:
        return _doubling(self.pause_s_min, self.pause_s_max, probes) * (0.5 + jitter / 2)


def _doubling(least: float, most: float, nth: int) -> float:
    return min(most, least * 2.0 ** min(max(nth, 1) - 1, _DOUBLINGS_MAX))
