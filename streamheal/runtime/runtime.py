"""Holds everything of one host together: the engine brings, shards decide, workers run.

All of it happens in one event loop's thread. What blocks (state, stores) is done in threads
and comes back as an event.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from streamheal.core.host import Host
from streamheal.core.messages import Signal
from streamheal.core.policy import Policy
from streamheal.engines.base import Batch, Engine, Slot
from streamheal.errors import Unavailable
from streamheal.records import Position, Shard
from streamheal.runtime.caution import HostCaution, Marks
from streamheal.runtime.chronicle import Chronicle
from streamheal.runtime.figures import ShardFigures
from streamheal.runtime.keeper import Keeper
from streamheal.runtime.lives import Lives, Starts
from streamheal.runtime.shard import ShardRun
from streamheal.runtime.surroundings import Seal
from streamheal.runtime.telling import names_of
from streamheal.runtime.times import Times
from streamheal.workers.port import Pool

_STATE_RETRY_S = 2.0
_LATE_S = 5.0  # beyond `shutdown_s`, for the last checkpoint and the processors' hooks


class _Beginning:
    """A shard that has come to us, while its start is counted. `ended`: nothing is in it that was not read before."""

    ended = False


class Runtime:
    """Runs shards until told to stop, or until there is nothing left to do.

    Implements `engines.base.Sink`. After `run`, `needs_human` says whether something was left.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        pool: Pool,
        policy: Policy,
        keeper: Keeper,
        seal: Seal,
        starts: Starts,
        marks: Marks,
        chronicle: Chronicle,
        until_caught_up: bool = False,
        retention_s: float | None = None,
        blocked_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        dice: Callable[[], float] = random.random,
        look_s: float = 0.1,
    ) -> None:
        """`look_s`: how often to look whether there is nothing left to do."""
        self.engine, self.pool, self.policy, self.keeper, self.seal = engine, pool, policy, keeper, seal
        self.chronicle = chronicle
        self.core_host = Host(policy)
        self.retention_s, self.blocked_s = retention_s, blocked_s or float("inf")
        self.clock, self.wall_clock, self.dice = clock, wall_clock, dice
        self.deaths: Counter[str] = Counter()
        self.times = Times()
        self.needs_human = False
        self.caution = HostCaution(self, marks, f"{int(dice() * 2**48):012x}")
        self.lives = Lives(self, starts)
        self._until_caught_up = until_caught_up
        self._look_s = look_s
        self._shards: dict[str, ShardRun] = {}
        self._left: dict[str, ShardFigures] = {}  # of shards that were ours, and might be again
        self._lost: dict[str, ShardFigures] = {}  # of times that ended with records open
        self._beginning: dict[str, _Beginning] = {}  # shards that are still wanted once their start is counted
        self._chores: set[asyncio.Task[Any]] = set()
        self._failure: asyncio.Future[None] | None = None
        self._done = asyncio.Event()
        self._change: asyncio.Event | None = None  # while the end is waited for
        self._stopping = False
        self._engine_ended = False
        self._wake: asyncio.TimerHandle | None = None
        self._wake_due = float("inf")

    # -- engines.base.Sink ---------------------------------------------------------------

    def shard_started(self, shard: Shard, after: Position | None) -> None:
        wanted = self._beginning[shard.shard_id] = _Beginning()
        self.spawn(self._begin(shard, after, wanted))

    async def _begin(self, shard: Shard, after: Position | None, wanted: _Beginning) -> None:
        past = await self.lives.inherited(shard, after)
        if self._beginning.get(shard.shard_id) is not wanted:  # it was taken away meanwhile
            if shard.shard_id not in self._beginning and shard.shard_id not in self._shards:
                self.lives.take_back(shard.shard_id)
            return
        del self._beginning[shard.shard_id]
        if self._stopping:
            self.lives.take_back(shard.shard_id)
            self.engine.shard_left(shard.shard_id)
            return
        run = self._shards[shard.shard_id] = ShardRun(self, shard, past, after)
        run.begin()
        if wanted.ended:
            self.shard_ended(shard.shard_id)

    def take_slot(self) -> Slot | None:
        slot: Slot | None = self.pool.take_slot()  # type: ignore[assignment]  # the pool's slots have a view
        return slot

    def give_back(self, slot: Slot) -> None:
        self.pool.give_back(slot)

    def batch_arrived(self, shard_id: str, batch: Batch) -> None:
        run = self._shards.get(shard_id)
        if run is None or run.healer.over or self._stopping:
            self.give_back(batch.slot)
            return
        run.at_tip = False
        run.batch_arrived(batch)

    def lag_measured(self, shard_id: str, lag_s: float, at_tip: bool) -> None:
        if run := self._shards.get(shard_id):
            run.tally.lag.measured(lag_s, self.clock())
            run.at_tip = at_tip
            self._look_whether_done()

    def shard_ended(self, shard_id: str) -> None:
        if run := self._shards.get(shard_id):
            self.chronicle.info("shard_ended", **names_of(run.shard))
            run.at_tip = False  # what follows it is read, too, before anybody is through
            run.tell(Signal.SHARD_ENDED)
        elif beginning := self._beginning.get(shard_id):
            beginning.ended = True  # an engine says so once

    def lease_lost(self, shard_id: str) -> None:
        self._beginning.pop(shard_id, None)
        if run := self._shards.get(shard_id):
            run.lose()
            self.shard_over(run)
            self._forget_stopped(shard_id)

    def shutdown_requested(self, shard_id: str) -> None:
        self._beginning.pop(shard_id, None)
        run = self._shards.get(shard_id)
        if run is None or run.over:
            # Not begun, or stopped for a human: there is nothing to finish.
            self._forget_stopped(shard_id)
            self.engine.shard_left(shard_id)
        else:
            run.tell(Signal.SHUTDOWN_REQUESTED)

    # -- the run ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Until `stop`, the end of all there is, or (`until_caught_up`) the tip of every shard."""
        loop = asyncio.get_running_loop()
        self._failure = loop.create_future()
        # What is no shard's own (see `faults`) must end the run, not be a line in the log of one that stands still.
        loop.set_exception_handler(
            lambda loop, context: self._fail(context.get("exception") or RuntimeError(str(context)))
        )
        bringing = asyncio.create_task(self.engine.run(self), name="engine")
        bringing.add_done_callback(self._engine_returned)
        watching = asyncio.create_task(self._watch(), name="watch")
        asked = asyncio.create_task(self._done.wait(), name="asked to stop")
        try:
            waits: list[asyncio.Future[Any]] = [asked, self._failure]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            bringing.cancel()
            if not self._failure.done():
                await self._wind_down()
        finally:
            for task in (bringing, watching, asked):
                task.cancel()
            await asyncio.gather(bringing, watching, *self._chores, return_exceptions=True)
            if self._wake is not None:
                self._wake.cancel()
            loop.set_exception_handler(None)
        if self._failure.done():
            self._failure.result()

    def stop(self) -> None:
        """No new records; what is open may finish within `shutdown_s`."""
        self._done.set()

    def _engine_returned(self, bringing: asyncio.Task[None]) -> None:
        if bringing.cancelled():
            return
        if error := bringing.exception():
            self._fail(error)
        else:
            self._engine_ended = True
            self._look_whether_done()

    async def _wind_down(self) -> None:
        self._stopping = True
        for run in list(self._shards.values()):
            if run.needs_human:
                self.spawn(run.give_up())
            elif run.healing_ended is None and not run.healer.over:
                run.tell(Signal.SHUTDOWN_REQUESTED)
        deadline = self.clock() + self.policy.shutdown_s + _LATE_S
        while self._alive() and self.clock() < deadline:
            self._change = asyncio.Event()  # before anything else runs that may set it
            try:
                await asyncio.wait_for(self._change.wait(), max(0.01, deadline - self.clock()))
            except TimeoutError:
                break
        for run in self._alive():
            self.chronicle.warning("shard_abandoned", **names_of(run.shard))
            run.seat.abandon()
        if self._chores:
            # What nobody answers (a state, a checkpoint) is not waited for any longer than the records.
            _, late = await asyncio.wait(self._chores, timeout=max(0.01, deadline - self.clock()))
            for chore in late:
                chore.cancel()

    def _alive(self) -> list[ShardRun]:
        return [run for run in self._shards.values() if not run.over or run.healing_ended == "shard_ended"]

    def shard_over(self, run: ShardRun) -> None:
        """The shard is complete, given up or lost; the engine hears of it."""
        shard_id = run.shard.shard_id
        if run.over:
            return
        run.over = True
        run.caution.leave()
        stopped = run.healer.needs_human
        self.needs_human |= stopped
        if run.healing_ended == "shard_ended":
            self._keep_figures(run)
            self.spawn(self._complete(run))
        elif stopped:
            self._note_change()  # it is ours until it is taken away, and goes on to tell how far behind it falls
        else:
            self._keep_figures(run)
            if self._shards.get(shard_id) is run:
                del self._shards[shard_id]
                self.engine.shard_left(shard_id)
                if run.left_in_order:
                    self.lives.take_back(shard_id)
            self._note_change()

    def _forget_stopped(self, shard_id: str) -> None:
        """It had stopped for a human, who has to look elsewhere now."""
        run = self._shards.pop(shard_id, None)
        if run is not None and run.healing_ended != "shard_ended":
            self._keep_figures(run)

    def _keep_figures(self, run: ShardRun) -> None:
        shard_id = run.shard.shard_id
        figures = run.figures()
        # At the end of the run people still want to see what was open.
        figures = replace(figures, held=False) if self._stopping else figures.left()
        figures = figures.after(self._left.pop(shard_id, None))
        if figures.lost:
            self._lost[shard_id] = figures.after(self._lost.get(shard_id))
        else:
            self._left[shard_id] = figures

    async def _complete(self, run: ShardRun) -> None:
        await self._insist_async(lambda: self.engine.shard_complete(run.shard.shard_id))
        self.chronicle.info("shard_complete", **names_of(run.shard))
        if self._shards.get(run.shard.shard_id) is run:
            del self._shards[run.shard.shard_id]
        self._note_change()

    def _note_change(self) -> None:
        if self._change is not None:
            self._change.set()
        self._look_whether_done()

    def _look_whether_done(self) -> None:
        """Whether there is nothing left to do: the end of a replay, or every shard's tip."""
        if self._done.is_set() or self._stopping or self._beginning:
            return
        runs = self._shards.values()
        may_end = self._until_caught_up and self.engine.has_brought_all
        if not runs:
            ended = self._engine_ended or (may_end and bool(self._left or self._lost))
        elif self._engine_ended or may_end:
            ended = all(run.idle or run.needs_human for run in runs)
        else:
            ended = all(run.healer.over and run.healer.needs_human for run in runs) and self.engine.has_brought_all
        if ended:
            self.needs_human |= any(run.needs_human for run in runs)
            self._done.set()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            for run in list(self._shards.values()):
                if run.healer.cautious and run.idle:
                    run.tell(Signal.AT_TIP)
                run.look(self.clock())
            self._look_whether_done()

    # -- what shards ask for ------------------------------------------------------------------

    async def checkpoint(self, shard_id: str, position: Position) -> bool:
        try:
            await self.engine.checkpoint(shard_id, position)
        except Unavailable as error:
            self.chronicle.warning("checkpoint_failed", shard_id=shard_id, error=str(error))
            return False
        return True

    def spawn(self, chore: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chore_done)

    def _chore_done(self, chore: asyncio.Task[None]) -> None:
        self._chores.discard(chore)
        if not chore.cancelled() and (error := chore.exception()):
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(delay_s, call)

    def wake_at(self, due: float | None) -> None:
        """Tick the shards at this time at the latest. One timer serves them all."""
        if due is None or due >= self._wake_due:
            return
        if self._wake is not None:
            self._wake.cancel()
        self._wake_due = due
        self._wake = asyncio.get_running_loop().call_later(max(0.0, due - self.clock()), self._tick)

    def _tick(self) -> None:
        self._wake, self._wake_due = None, float("inf")
        now = self.clock()
        for run in list(self._shards.values()):
            run.tick(now)
            if not run.healer.over:
                self.wake_at(run.healer.wakes_at)

    def figures(self) -> list[ShardFigures]:
        """Every shard this host has had, in the order of their ids; what was `lost` of one stands by itself."""
        found = dict(self._left)
        for shard_id, run in self._shards.items():
            if not run.over or run.healing_ended != "shard_ended":
                found[shard_id] = run.figures().after(self._left.get(shard_id))
        return sorted((*self._lost.values(), *found.values()), key=lambda shard: (shard.shard_id, not shard.lost))

    async def insist(self, call: Callable[[], Any]) -> Any:
        return await self._insist_async(lambda: asyncio.to_thread(call))

    async def _insist_async(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Once running, a state that does not answer is waited for."""
        while True:
            try:
                return await call()
            except Unavailable as error:
                self.chronicle.warning("state_unavailable", error=str(error))
                await asyncio.sleep(_STATE_RETRY_S)
