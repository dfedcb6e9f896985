"""Books that do not add up, and rules of our own that are broken: one shard stops, and the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from streamheal.core.messages import At, Done, Event, SpanCounted, SpanDone, WorkerDied
from streamheal.engines.base import Batch, Sink
from streamheal.records import Dialect, Position, Shard
from streamheal.runtime.chronicle import Chronicle
from streamheal.runtime.keeper import Keeper
from streamheal.runtime.runtime import Runtime
from streamheal.workers.port import Listener
from tests.runtime.fakes import FakeEngine, FakePool, FakeSeat, FakeShelf, FakeStarts, no_marks
from tests.runtime.test_leases import Stand, told, until
from tests.runtime.test_runtime import QUICK, _seal, fine

SICK, WELL = "shard-0", "shard-1"
Lie = Callable[[Event], Event]


class TwoShards(FakeEngine):
    """Both are brought batches until the one that is well has had all of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = {SICK: asyncio.Event(), WELL: asyncio.Event()}
        self.kept: list[tuple[str, Position]] = []

    async def run(self, sink: Sink) -> None:
        for shard_id in self.asked:
            sink.shard_started(Shard(shard_id, "orders"), None)
        sick = asyncio.create_task(self._bring(sink, SICK))
        await self._bring(sink, WELL)
        sick.cancel()
        sink.shard_ended(WELL)

    async def _bring(self, sink: Sink, shard_id: str) -> None:
        for number in range(1, 40):
            await self.asked[shard_id].wait()
            self.asked[shard_id].clear()
            await asyncio.sleep(0.005)
            slot = sink.take_slot()
            assert slot is not None
            slot.view[:1] = bytes([number])
            sink.batch_arrived(shard_id, Batch(slot, 1, Dialect.DAEMON))

    def answer(self, shard_id: str) -> None:
        self.asked[shard_id].set()

    async def checkpoint(self, shard_id: str, position: Position) -> None:
        self.kept.append((shard_id, position))


class Lying:
    """Stands before a shard's ear, and changes what its worker says."""

    def __init__(self, listener: Listener, lie: Lie) -> None:
        self._listener, self._lie = listener, lie

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)

    def happened(self, event: Event, *rest: Any) -> None:
        self._listener.happened(self._lie(event), *rest)


class Pool(FakePool):
    def __init__(self, lie: Lie) -> None:
        super().__init__(fine)
        self._lie = lie

    def seat(self, shard: Shard, listener: Listener) -> FakeSeat:
        heard: Any = Lying(listener, self._lie) if shard.shard_id == SICK else listener
        return super().seat(shard, heard)


class Told:
    def __init__(self, lie: Lie) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._lie = lie
        asyncio.run(asyncio.wait_for(self._run(), 20))

    async def _run(self) -> None:
        chronicle = Chronicle(structlog.get_logger())
        chronicle.listen(lambda event, fields: self.events.append((event, fields)))
        self.engine, self.pool = TwoShards(), Pool(self._lie)
        self.runtime = Runtime(
            engine=self.engine, pool=self.pool, policy=QUICK, keeper=Keeper(FakeShelf(), chronicle), seal=_seal,
            starts=FakeStarts(), marks=no_marks(), chronicle=chronicle,
        )  # fmt: skip
        await self.runtime.run()
        await self.runtime.keeper.close()

    def of(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.events if name == event]


def fifth(event: Event, change: Callable[[SpanDone], Event]) -> Event:
    return change(event) if isinstance(event, SpanDone) and event.span == 5 else event


def unmarked(event: Event) -> Event:
    """The fifth span is said to be over, and its one record is not marked as done."""
    return fifth(event, lambda done: done._replace(unmarked=1))


def uncounted(event: Event) -> Event:
    """The fifth span holds two records now, and held one before: an assertion of the ledger's."""
    return fifth(event, lambda done: done._replace(records=2))


def nonsense(event: Event) -> Event:
    """The fifth span's end is no position: nobody foresaw that at all."""
    return fifth(event, lambda done: done._replace(held=(At(5, 0),)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lie", "event"), [(unmarked, "ledger_broken"), (uncounted, "rule_broken"), (nonsense, "rule_broken")]
)
def test_the_shard_stops_before_the_hole_and_the_other_is_read_to_its_end(lie: Lie, event: str) -> None:
    told = Told(lie)
    (broken,) = told.of(event)
    assert broken["shard_id"] == SICK
    assert [fields["shard_id"] for fields in told.of("human_called")] == [SICK]
    assert [fields["shard_id"] for fields in told.of("shard_stopped")] == [SICK]
    assert told.runtime.needs_human
    assert told.engine.completed == [WELL]
    assert (WELL, Position(39)) in told.engine.kept
    assert max((position for shard_id, position in told.engine.kept if shard_id == SICK), default=None) in {
        None,
        *(Position(number) for number in range(1, 5)),
    }
    assert "abandon" in told.pool.seats[SICK].log
    assert "abandon" not in told.pool.seats[WELL].log


def test_the_numbers_are_told() -> None:
    """A checkpoint may be due just when the next record has begun."""
    (broken,) = Told(unmarked).of("ledger_broken")
    assert broken["why"] == "1 records were reported as settled that are not marked so"
    assert broken["read"] == broken["done"] + broken["in_flight"]
    assert broken["done"] == int(broken["checkpoint"])
    assert broken["in_flight"] == broken["open_counted"]


def test_a_broken_rule_is_told_with_its_traceback() -> None:
    (broken,) = Told(uncounted).of("rule_broken")
    assert broken["error"] == "AssertionError: span 5 held 1 records, now 2"
    assert "in count" in broken["traceback"]


def test_a_shard_that_stops_at_what_clears_a_suspect_stops_for_that_alone() -> None:
    """The sixth death has no culprit either: its last suspect is done, alone, and the shard given up at that word."""

    async def play(stand: Stand) -> None:
        stand.pool.stays = True
        await stand.started()
        seat = stand.pool.seats["shard-0"]
        stand.bring(1, 2, 3, 4, 5, 6)
        seat.listener.happened(SpanCounted(1, 6))
        for number in range(1, 7):
            at = At(1, number - 1)
            seat.listener.happened(WorkerDied(number, (seat._named(at),), running_total=1))
            await until(lambda at=at: at in seat.alone)
            seat.listener.happened(Done(at, alone=True))
        await until(lambda: "shard_stopped" in stand.events)

    stand = told(play)
    assert "rule_broken" not in stand.events
    assert stand.events.count("human_called") == 1
