"""Which shards may be read, from where, and when: parents before their children.

    shard 0 ──split──► 1 ──┐            0 is read to its end before 1 and 2 begin;
                  └──► 2 ──┴merge► 3    3 begins when both 1 and 2 are complete.

A shard is *complete* when everything of it is settled and that is written down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from streamheal.records import Position

StartAt = Literal["TRIM_HORIZON", "LATEST"] | datetime


class Checkpoint(Protocol):
    """What is remembered of a shard.

    Attributes:
        position: Everything up to it is settled; None before the first checkpoint.
        ended: The shard is complete.
        began: What `Checkpoints.begin` was last told, or None.
    """

    @property
    def position(self) -> Position | None: ...
    @property
    def ended(self) -> bool: ...
    @property
    def began(self) -> str | None: ...


class Checkpoints(Protocol):
    """The memory of the poll engine. Methods block, are called in threads, and raise `Unavailable`
    when trying again may help."""

    def read_all(self) -> Mapping[str, Checkpoint]:
        """By shard id, of this application and stream."""

    def begin(self, shard_id: str, at: str) -> None:
        """Remember where reading began, before it begins: `TRIM_HORIZON` or an ISO time.

        A host that dies before its first checkpoint begins there again, not at what is the
        latest then.
        """

    def write(self, shard_id: str, position: Position) -> None: ...

    def write_ended(self, shard_id: str) -> None: ...

    def forget(self, shard_id: str) -> None:
        """What is remembered was of another stream of this name, which has been deleted."""


class Listed(NamedTuple):
    """A shard as ListShards tells of it; `first` is where its sequence numbers start."""

    shard_id: str
    parents: tuple[str, ...]
    is_open: bool
    first: int = 0


class Begin(NamedTuple):
    """A shard that may be read now. `position` is its checkpoint; without one it starts `at`, which was
    remembered by an earlier run if `remembered`. Of one that is not `is_open` an end is known."""

    shard_id: str
    position: Position | None
    at: StartAt
    remembered: bool
    is_open: bool


class Lineage:
    """All shards of a stream, and how far each has come.

    Attributes:
        foreign: Shards of which something was remembered that cannot be of this stream: it was
            deleted and made again. They begin anew; whoever keeps the memory takes them from here.
    """

    def __init__(self, checkpoints: Mapping[str, Checkpoint], start_at: StartAt) -> None:
        self._checkpoints = dict(checkpoints)
        self._start_at = start_at
        self._shards: dict[str, Listed] = {}
        self._begun: set[str] = set()
        self._complete = {shard_id for shard_id, checkpoint in checkpoints.items() if checkpoint.ended}
        self._skipped: set[str] = set()
        self.foreign: list[str] = []

    def listed(self, shards: Iterable[Listed]) -> None:
        for shard in shards:
            if self._is_of_another_stream(shard):
                self._forget(shard.shard_id)
            known = self._shards.get(shard.shard_id)
            self._shards[shard.shard_id] = shard
            if known is None and self._to_be_skipped(shard):
                self._skipped.add(shard.shard_id)

    def knows(self, shard_id: str) -> bool:
        return shard_id in self._shards

    def complete(self, shard_id: str) -> None:
        self._complete.add(shard_id)

    def next(self) -> list[Begin]:
        """The shards that may begin now; each is named once."""
        ready = [shard for shard in self._shards.values() if self._may_begin(shard)]
        self._begun.update(shard.shard_id for shard in ready)
        return [self._begin(shard) for shard in ready]

    def _is_of_another_stream(self, shard: Listed) -> bool:
        checkpoint = self._checkpoints.get(shard.shard_id)
        if shard.is_open and shard.shard_id in self._complete:
            return True
        if checkpoint is None or checkpoint.position is None or shard.shard_id in self._begun:
            return False
        return checkpoint.position.sequence < shard.first

    def _forget(self, shard_id: str) -> None:
        self._checkpoints.pop(shard_id, None)
        self._complete.discard(shard_id)
        self._begun.discard(shard_id)
        self.foreign.append(shard_id)

    def _may_begin(self, shard: Listed) -> bool:
        if shard.shard_id in self._begun | self._complete | self._skipped:
            return False
        # A parent that is not listed has been trimmed: there is nothing left of it to read.
        return all(parent in self._complete | self._skipped for parent in shard.parents if parent in self._shards)

    def _begin(self, shard: Listed) -> Begin:
        checkpoint = self._checkpoints.get(shard.shard_id)
        if checkpoint is None:
            return Begin(shard.shard_id, None, self._first_start(shard), remembered=False, is_open=shard.is_open)
        at: StartAt = "TRIM_HORIZON"
        if checkpoint.began and checkpoint.began != "TRIM_HORIZON":
            at = datetime.fromisoformat(checkpoint.began)
        return Begin(shard.shard_id, checkpoint.position, at, remembered=True, is_open=shard.is_open)

    def _first_start(self, shard: Listed) -> StartAt:
        """Where a shard begins that this application never read.

        What follows a shard that was read is read from its first record, or the records between
        would be lost. So is, later on, a shard whose parents have been trimmed while nobody read.
        """
        if self._start_at != "LATEST":
            return self._start_at
        later = bool(self._checkpoints or self._complete)
        trimmed = any(parent not in self._shards for parent in shard.parents)
        return "TRIM_HORIZON" if self._follows_a_read_one(shard) or (later and trimmed) else "LATEST"

    def _to_be_skipped(self, shard: Listed) -> bool:
        """From LATEST on, a closed shard has nothing to give, unless it follows one that was read."""
        return (
            self._start_at == "LATEST"
            and not shard.is_open
            and shard.shard_id not in self._checkpoints
            and not self._follows_a_read_one(shard)
        )

    def _follows_a_read_one(self, shard: Listed) -> bool:
        for parent in shard.parents:
            if parent in self._checkpoints or parent in self._begun or parent in self._complete:
                return True
            if parent in self._shards and self._follows_a_read_one(self._shards[parent]):
                return True
        return False
