"""The host's figures for Prometheus, taken at the moment they are asked for.

Nothing is counted here. Each scrape asks the runtime once, in the event loop's thread, where
nothing can change in between: read = done + quarantined + filtered + in flight holds in every
answer, and not only on average.

A shard that this host holds no longer has counts and nothing else. If records of it were open when
it was taken away, its counts end as well: "read" may not fall, and what was open is read again by
the shard's next host, so that nothing would ever add up. Should it come back, they begin at 0, as
after a restart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from streamheal.runtime.figures import ShardFigures
from streamheal.runtime.times import Times


class Writes(Protocol):
    @property
    def writes(self) -> Mapping[str, int]:
        """Quarantine writes by outcome: `stored`, `unavailable`, `failed`."""


class Snapshot(Protocol):
    """What is asked of a running host, in its event loop's thread."""

    @property
    def deaths(self) -> Mapping[str, int]:
        """Worker processes that died, by cause."""

    @property
    def keeper(self) -> Writes: ...

    @property
    def times(self) -> Times: ...

    def figures(self) -> Sequence[ShardFigures]:
        """Every shard this host has had. Of one that was lost with records open there may be two."""


_SHARD = ("stream", "shard")


class HostCollector(Collector):
    def __init__(self, host: Snapshot) -> None:
        self._host = host

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry then does not ask for figures before the host has any."""
        return ()

    def collect(self) -> Iterable[Metric]:
        shards = self._host.figures()
        yield from _records(shards)
        yield from _times(shards)
        attempts = sum((Counter(shard.attempts_by_outcome) for shard in shards), Counter[str]())
        yield _by("attempts", "Tries of single records that were told of, by how they ended", "outcome", attempts)
        yield _by("worker_deaths", "Worker processes that died, by cause", "cause", self._host.deaths)
        yield _by(
            "quarantine_writes", "Envelopes given to the quarantine, by outcome", "outcome", self._host.keeper.writes
        )
        checkpoints = CounterMetricFamily("streamheal_checkpoints", "Checkpoints kept")
        checkpoints.add_metric((), sum(shard.checkpoints for shard in shards))
        yield checkpoints
        collateral = CounterMetricFamily(
            "streamheal_collateral_delay_seconds", "Time that records waited behind a sick one of their key, summed up"
        )
        collateral.add_metric((), self._host.times.collateral_s)
        yield collateral
        took = self._host.times.took
        yield HistogramMetricFamily(
            "streamheal_process_seconds",
            "How long records took that succeeded (batch processors: a call); up to four a second and shard are timed",
            buckets=took.buckets(),
            sum_value=took.sum,
        )


def registry(host: Snapshot) -> CollectorRegistry:
    """One for each host, so that two in one process (a test, a replay) do not meet."""
    made = CollectorRegistry()
    made.register(HostCollector(host))
    return made


def _records(shards: Sequence[ShardFigures]) -> Iterable[Metric]:
    read = CounterMetricFamily("streamheal_records_read", "Records read", labels=_SHARD)
    done = CounterMetricFamily("streamheal_records_done", "Records that the processor handled", labels=_SHARD)
    quarantined = CounterMetricFamily(
        "streamheal_records_quarantined", "Records set aside, by reason", labels=(*_SHARD, "reason")
    )
    filtered = CounterMetricFamily(
        "streamheal_records_filtered", "Records that the processor did not want", labels=_SHARD
    )
    in_flight = GaugeMetricFamily("streamheal_records_in_flight", "Records read and not settled yet", labels=_SHARD)
    for shard in shards:
        if shard.lost:
            continue
        labels = (shard.stream, shard.shard_id)
        read.add_metric(labels, shard.read)
        done.add_metric(labels, shard.done)
        filtered.add_metric(labels, shard.filtered)
        in_flight.add_metric(labels, shard.in_flight)
        for reason, records in sorted(shard.quarantined_by_reason.items()):
            quarantined.add_metric((*labels, reason), records)
    return read, done, quarantined, filtered, in_flight


def _times(shards: Sequence[ShardFigures]) -> Iterable[Metric]:
    lag = GaugeMetricFamily("streamheal_shard_lag_seconds", "How far behind its tip a shard is", labels=_SHARD)
    retention = GaugeMetricFamily(
        "streamheal_retention_left_seconds", "Until the stream forgets the oldest open record", labels=_SHARD
    )
    oldest = GaugeMetricFamily(
        "streamheal_oldest_open_seconds", "How long the oldest open record has been open", labels=_SHARD
    )
    paused = GaugeMetricFamily(
        "streamheal_paused", "1 while a shard waits because everything fails, else 0", labels=_SHARD
    )
    for shard in shards:
        if not shard.held:
            continue
        labels = (shard.stream, shard.shard_id)
        for family, value in ((lag, shard.lag_s), (retention, shard.retention_left_s), (oldest, shard.oldest_open_s)):
            if value is not None:
                family.add_metric(labels, value)
        paused.add_metric(labels, float(shard.paused))
    return lag, retention, oldest, paused


def _by(name: str, says: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"streamheal_{name}", says, labels=(label,))
    for value, count in sorted(counts.items()):
        family.add_metric((value,), count)
    return family
