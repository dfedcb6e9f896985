"""What the lives of a host have of each other, shard by shard: how often it was begun, and who was in doubt.

    begun ──► counted, before its first record runs ──► left in order: taken back
                                                   └──► this host dies: the next life finds the count

Whose marks were found as well is `caution.py`'s to say; what follows from all that, the core's.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple, Protocol

from streamheal.records import Position, Shard
from streamheal.state.marks import Suspect

if TYPE_CHECKING:
    from streamheal.runtime.runtime import Runtime


class Starts(Protocol):
    """What must be remembered about starts; blocking (see `state.ledgers.Starts`)."""

    def count(self, shard_id: str, position: Position | None) -> int: ...
    def take_back(self, shard_id: str, position: Position | None, count: int) -> None: ...
    def doubt(self, shard_id: str) -> Position | None: ...
    def set_doubt(self, shard_id: str, doubt: Position | None) -> None: ...


class Inherited(NamedTuple):
    """What a shard's run has to know of earlier lives.

    Attributes:
        starts: How often a host has begun from this checkpoint, this time included.
        doubt: See `Healer.doubt`.
        suspects: Records that ran in hosts that died.
        explained: See `Healer`.
    """

    starts: int = 1
    doubt: Position | None = None
    suspects: tuple[Suspect, ...] = ()
    explained: bool = True


class Lives:
    """What this life hears of those before it, and leaves to those after it."""

    def __init__(self, runtime: Runtime, starts: Starts) -> None:
        self._runtime, self._starts = runtime, starts
        self._counted: dict[str, tuple[Position | None, int]] = {}  # by shard, in this life
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def inherited(self, shard: Shard, after: Position | None) -> Inherited:
        """Counts this start, too: before the first record runs, so that a host that dies again and again at
        one spot can know it."""
        runtime = self._runtime
        starts = await self._count(shard.shard_id, after)
        doubt = await runtime.insist(lambda: self._starts.doubt(shard.shard_id))
        if runtime.policy.replaying:
            return Inherited(doubt=doubt)  # begun anew each time, whatever became of the one before
        found = await runtime.caution.found(shard, after)
        return Inherited(starts, doubt, found.suspects, found.explained)

    async def _count(self, shard_id: str, after: Position | None) -> int:
        """How often a host has begun here. A shard that comes to us again, from another host or a new daemon,
        has seen no host die."""
        async with self._turns[shard_id]:  # what is being taken back is not this start
            at, starts = self._counted.get(shard_id, (None, 0))
            if not starts or at != after:
                starts = await self._runtime.insist(lambda: self._starts.count(shard_id, after))
                self._counted[shard_id] = after, starts
            return starts

    def take_back(self, shard_id: str) -> None:
        """Nobody has died of this start, or will: the shard was left in order, or nothing of it was begun."""
        if counted := self._counted.pop(shard_id, None):
            self._runtime.spawn(self._take_back(shard_id, *counted))

    async def _take_back(self, shard_id: str, after: Position | None, starts: int) -> None:
        async with self._turns[shard_id]:
            await self._runtime.insist(lambda: self._starts.take_back(shard_id, after, starts))

    async def remember_doubt(self, shard_id: str, doubt: Position | None) -> None:
        """Durably, however long that takes."""
        await self._runtime.insist(lambda: self._starts.set_doubt(shard_id, doubt))
