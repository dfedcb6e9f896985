"""One shard's records on their way into quarantine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from streamheal.core.healer import Healer
from streamheal.core.messages import Event, Quarantine, Stored, StoreFailed
from streamheal.records import Position, Record, Shard
from streamheal.runtime import telling
from streamheal.runtime.casebook import Casebook
from streamheal.runtime.surroundings import Surroundings
from streamheal.runtime.tally import Tally


class Aside:
    """Seals and keeps what the core sets aside, and has the state know who was convicted with nobody to ask.

    The next life must know that before the record is in quarantine, or it might convict another
    in the same outage (docs/judging.md).

    Args:
        doubt: What the state knows of that now.
        tell: Hears what became of each.
    """

    def __init__(
        self,
        runtime: Surroundings,
        shard: Shard,
        healer: Healer,
        *,
        casebook: Casebook,
        tally: Tally,
        doubt: Position | None,
        tell: Callable[[Event], None],
    ) -> None:
        self._runtime, self._shard, self._healer = runtime, shard, healer
        self._names = telling.names_of(shard)
        self._casebook, self._tally, self._tell = casebook, tally, tell
        self._doubt = doubt
        self._doubting = asyncio.Lock()

    def put(self, record: Record, decision: Quarantine) -> None:
        at, verdict = decision.at, decision.verdict
        attempts = self._casebook.attempts(at)
        envelope = self._runtime.seal(record, self._shard, decision, attempts, self._casebook.masked(at))

        def answer(error: Exception | None) -> None:
            if error is not None:
                self._tell(StoreFailed(at))
                return
            if not self._healer.over:  # else it is still open here, and is read again
                self._tally.quarantined[envelope.reason] += 1
            telling.set_aside(self._runtime.chronicle, self._names, envelope, verdict)
            self._tell(Stored(at))

        if self._healer.doubt in (None, self._doubt):
            self._runtime.keeper.keep(envelope, answer)
        else:
            self._doubt = self._healer.doubt
            self._runtime.spawn(self._remember_doubt(lambda: self._runtime.keeper.keep(envelope, answer)))

    def look(self) -> None:
        """Where the core has no such doubt any more, the state need not know of one."""
        if self._doubt is not None and self._healer.doubt is None:
            self._doubt = None
            self._runtime.spawn(self._remember_doubt())

    async def _remember_doubt(self, then: Callable[[], None] = lambda: None) -> None:
        """As it stands. One write at a time: the last word must stay the last."""
        async with self._doubting:
            await self._runtime.lives.remember_doubt(self._shard.shard_id, self._healer.doubt)
        then()
