"""Record by record: what the stream holds, beside what became of it.

    in the stream, behind the checkpoint      and told of as           is
                                              an effect                done
                                              not wanted               filtered
                                              an envelope              in quarantine
                                              nothing                  lost

Besides: an effect told of more than once (which delivery at least once allows), one of a record that is
set aside all the same, and first effects of a key that did not come in the order of its records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec

from streamheal.audit.scratch import Aside, Scratch, Told
from streamheal.records import Position, Record

Kind = Literal["lost", "twice", "aside_though_done", "out_of_order"]
Ordering = Literal["shard", "key", "none"]

# What a human has to look at. Doubles are no fault: delivery is at least once.
SICK: tuple[Kind, ...] = ("lost", "aside_though_done", "out_of_order")


class Finding(NamedTuple):
    """`detail`: how often it was done, its envelope's id, or before which record it was done."""

    kind: Kind
    record: Record
    detail: str = ""


class Counts(msgspec.Struct):
    """Of one shard. `records` = done + filtered + quarantined + lost + unaccounted.

    `unaccounted`: filtered or lost, where the log does not tell filtered records. `order_unknown`: pairs
    of one key whose first effects stand in different files without times.
    """

    records: int = 0
    done: int = 0
    filtered: int = 0
    quarantined: int = 0
    lost: int = 0
    unaccounted: int = 0
    twice: int = 0
    aside_though_done: int = 0
    out_of_order: int = 0
    order_unknown: int = 0

    def plus(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in Counts.__struct_fields__))

    @property
    def sick(self) -> int:
        return sum(int(getattr(self, kind)) for kind in SICK)


class Comparison:
    """One shard's records, brought in stream order.

    Attributes:
        told: Records of it that the log tells of.
    """

    def __init__(self, shard_id: str, scratch: Scratch, *, ordering: Ordering, filtered_may_miss: bool) -> None:
        self._shard_id, self._scratch = shard_id, scratch
        self._ordering, self._filtered_may_miss = ordering, filtered_may_miss
        self._latest: dict[str, tuple[Told, Position]] = {}
        self.counts = Counts()
        self.told = 0

    def compare(self, records: Sequence[Record]) -> Iterator[Finding]:
        if not records:
            return
        first, last = records[0].position, records[-1].position
        told = self._scratch.told(self._shard_id, first, last)
        aside = self._scratch.aside(self._shard_id, first, last)
        for record in records:
            position = record.position
            yield from self._one(record, told.get(position), aside.get(position))

    def _one(self, record: Record, told: Told | None, aside: Aside | None) -> Iterator[Finding]:
        counts = self.counts
        counts.records += 1
        self.told += told is not None
        done = told is not None and told.times > 0
        if aside is not None:
            counts.quarantined += 1
            if done and aside.status != "healed":
                counts.aside_though_done += 1
                yield Finding("aside_though_done", record, aside.id)
        elif told is not None and done:
            counts.done += 1
            if told.times > 1:
                counts.twice += 1
                yield Finding("twice", record, f"{told.times} times")
            yield from self._in_order(record, told)
        elif told is not None:
            counts.filtered += 1
        elif self._filtered_may_miss:
            counts.unaccounted += 1
        else:
            counts.lost += 1
            yield Finding("lost", record)

    def _in_order(self, record: Record, told: Told) -> Iterator[Finding]:
        """Whoever was set aside is left out: its key went on without it, and a replay comes later."""
        if self._ordering == "none":
            return
        key = record.partition_key if self._ordering == "key" else ""
        before = self._latest.get(key)
        if before is not None:
            earlier = _earlier(told, before[0])
            if earlier is None:
                self.counts.order_unknown += 1
            elif earlier:
                self.counts.out_of_order += 1
                yield Finding("out_of_order", record, f"before {before[1].sequence}:{before[1].sub_sequence}")
                return
        self._latest[key] = told, record.position


def _earlier(one: Told, other: Told) -> bool | None:
    """Whether the first effect of one came before the other's; None: nobody can say."""
    if one.file == other.file:
        return one.line < other.line
    if one.at is None or other.at is None:
        return None
    return one.at < other.at
