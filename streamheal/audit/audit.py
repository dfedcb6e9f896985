"""One audit from its parts: checkpoints first, then effects and quarantine, then the stream.

In this order, because a consumer may go on meanwhile: whatever a checkpoint has passed by now has had its
effect, or its place in quarantine, before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime
from typing import NamedTuple

from streamheal.audit.checkpoints import passed
from streamheal.audit.compare import Comparison, Counts, Finding
from streamheal.audit.effects import EffectsLog
from streamheal.audit.reading import Range, Reader, ranges
from streamheal.audit.scratch import Scratch
from streamheal.config.aws import AwsOptions
from streamheal.config.settings import Settings
from streamheal.engines.poll_calls import Calls
from streamheal.errors import UsageError
from streamheal.quarantine.base import Selection, Store
from streamheal.records import Position, Record
from streamheal.state.base import State


class AuditOptions(NamedTuple):
    """Attributes:
    effects: Files, globs, or `-`.
    since, until: Of the range, both included; None: as far as retention and the checkpoints reach.
    shard: Only this one.
    """

    effects: tuple[str, ...]
    since: datetime | Position | None = None
    until: datetime | Position | None = None
    shard: str | None = None
    filtered_may_miss: bool = False


class ShardResult(NamedTuple):
    """`first` and `last` are the ends of what was read; None: nothing was there."""

    shard_id: str
    counts: Counts
    told: int
    first: Record | None
    last: Record | None


class Result(NamedTuple):
    """What it came to. `strangers`: records that the log tells of, and that are not in the range."""

    shards: tuple[ShardResult, ...]
    strangers: int
    unreadable: int

    @property
    def total(self) -> Counts:
        found = Counts()
        for shard in self.shards:
            found = found.plus(shard.counts)
        return found


# Called with a shard's id, how many records of it were compared, and the last of them.
Progress = Callable[[str, int, Record | None], None]


class Audit:
    """Blocking."""

    def __init__(self, settings: Settings, state: State, kcl: Mapping[str, str] | None, options: AuditOptions) -> None:
        """
        Raises:
            UsageError: Nothing was checkpointed under this name, or there is no such file or shard.
        """
        assert settings.stream is not None
        self._options, self._ordering = options, settings.ordering
        self._log = EffectsLog(options.effects)
        with closing(state):
            far = passed(settings, state, kcl)
        self._selection = Selection(status=None, application=settings.application, stream=settings.stream)
        self._calls = Calls(settings.stream, AwsOptions.of(settings))
        self._reader = Reader(self._calls)
        shards = self._reader.shards()
        if options.shard is not None and options.shard not in {shard.shard_id for shard in shards}:
            raise UsageError(f"--shard is {options.shard}: stream {settings.stream} has no such shard (any more)")
        found = ranges(shards, far, options.since, options.until)
        self._ranges = {id: what for id, what in found.items() if options.shard in (None, id)}

    def run(self, store: Store, found: Callable[[str, Finding], None], progress: Progress) -> Result:
        """Compare everything; `found` is told of each finding as it comes."""
        with closing(self._calls), Scratch() as scratch:
            scratch.add_effects(self._log)
            for envelope in store.scan(self._selection):
                position = Position(int(envelope.sequence_number), envelope.sub_sequence_number)
                scratch.add_aside(position, envelope.shard_id, envelope.status, envelope.id)
            results = tuple(self._shard(id, what, scratch, found, progress) for id, what in self._ranges.items())
            strangers = scratch.effects() - sum(shard.told for shard in results)
        return Result(results, max(0, strangers), self._log.unreadable)

    def _shard(
        self,
        shard_id: str,
        what: Range,
        scratch: Scratch,
        found: Callable[[str, Finding], None],
        progress: Progress,
    ) -> ShardResult:
        comparison = Comparison(
            shard_id, scratch, ordering=self._ordering, filtered_may_miss=self._options.filtered_may_miss
        )
        first: Record | None = None
        last: Record | None = None
        for records in self._reader.read(shard_id, what):
            first, last = first or records[0], records[-1]
            for finding in comparison.compare(records):
                found(shard_id, finding)
            progress(shard_id, comparison.counts.records, last)
        return ShardResult(shard_id, comparison.counts, comparison.told, first, last)
