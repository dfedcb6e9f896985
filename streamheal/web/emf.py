"""The host's figures for CloudWatch, as lines on standard output: Fargate then needs no Prometheus.

CloudWatch Logs makes metrics of lines in its embedded metric format (EMF):

    {"_aws": {"Timestamp": …, "CloudWatchMetrics": [{
        "Namespace": "streamheal", "Dimensions": [["application", "stream", "shard"]],
        "Metrics": [{"Name": "shard_lag_seconds", "Unit": "Seconds"}, …]}]},
     "application": "orders", "stream": "orders", "shard": "shardId-…", "shard_lag_seconds": 1.5, …}

Every minute there is one for each shard held, and one for all of them, by application and stream.
Gauges are as they stand. Counts are what has come since the line before, because CloudWatch adds
them up: over time, and over hosts.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol

import msgspec
import structlog

from streamheal.runtime.figures import ShardFigures
from streamheal.web.stdout import Stdout

NAMESPACE = "streamheal"
# CloudWatch keeps metrics by the minute unless each is told to be kept, and paid for, by the second.
_EVERY_S = 60.0
# Leases are taken and a first answer is there, most times; whoever waits for a sign of life does not wait long.
_FIRST_S = 5.0
_ALL = ""

_UNITS = {
    "shard_lag_seconds": "Seconds",
    "oldest_open_seconds": "Seconds",
    "retention_left_seconds": "Seconds",
    "records_done": "Count",
    "records_quarantined": "Count",
    "records_in_flight": "Count",
    "shards_held": "Count",
    "paused": "Count",
}


class Host(Protocol):
    def figures(self) -> Sequence[ShardFigures]:
        """Of every shard, in the order of their ids."""


class Output(Protocol):
    def write(self, line: bytes) -> None:
        """Or raise OSError."""


class Counts(NamedTuple):
    done: int = 0
    quarantined: int = 0

    @classmethod
    def of(cls, shards: Sequence[ShardFigures]) -> Counts:
        return cls(sum(shard.done for shard in shards), sum(shard.quarantined for shard in shards))

    def since(self, before: Counts) -> Counts:
        return Counts(self.done - before.done, self.quarantined - before.quarantined)


class Emitter:
    """Tells the figures of one host. What could not be written is part of the next line."""

    def __init__(
        self,
        application: str,
        stream: str,
        host: Host,
        out: Output,
        *,
        wall_clock: Callable[[], float] = time.time,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._names = {"application": application, "stream": stream}
        self._host, self._out = host, out
        self._wall_clock, self._pause = wall_clock, pause
        self._told: dict[str, Counts] = {}
        self._complained = False

    async def keep_telling(self) -> None:
        """Until cancelled, at the same second of each minute, so that none goes without."""
        loop = asyncio.get_running_loop()
        due = loop.time() + _FIRST_S
        while True:
            await self._pause(max(0.0, due - loop.time()))
            self.tell()
            due += _EVERY_S

    def tell(self) -> None:
        """Write a line for each shard and one for all."""
        shards = self._host.figures()
        at = round(self._wall_clock() * 1000)
        try:
            for shard_id, those in groupby(shards, key=lambda shard: shard.shard_id):
                self._tell_of(at, {**self._names, "shard": shard_id}, list(those))
            self._tell_of(at, self._names, shards)
        except OSError as error:
            self._complain(error)

    def _tell_of(self, at_ms: int, dimensions: dict[str, str], shards: Sequence[ShardFigures]) -> None:
        about, one = dimensions.get("shard", _ALL), "shard" in dimensions
        held = [shard for shard in shards if shard.held]
        counts = Counts.of(shards)
        news = counts.since(self._told.get(about, Counts()))
        if one and not held and not any(news):
            return
        values: dict[str, float] = {} if one else {"shards_held": len(held)}
        values |= {"records_done": news.done, "records_quarantined": news.quarantined}
        if held or not one:
            values |= _gauges(held)
        self._out.write(_line(at_ms, dimensions, values))
        self._told[about] = counts

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            structlog.get_logger("streamheal").warning("metrics_not_written", to="stdout", error=error.strerror)


def _gauges(held: Sequence[ShardFigures]) -> dict[str, float]:
    """The worst of them for times, the sum for numbers; what is not known is left out, and is not 0."""
    times = {
        "shard_lag_seconds": max(_known(shard.lag_s for shard in held), default=None),
        "oldest_open_seconds": max(_known(shard.oldest_open_s for shard in held), default=None),
        "retention_left_seconds": min(_known(shard.retention_left_s for shard in held), default=None),
    }
    return {
        **{name: round(value, 3) for name, value in times.items() if value is not None},
        "records_in_flight": sum(shard.in_flight for shard in held),
        "paused": sum(shard.paused for shard in held),
    }


def _known(values: Iterable[float | None]) -> Iterator[float]:
    return (value for value in values if value is not None)


def _line(at_ms: int, dimensions: dict[str, str], values: dict[str, float]) -> bytes:
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [list(dimensions)],
        "Metrics": [{"Name": name, "Unit": _UNITS[name]} for name in values],
    }
    about = {"_aws": {"Timestamp": at_ms, "CloudWatchMetrics": [directive]}}
    return msgspec.json.encode(about | dimensions | values) + b"\n"


@contextlib.asynccontextmanager
async def emitting(wanted: bool, application: str, stream: str, host: Host) -> AsyncIterator[None]:
    """Tell the host's figures while the body runs, and a last time when it ends."""
    if not wanted:
        yield
        return
    emitter = Emitter(application, stream, host, Stdout())
    telling = asyncio.create_task(emitter.keep_telling(), name="emf")
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        emitter.tell()
