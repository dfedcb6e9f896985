"""Shards that are taken away: by another host, or because ours is asked to leave them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from streamheal.core.messages import At, Halted, Named
from streamheal.core.policy import Policy
from streamheal.engines.base import Batch
from streamheal.records import Dialect, Position, Shard
from streamheal.runtime.chronicle import Chronicle
from streamheal.runtime.keeper import Keeper
from streamheal.runtime.runtime import Runtime
from streamheal.state.marks import Marks
from tests.runtime.fakes import FakeEngine, FakePool, FakeShelf, FakeStarts, MemoryState
from tests.runtime.test_runtime import QUICK, _seal, fine

ORDERS = Shard("shard-0", "orders")


class LeasingEngine(FakeEngine):
    """Does nothing by itself: a test brings shards and takes them away."""

    async def run(self, sink: object) -> None:
        await asyncio.Event().wait()


class Stand:
    """A running runtime over fakes."""

    def __init__(self, policy: Policy, state: MemoryState | None = None, *, until_caught_up: bool = False) -> None:
        self.engine, self.pool, self.starts = LeasingEngine(), FakePool(fine), FakeStarts()
        self.state = state or MemoryState()
        self.shelf = FakeShelf()
        self.events: list[str] = []
        chronicle = Chronicle(structlog.get_logger())
        chronicle.listen(lambda event, fields: self.events.append(event))
        self.runtime = Runtime(
            engine=self.engine, pool=self.pool, policy=policy, keeper=Keeper(self.shelf, chronicle), seal=_seal,
            starts=self.starts, marks=Marks(self.state, "shop", "orders"), chronicle=chronicle,
            until_caught_up=until_caught_up,
        )  # fmt: skip

    async def started(self, shard: Shard = ORDERS) -> None:
        self.engine.answered.clear()
        self.runtime.shard_started(shard, None)
        await self.engine.answered.wait()

    def bring(self, *numbers: int, shard_id: str = "shard-0") -> None:
        slot = self.runtime.take_slot()
        assert slot is not None
        slot.view[: len(numbers)] = bytes(numbers)
        self.runtime.batch_arrived(shard_id, Batch(slot, len(numbers), Dialect.DAEMON))

    @property
    def seat_log(self) -> list[str]:
        return self.pool.seats["shard-0"].log


def told(story: Callable[[Stand], Awaitable[None]], policy: Policy = QUICK, state: MemoryState | None = None) -> Stand:
    async def play() -> Stand:
        stand = Stand(policy, state)
        running = asyncio.ensure_future(stand.runtime.run())
        await asyncio.wait_for(story(stand), 10)
        stand.runtime.stop()
        await asyncio.wait_for(running, 10)
        await stand.runtime.keeper.close()
        return stand

    return asyncio.run(play())


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for is the fakes' own state
        await asyncio.sleep(0.001)


def test_a_shard_asked_for_is_finished_checkpointed_and_left() -> None:
    async def story(stand: Stand) -> None:
        await stand.started()
        stand.bring(1, 2, 3)
        stand.runtime.shutdown_requested("shard-0")
        await until(lambda: stand.engine.left)

    stand = told(story)
    assert stand.engine.checkpoints[-1] == Position(3)
    assert stand.engine.left == ["shard-0"]
    assert "shutdown_requested" in stand.seat_log


def test_a_shard_that_outlasts_its_time_is_left_at_the_first_open_record() -> None:
    """3 never returns: the shard is halted, and what is done before it is checkpointed before it is left."""

    async def story(stand: Stand) -> None:
        stand.pool.stays = True
        stand.pool.left = Halted((), Named(At(1, 2), Position(3), Position(2)))
        await stand.started()
        stand.bring(1, 2, 3, 4)
        stand.runtime.shutdown_requested("shard-0")
        await until(lambda: stand.engine.left)
        assert stand.engine.checkpoints == [Position(2)]

    stand = told(story, replace(QUICK, shutdown_s=0.05))
    assert stand.seat_log == ["start", "limit None", "halt", "abandon", "abandon"]
    assert stand.starts.taken_back == []


def test_a_shard_halted_while_its_processor_cannot_be_initialized_does_not_begin_again() -> None:
    async def story(stand: Stand) -> None:
        stand.pool.initialize_failures = 99
        stand.runtime.shard_started(ORDERS, None)
        await until(lambda: stand.pool.seats)
        stand.bring(1)
        stand.runtime.shutdown_requested("shard-0")
        await until(lambda: stand.engine.left)

    stand = told(story, replace(QUICK, shutdown_s=0.0))
    assert stand.seat_log.count("start") == 1
    assert stand.engine.checkpoints == []


def test_an_idle_shard_that_is_lost_gives_its_seat_up_and_its_processor_is_told() -> None:
    async def story(stand: Stand) -> None:
        await stand.started()
        stand.runtime.lease_lost("shard-0")

    stand = told(story)
    assert stand.seat_log[-1] == "lease_lost"
    assert stand.engine.checkpoints == []


def test_open_records_of_a_lost_shard_are_abandoned_and_nothing_is_checkpointed() -> None:
    async def story(stand: Stand) -> None:
        await stand.started()
        stand.bring(1, 2, 3)
        stand.runtime.lease_lost("shard-0")

    stand = told(story)
    assert "abandon" in stand.seat_log
    assert stand.engine.checkpoints == []


def test_a_shard_lost_while_its_start_is_counted_is_never_begun() -> None:
    async def story(stand: Stand) -> None:
        stand.runtime.shard_started(ORDERS, None)
        stand.runtime.lease_lost("shard-0")
        await until(lambda: not stand.runtime._chores)

    assert told(story).pool.seats == {}


def test_a_shard_that_comes_again_is_begun_anew() -> None:
    """Lost with the daemon and given back by the next one: the first life's end changes nothing in the second."""

    async def story(stand: Stand) -> None:
        await stand.started()
        stand.bring(1, 2)
        stand.runtime.lease_lost("shard-0")
        await stand.started()
        stand.bring(1, 2, 3)
        stand.runtime.shutdown_requested("shard-0")
        await until(lambda: stand.engine.checkpoints)

    assert told(story).engine.checkpoints[-1] == Position(3)


