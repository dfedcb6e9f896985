"""Any order of asking, ending, dying and writing: nothing runs unmarked, and whoever is marked alone is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import structlog

from streamheal.core.host import Host
from streamheal.core.messages import At, Done, Named, WorkerDied
from streamheal.records import Position, Shard
from streamheal.runtime.caution import HostCaution, ShardCaution
from streamheal.runtime.chronicle import Chronicle
from streamheal.state.marks import Marks, Suspect
from tests.runtime.fakes import MemoryState

SHARDS = ("a", "b", "c")


class _Healer:
    cautious, over, spent = True, False, ()


class _Run:
    """A shard's run and its seat in one: what it permits runs."""

    def __init__(self, play: Play, shard_id: str) -> None:
        self.shard, self.healer, self.over, self.seat = Shard(shard_id, "orders"), _Healer(), False, self
        self.play = play
        self.lanes: set[int] = set()
        self.cells: set[int] = set()
        self.asked: set[int] = set()
        self.asked_alone: set[int] = set()

    def cautious(self, wanted: bool) -> None:
        if wanted:
            self.caution.heeds((), ())

    def permit(self, at: At) -> None:
        number = at.nth
        assert number in self.play.durable(self.shard.shard_id), "it runs, and is not written down"
        (self.cells if number in self.asked_alone else self.lanes).add(number)
        self.asked.discard(number)
        self.asked_alone.discard(number)
        self.play.check()


class Play:
    """A runtime, as far as caution knows of it, and dice."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.core_host, self.chronicle = Host(), Chronicle(structlog.get_logger())
        self.state = MemoryState()
        self.chores: set[asyncio.Task[None]] = set()
        self.caution = HostCaution(self, Marks(self.state, "shop", "orders"), "life")  # type: ignore[arg-type]
        self.runs = [_Run(self, shard_id) for shard_id in SHARDS]
        self.next = 0
        self.ran = 0

    def wall_clock(self) -> float:
        return 1.0

    def spawn(self, chore: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(chore)
        self.chores.add(task)
        task.add_done_callback(self._over)

    def _over(self, chore: asyncio.Task[None]) -> None:
        self.chores.discard(chore)
        if not chore.cancelled():
            chore.result()

    async def insist(self, call: Callable[[], Any]) -> Any:
        for _ in range(self.dice.randrange(4)):
            await asyncio.sleep(0)
        found = call()
        for _ in range(self.dice.randrange(4)):
            await asyncio.sleep(0)
        return found

    def durable(self, shard_id: str) -> dict[int, bool]:
        row = self.state.rows.get(("shop#running", f"orders/{shard_id}"))
        return {} if row is None else {int(one[0].split("/")[0]): one[2] for one in row.value["running"]}

    def check(self) -> None:
        """If the host died now, whoever is marked alone would be the only one that ran."""
        marked = [(run, n) for run in self.runs for n, alone in self.durable(run.shard.shard_id).items() if alone]
        running = [(run, n) for run in self.runs for n in run.lanes | run.cells]
        assert len(marked) < 2
        if marked and running:
            assert running == marked, f"{marked} is marked alone, and {running} run"

    def step(self) -> None:
        run, roll = self.dice.choice(self.runs), self.dice.random()
        caution, seat = run.caution, run
        if roll < 0.5 and len(seat.asked) + len(seat.lanes) < 4:
            number, self.next = self.next, self.next + 1
            seat.asked.add(number)
            in_cell = self.dice.random() < 0.3
            if in_cell:
                seat.asked_alone.add(number)
                caution.runs_alone(At(1, number), solitary=self.dice.random() < 0.7)
            caution.intends((Named(At(1, number), Position(number), None),), in_cell)
        elif roll < 0.75 and seat.lanes:
            number = seat.lanes.pop()
            caution.through((At(1, number),))
            self.ran += 1
        elif roll < 0.95 and seat.cells:
            number = seat.cells.pop()
            caution.hears(Done(At(1, number), alone=True))
            self.ran += 1
        elif roll > 0.98:
            seat.lanes.clear()
            seat.asked &= seat.asked_alone
            caution.hears(WorkerDied(1, ()))
        self.check()

    async def play(self, steps: int) -> None:
        for run in self.runs:
            run.caution = ShardCaution(self.caution, run, [Suspect(Position(10**9), ())])  # type: ignore[arg-type]
            self.caution.joins(run.caution)
        for _ in range(steps):
            self.step()
            for _ in range(self.dice.randrange(4)):
                await asyncio.sleep(0)
                self.check()
        await self.finish()

    async def finish(self) -> None:
        """Nobody waits for ever."""
        for _ in range(5_000):
            for run in self.runs:
                while run.lanes:
                    run.caution.through((At(1, run.lanes.pop()),))
                while run.cells:
                    run.caution.hears(Done(At(1, run.cells.pop()), alone=True))
            if not any(run.asked for run in self.runs) and not self.chores:
                break
            await asyncio.sleep(0)
        assert not [run.asked for run in self.runs if run.asked]
        for run in self.runs:
            run.healer.cautious = False
            run.caution.look()
        assert not self.caution.on
        await asyncio.gather(*self.chores)
        assert not any(self.durable(shard_id) for shard_id in SHARDS)


@pytest.mark.parametrize("seed", range(60))
def test_nothing_runs_unmarked_and_nobody_beside_one_that_is_marked_alone(seed: int) -> None:
    play = Play(seed)
    asyncio.run(play.play(300))
    assert play.ran > 20
