"""The shards of one stream: what they hold, how they split and merge, and what came of them.

open ──split──► closed, with two children      A closed shard keeps its records and takes
open ──merge──► closed, with one child         no more: puts go to the children.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from typing import NamedTuple

import msgspec

from streamheal.local.faults import invalid_argument
from streamheal.local.sequence import SequenceNumbers

HASH_KEYS = 2**128

# GetRecords returns at most 10 MiB of payload and 10,000 records
# (Kinesis API reference, GetRecords).
_BYTES_MAX = 10 * 1024 * 1024
_RECORDS_MAX = 10_000


class Kept(msgspec.Struct, gc=False, rename="pascal"):
    """One record, as GetRecords writes it."""

    approximate_arrival_timestamp: float
    data: bytes
    partition_key: str
    sequence_number: str


class Page(NamedTuple):
    """What one GetRecords finds.

    `records` are the JSON texts of `Kept`; `after` is the last sequence number read, or the one
    that reading began behind. `at_end`: the shard is closed, and nothing follows.
    """

    records: list[bytes]
    after: int
    behind_ms: int
    at_end: bool


class Shard:
    """A stretch of hash keys and the records that fell into it."""

    def __init__(
        self, shard_id: str, *, low: int, high: int, starts_at: int, now: float, parents: tuple[str, ...]
    ) -> None:
        self.shard_id = shard_id
        self.low, self.high = low, high
        self.starts_at, self.ends_at = starts_at, 0
        self.opened, self.closed = now, float("inf")
        self.parents = parents
        self._numbers: list[int] = []
        self._arrivals: list[float] = []
        self._sizes: list[int] = []
        self._records: list[bytes] = []

    @property
    def is_open(self) -> bool:
        return not self.ends_at

    @property
    def latest(self) -> int:
        """The last sequence number given out here; the one before the first, if none was."""
        return self._numbers[-1] if self._numbers else self.starts_at - 1

    def put(self, number: int, key: str, data: bytes, now: float) -> None:
        now = round(now, 3)  # Kinesis counts arrival times in milliseconds.
        kept = Kept(now, data, key, str(number))
        self._numbers.append(number)
        self._arrivals.append(now)
        self._sizes.append(len(data) + len(key))
        # Written once here, because records are read more often than they are put.
        self._records.append(msgspec.json.encode(kept))

    def read(self, after: int, limit: int | None, now: float) -> Page:
        first = bisect_right(self._numbers, after)
        last = min(len(self._numbers), first + (limit or _RECORDS_MAX))
        size, end = 0, first
        while end < last:
            size += self._sizes[end]
            if size > _BYTES_MAX and end > first:
                break
            end += 1
        left = end < len(self._numbers)
        behind_ms = max(1, int((now - self._arrivals[end]) * 1000)) if left else 0
        after = self._numbers[end - 1] if end > first else after
        return Page(self._records[first:end], after, behind_ms, not self.is_open and not left)

    def before(self, time: float) -> int:
        """The last sequence number that arrived before then."""
        nth = bisect_left(self._arrivals, time)
        return self._numbers[nth - 1] if nth else self.starts_at - 1

    def close(self, number: int, now: float) -> None:
        self.ends_at, self.closed = number, now

    def range(self) -> dict[str, str]:
        return {"StartingHashKey": str(self.low), "EndingHashKey": str(self.high)}

    def describe(self) -> dict[str, object]:
        numbers = {"StartingSequenceNumber": str(self.starts_at)}
        if not self.is_open:
            numbers["EndingSequenceNumber"] = str(self.ends_at)
        shard: dict[str, object] = {
            "ShardId": self.shard_id,
            "HashKeyRange": self.range(),
            "SequenceNumberRange": numbers,
        }
        shard.update(zip(("ParentShardId", "AdjacentParentShardId"), self.parents, strict=False))
        return shard


class Shards:
    """All shards that a stream ever had, oldest first."""

    def __init__(self, count: int, now: float) -> None:
        self._numbers = SequenceNumbers()
        self._shards: dict[str, Shard] = {}
        self._open: list[Shard] = []
        for nth in range(count):
            self._add(HASH_KEYS * nth // count, HASH_KEYS * (nth + 1) // count - 1, now)

    def all(self) -> list[Shard]:
        return list(self._shards.values())

    def open(self) -> list[Shard]:
        """By the hash keys they hold."""
        return self._open

    def get(self, shard_id: str) -> Shard | None:
        return self._shards.get(shard_id)

    def children(self, shard_id: str) -> list[Shard]:
        return [shard for shard in self._shards.values() if shard_id in shard.parents]

    def put(self, key: str, hash_key: int | None, data: bytes, now: float) -> tuple[Shard, int]:
        if hash_key is None:
            hash_key = int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest())
        shard = self._open[bisect_right(self._open, hash_key, key=lambda shard: shard.low) - 1]
        number = self._numbers.next()
        shard.put(number, key, data, now)
        return shard, number

    def split(self, shard: Shard, at: int, now: float) -> None:
        if not shard.low < at <= shard.high:
            raise invalid_argument(
                f"NewStartingHashKey {at} used in SplitShard() on shard {shard.shard_id} is not both greater than one "
                f"plus the shard's StartingHashKey {shard.low} and less than the shard's EndingHashKey {shard.high}."
            )
        self._close(shard, now)
        self._add(shard.low, at - 1, now, shard)
        self._add(at, shard.high, now, shard)

    def merge(self, shard: Shard, adjacent: Shard, now: float) -> None:
        low, high = sorted((shard, adjacent), key=lambda shard: shard.low)
        if low.high + 1 != high.low:
            raise invalid_argument(f"Shards {shard.shard_id} and {adjacent.shard_id} are not an adjacent pair.")
        if not adjacent.is_open:
            raise _not_eligible(adjacent)
        self._close(shard, now)
        self._close(adjacent, now)
        self._add(low.low, high.high, now, shard, adjacent)

    def resize(self, target: int, now: float) -> None:
        """Split the widest or merge the narrowest neighbours until `target` shards are open."""
        while len(self._open) < target:
            widest = max(self._open, key=lambda shard: shard.high - shard.low)
            self.split(widest, (widest.low + widest.high + 1) // 2, now)
        while len(self._open) > target:
            pairs = zip(self._open, self._open[1:], strict=False)
            self.merge(*min(pairs, key=lambda pair: pair[1].high - pair[0].low), now)

    def _close(self, shard: Shard, now: float) -> None:
        if not shard.is_open:
            raise _not_eligible(shard)
        shard.close(self._numbers.next(), now)
        self._open.remove(shard)

    def _add(self, low: int, high: int, now: float, *parents: Shard) -> None:
        names = tuple(parent.shard_id for parent in parents)
        shard_id = f"shardId-{len(self._shards):012d}"
        shard = Shard(shard_id, low=low, high=high, starts_at=self._numbers.next(), now=now, parents=names)
        self._shards[shard.shard_id] = shard
        self._open.append(shard)
        self._open.sort(key=lambda shard: shard.low)


def _not_eligible(shard: Shard) -> Exception:
    return invalid_argument(
        f"Shard {shard.shard_id} has already been merged or split, and thus is not eligible for merging or splitting."
    )
