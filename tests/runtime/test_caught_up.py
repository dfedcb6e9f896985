"""`--until-caught-up`: when there is nothing left to do."""

from __future__ import annotations

import asyncio

from streamheal.records import Position, Shard
from tests.runtime.test_leases import Stand, until
from tests.runtime.test_runtime import QUICK


def test_a_shard_that_was_split_is_not_caught_up_before_its_children_are() -> None:
    """All of it is settled, and the engine takes a while to begin its child, while another shard is at its tip."""

    async def play() -> Stand:
        stand, may_begin = Stand(QUICK, until_caught_up=True), asyncio.Event()
        runtime, complete = stand.runtime, stand.engine.shard_complete

        async def shard_complete(shard_id: str) -> None:
            await may_begin.wait()
            await complete(shard_id)
            runtime.shard_started(Shard("shard-2", "orders"), None)

        stand.engine.shard_complete = shard_complete  # type: ignore[method-assign]
        running = asyncio.ensure_future(runtime.run())
        await stand.started()
        await stand.started(Shard("shard-1", "orders"))
        stand.bring(1, 2)
        runtime.lag_measured("shard-0", 0.0, at_tip=True)
        runtime.shard_ended("shard-0")
        await until(lambda: Position(2) in stand.engine.checkpoints)
        runtime.lag_measured("shard-1", 0.0, at_tip=True)
        may_begin.set()
        await until(lambda: "shard-2" in stand.pool.seats)
        stand.bring(3, shard_id="shard-2")
        runtime.lag_measured("shard-2", 0.0, at_tip=True)
        await running
        await runtime.keeper.close()
        return stand

    stand = asyncio.run(asyncio.wait_for(play(), 10))
    assert stand.engine.checkpoints == [Position(2), Position(3)]
