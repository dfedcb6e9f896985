"""What one shard's run counts beside its ledger, and all of that together as figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from streamheal.core.healer import Healer
from streamheal.records import Shard
from streamheal.runtime.figures import ShardFigures
from streamheal.runtime.lag import Lag
from streamheal.workers.port import Seat


class Moment(Protocol):
    """The time, by the run's own clock and in Unix time; and how long the stream keeps a record."""

    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    retention_s: float | None


class Tally:
    """Attributes:
    lag: How far the shard is behind, as its engine measures it.
    quarantined, attempts: By reason; by outcome.
    """

    def __init__(self, shard: Shard, healer: Healer, seat: Seat) -> None:
        self.lag = Lag()
        self.quarantined: Counter[str] = Counter()
        self.attempts: Counter[str] = Counter()
        self.checkpoints = 0
        self._shard, self._healer, self._seat = shard, healer, seat
        self._arrived: dict[int, float] = {}  # by span
        self._done_shown = 0

    def arrived(self, span: int, now: float) -> None:
        self._arrived[span] = now

    def figures(self, host: Moment, waits_for: str | None) -> ShardFigures:
        now, wall_now, retention_s = host.clock(), host.wall_clock(), host.retention_s
        ledger = self._healer.ledger
        first = ledger.first_open()
        for span in [span for span in self._arrived if first is None or span < first]:
            del self._arrived[span]
        arrival = self._seat.arrival()
        oldest_age_s = None if arrival is None else wall_now - arrival
        age_s = self.lag.age_s(now, oldest_age_s)
        done = self.done_so_far()
        return ShardFigures(
            stream=self._shard.stream,
            shard_id=self._shard.shard_id,
            read=ledger.read,
            done=done,
            quarantined=ledger.quarantined,
            quarantined_by_reason=dict(self.quarantined),
            filtered=ledger.filtered,
            in_flight=ledger.in_flight - (done - ledger.done),
            lag_s=self.lag.lag_s(now, oldest_age_s),
            retention_left_s=None if retention_s is None or age_s is None else retention_s - age_s,
            oldest_open_s=now - self._arrived[first] if first in self._arrived else None,
            paused=self._healer.paused,
            waits_for=waits_for,
            attempts_by_outcome=dict(self.attempts),
            checkpoints=self.checkpoints,
        )

    def done_so_far(self) -> int:
        """What the ledger knows, and what is marked in spans that are not reported yet.

        Marks outlive their worker, but are not to be had between its death and the taking over:
        what was once counted stays so, because a counter that falls looks like a restart.
        """
        ledger = self._healer.ledger
        done = max(self._done_shown, ledger.done + self._seat.marked_done())
        self._done_shown = min(done, ledger.done + ledger.in_flight)
        return self._done_shown