def test_a_shard_asked_for_before_it_is_begun_is_left_at_once() -> None:
    async def story(stand: Stand) -> None:
        stand.runtime.shard_started(ORDERS, None)
        stand.runtime.shutdown_requested("shard-0")

    stand = told(story)
    assert stand.engine.left == ["shard-0"]
    assert stand.pool.seats == {}


def test_a_batch_for_a_shard_that_is_not_ours_gives_its_memory_back() -> None:
    given_back: list[object] = []

    async def story(stand: Stand) -> None:
        stand.pool.give_back = given_back.append  # type: ignore[method-assign]  # the test's own ear
        stand.bring(1)

    told(story)
    assert len(given_back) == 1


def test_a_shard_that_comes_to_the_same_host_again_has_seen_no_host_die() -> None:
    """Its daemon died, say: the start is counted once, or cautious mode would come of it."""

    async def story(stand: Stand) -> None:
        await stand.started()
        stand.runtime.lease_lost("shard-0")
        await stand.started()

    assert told(story).starts.counted == [("shard-0", None)]


def test_a_start_is_taken_back_once_the_shard_is_left_in_order() -> None:
    async def story(stand: Stand) -> None:
        await stand.started()

    assert told(story).starts.taken_back == ["shard-0"]


def test_a_start_is_counted_once_the_one_before_has_been_taken_back() -> None:
    """A shard comes to us again at once. Were its second start taken back, a host that dies of it would not count."""
    log: list[str] = []

    async def story(stand: Stand) -> None:
        gate, count, take_back = threading.Event(), stand.starts.count, stand.starts.take_back

        def counts(shard_id: str, position: Position | None) -> int:
            log.append(f"{shard_id} counted")
            return count(shard_id, position)

        def takes_back(shard_id: str, position: Position | None, number: int) -> None:
            assert gate.wait(10)
            take_back(shard_id, position, number)
            log.append(f"{shard_id} taken back")

        stand.starts.count, stand.starts.take_back = counts, takes_back  # type: ignore[method-assign]
        await stand.started()
        stand.runtime.shutdown_requested("shard-0")
        await until(lambda: stand.engine.left)
        stand.runtime.shard_started(ORDERS, None)
        await stand.started(Shard("shard-1", "orders"))
        gate.set()
        await until(lambda: "shard-0" in stand.runtime._shards)

    told(story)
    assert log[:4] == ["shard-0 counted", "shard-1 counted", "shard-0 taken back", "shard-0 counted"]


def test_a_start_is_taken_back_where_the_shard_is_asked_for_before_it_is_begun() -> None:
    """Nothing has run: the next host has no reason to be cautious."""

    async def story(stand: Stand) -> None:
        stand.runtime.shard_started(ORDERS, None)
        stand.runtime.shutdown_requested("shard-0")

    assert told(story).starts.taken_back == ["shard-0"]


def test_a_start_is_taken_back_where_the_host_is_stopped_before_it_is_begun() -> None:
    """The state answers only once the host has been told to stop."""

    async def story(stand: Stand) -> None:
        gate, doubt = threading.Event(), stand.starts.doubt
        stand.starts.doubt = lambda shard_id: doubt(shard_id) if gate.wait(10) else None  # type: ignore[method-assign]  # it answers late
        stand.runtime.shard_started(ORDERS, None)
        stand.runtime.stop()
        await until(lambda: stand.runtime._stopping)
        gate.set()

    stand = told(story)
    assert stand.pool.seats == {}
    assert stand.starts.taken_back == ["shard-0"]


def test_a_start_is_not_taken_back_where_the_shard_was_lost() -> None:
    async def story(stand: Stand) -> None:
        await stand.started()
        stand.bring(1)
        stand.runtime.lease_lost("shard-0")

    assert told(story).starts.taken_back == []


def test_a_shard_that_ends_before_it_is_begun_is_complete() -> None:
    """Nothing was left in it, and the state answers late: the engine says only once that it has ended."""

    async def story(stand: Stand) -> None:
        stand.runtime.shard_started(ORDERS, None)
        stand.runtime.shard_ended("shard-0")
        await until(lambda: stand.engine.completed)

    assert told(story).engine.completed == ["shard-0"]
