"""A stream's records once more, shard by shard, no further than each is checkpointed."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from streamheal.config import aws
from streamheal.engines.pace import Backoff, Pace, Turn
from streamheal.engines.poll_calls import Calls
from streamheal.engines.poll_reader import FAULTS
from streamheal.engines.poll_shards import Listed
from streamheal.errors import UsageError
from streamheal.records import Dialect, Position, Record, arrival_ms
from streamheal.workers.decode import decoder

T = TypeVar("T")

_LIMIT = 10_000
_PATIENCE_S = 60.0

# Half of what Kinesis gives: the consumer under audit reads from the same quota.
_PACE = Pace(calls_per_s=2.5, bytes_per_s=1024.0 * 1024)


class Passed(NamedTuple):
    """How far a shard is checkpointed.

    Attributes:
        position: The last record that was passed; None: all of them, to the shard's end.
        began: From when on it was read, where it was not read from its beginning.
    """

    position: Position | None
    began: datetime | None = None


class Range(NamedTuple):
    """What of a shard is read: from a time or a position on, both ends included. None: no bound."""

    since: datetime | Position | None
    until: datetime | Position | None
    upto: Position | None  # the checkpoint

    def holds(self, record: Record) -> bool:
        """Whether the record lies before its end."""
        if self.upto is not None and record.position > self.upto:
            return False
        if isinstance(self.until, Position):
            return record.position.sequence <= self.until.sequence
        return self.until is None or arrival_ms(record) <= self.until.timestamp() * 1000


def ranges(
    shards: Sequence[Listed],
    passed: Mapping[str, Passed],
    since: datetime | Position | None,
    until: datetime | Position | None,
) -> dict[str, Range]:
    """What is to be read of each shard; one that nothing was checkpointed of has nothing to be lost."""
    found: dict[str, Range] = {}
    for shard in shards:
        far = passed.get(shard.shard_id) or _ended_long_ago(shard, shards, passed)
        if far is not None:
            found[shard.shard_id] = Range(since if since is not None else far.began, until, far.position)
    return found


def _ended_long_ago(shard: Listed, shards: Sequence[Listed], passed: Mapping[str, Passed]) -> Passed | None:
    """KCL deletes the lease of a shard once its children are read: they began when all of it was settled."""
    children = [child for child in shards if shard.shard_id in child.parents]
    return Passed(None) if not shard.is_open and any(child.shard_id in passed for child in children) else None


class Reader:
    """Blocking."""

    def __init__(self, calls: Calls, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._calls, self._pause = calls, pause

    def shards(self) -> list[Listed]:
        return sorted(self._asked(self._calls.shards, "list shards")[0])

    def read(self, shard_id: str, what: Range) -> Iterator[list[Record]]:
        """The range's records, a batch of them at a time, in order.

        Raises:
            UsageError: Kinesis refuses, or has not answered for a minute.
        """
        decode, turn, last = decoder(shard_id), Turn(_PACE), None
        iterator = self._iterator(shard_id, what, None)
        while True:
            self._pause(turn.wait_s(time.monotonic()))
            try:
                fetched = self._asked(functools.partial(self._calls.records, iterator, _LIMIT), f"read {shard_id}")
            except _Expired:
                iterator = self._iterator(shard_id, what, last)
                continue
            turn.called(time.monotonic(), fetched.payload_bytes, at_tip=False)
            records = decode(Dialect.GET_RECORDS, memoryview(fetched.body), None)
            inside = [record for record in records if what.holds(record)]
            if inside:
                yield inside
            there = bool(records) and (records[-1].position == what.upto or len(inside) < len(records))
            at_tip = not records and fetched.behind_s == 0
            if there or at_tip or fetched.next_iterator is None:
                return
            iterator, last = fetched.next_iterator, fetched.last or last

    def _iterator(self, shard_id: str, what: Range, last: int | None) -> str:
        kind: str
        where: dict[str, Any]
        kind, where = "TRIM_HORIZON", {}
        if last is not None:
            kind, where = "AFTER_SEQUENCE_NUMBER", {"StartingSequenceNumber": str(last)}
        elif isinstance(what.since, Position):
            kind, where = "AT_SEQUENCE_NUMBER", {"StartingSequenceNumber": str(what.since.sequence)}
        elif what.since is not None:
            kind, where = "AT_TIMESTAMP", {"Timestamp": what.since}
        return self._asked(lambda: self._calls.iterator(shard_id, kind, **where), f"read {shard_id}")

    def _asked(self, call: Callable[[], T], what: str) -> T:
        backoff, give_up_at = Backoff(), time.monotonic() + _PATIENCE_S
        while True:
            try:
                return call()
            except FAULTS as error:
                if aws.code(error) == "ExpiredIteratorException":
                    raise _Expired from error
                told = aws.explain(error, what)
                if isinstance(told, UsageError):
                    raise told from error
                if time.monotonic() > give_up_at:
                    raise UsageError(f"{told} (tried for {_PATIENCE_S:.0f} s)") from error
                self._pause(backoff.wait_s(random.random()))


class _Expired(Exception):
    """An iterator lives for five minutes."""
