"""Says which record holds a shard up, and what it waits for, before anybody has to look.

A shard moves on while its oldest open record changes, however many are open behind it. One that
stays the oldest for `blocked_s` is told of, once, with all that is known of it; and once more when
the shard has moved on. That is a warning and no verdict: a try may take long, and a pause or a
store that does not answer hold up everything as they should.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from streamheal.core.healer import Healer
from streamheal.core.messages import At
from streamheal.core.outage import WHY_PAUSED
from streamheal.core.waiting import Wait, Waits
from streamheal.quarantine.prose import title
from streamheal.records import Position, Record
from streamheal.runtime.casebook import Casebook
from streamheal.runtime.chronicle import Chronicle
from streamheal.runtime.faults import told
from streamheal.runtime.telling import Names
from streamheal.workers.port import Seat

_LOOK_S = 1.0

_WORDS = {
    Waits.WORKER: "its worker: it runs, or has its turn to come",
    Waits.NEXT_TRY: "its next try",
    Waits.PROBE: f"{WHY_PAUSED}: paused until one does; the next try is",
    Waits.CELL: "a process of its own to run alone in",
    Waits.ALONE: "its try alone, which is under way",
    Waits.WITNESS: "another record to succeed, before it is judged",
    Waits.HUMAN: "a human: nobody is left to judge it by",
    Waits.STORE: "the quarantine to acknowledge it",
    Waits.STORE_AGAIN: "the quarantine, which did not take it: tried again",
    Waits.ENGINE: "the engine to acknowledge a checkpoint; every record is settled",
}
_NO_WORKER = "a worker: the processor is not initialized"


class _Episode(NamedTuple):
    """What has held the shard up, since when: a record, or a checkpoint that is not acknowledged."""

    at: At | None
    checkpoint: Position | None
    since: float


class Blocked:
    """Watches one shard."""

    def __init__(
        self, healer: Healer, seat: Seat, casebook: Casebook, log: Chronicle, id_of: Callable[[Record], str]
    ) -> None:
        self._healer, self._seat, self._casebook = healer, seat, casebook
        self._log, self._id_of = log, id_of
        self._told: tuple[Wait, float, bool] | None = None  # see `worded`; None: the shard moves on
        self._episode: _Episode | None = None
        self._named: Names = {}
        self._look_at = float("-inf")

    def look(self, now: float, blocked_s: float, names: Names, *, seated: bool) -> None:
        """Once a second, however often it is called. `seated`: a worker has the shard."""
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_S
        if self._healer.over:
            self._told, self._look_at = None, float("inf")  # what it ended for has been told
            return
        try:
            self._look(now, blocked_s, names, seated)
        except Exception as error:  # who only watches stops nobody
            self._look_at = float("inf")
            self._log.error("rule_broken", **names, **told(error))

    def _look(self, now: float, blocked_s: float, names: Names, seated: bool) -> None:
        at = self._oldest()
        checkpoint = self._healer.unacknowledged if at is None else None
        episode = self._episode
        if episode is None or at != episode.at or checkpoint != episode.checkpoint:
            self._moved_on(now)
            moves = at is None and checkpoint is None
            self._episode = episode = None if moves else _Episode(at, checkpoint, now)
        if episode is None or now - episode.since < blocked_s:
            return
        wait = self._healer.waits(at)
        assert wait is not None, f"{episode} holds the shard up, and waits for nothing"
        known, self._told = self._told is not None, (wait, now, seated)
        if not known:
            self._named = names | self._names_of(at)
            self._tell(at, wait, now - episode.since)

    @property
    def waits_for(self) -> str | None:
        """In few words, and before it has lasted long: for whoever watches."""
        if self._told is not None:
            return worded(*self._told)
        if self._healer.paused:
            return f"paused: {WHY_PAUSED}"
        undecided = len(self._healer.undecided)
        return f"{undecided} suspect{'s' if undecided > 1 else ''} to be judged" if undecided else None

    def _oldest(self) -> At | None:
        ledger = self._healer.ledger
        known, span = ledger.first_open_known(), ledger.first_open()
        if known is not None or span is None:
            return known
        return At(span, self._seat.first_open(span) or 0)

    def _tell(self, at: At | None, wait: Wait, for_s: float) -> None:
        tries = [] if at is None else self._casebook.attempts(at)
        self._log.warning(
            "shard_blocked",
            **self._named,
            for_s=round(for_s, 1),
            waits_for=self.waits_for,
            attempts=wait.attempts,
            last_failure=title(tries[-1]) if tries else None,
        )

    def _names_of(self, at: At | None) -> dict[str, str]:
        if at is None:
            position = self._healer.unacknowledged
            return {} if position is None else {"sequence_number": str(position.sequence)}
        record = self._seat.peek(at)
        if record is None:
            return {}
        return {"sequence_number": record.sequence_number, "id": self._id_of(record)}

    def _moved_on(self, now: float) -> None:
        if self._told is not None and self._episode is not None:
            self._log.info("shard_unblocked", **self._named, after_s=round(now - self._episode.since, 1))
        self._told = None


def worded(wait: Wait, now: float, seated: bool = True) -> str:
    if wait.what is Waits.WORKER and not seated:
        return _NO_WORKER
    words = _WORDS[wait.what]
    return words if wait.until is None else f"{words} in {max(0.0, wait.until - now):.0f} s"
