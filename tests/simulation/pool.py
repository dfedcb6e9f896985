"""The made-up worker processes of one host: where they stand, what they say, how they die. Implements `port.Pool`.

What a process had said and nobody had read is lost or not, as the dice will have it. Its marks
outlive it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamheal.records import Shard
from streamheal.workers.port import Listener
from tests.simulation.caution import Drain
from tests.simulation.cells import Cells
from tests.simulation.lanes import Lanes
from tests.simulation.runs import DEADLINE_S, Call, Item, Run
from tests.simulation.seat import BY_US, SimSeat, Slot

if TYPE_CHECKING:
    from tests.simulation.world import World

HOOK_S_MAX = 30.0


class Process:
    """A worker process, of one shard or of several."""

    def __init__(self, pool: SimPool, place: int) -> None:
        self.pool, self.world, self.place = pool, pool.world, place
        self.able = False  # user code runs in it: it has started, lives, and does not stand still
        self.started = False
        self.doomed = ""
        self.overran: list[Run] | None = None
        self.held = False  # one of these keeps all others from running
        self.stepping: Run | None = None  # whose coroutine was being resumed when it died, where that is marked
        self.draining: set[Lanes] | None = None  # stays that may still begin something
        self.stays: list[Lanes] = []
        self.runs: dict[Item, Run] = {}
        self._outbox: list[tuple[Lanes, object, str]] = []
        self._telling = False

    # -- what it says ------------------------------------------------------------------

    def say(self, lanes: Lanes, event: object, like: str) -> None:
        self._outbox.append((lanes, event, like))
        self._tell_soon()

    def _tell_soon(self) -> None:
        if self._outbox and not self._telling:
            self._telling = True
            self.world.after(self.world.latency(), self._tell)

    def _tell(self) -> None:
        self._telling = False
        if self.doomed:
            return  # what is left is read once it is dead
        for _ in range(min(len(self._outbox), self.world.pick((1, 1, 3, 99)))):
            if self._outbox:
                self.read_one()
        self._tell_soon()

    def read_one(self) -> None:
        lanes, event, like = self._outbox.pop(0)
        if lanes.seat.lanes is lanes:
            lanes.seat.heard(event, like)

    @property
    def unread(self) -> bool:
        return bool(self._outbox)

    # -- its end -----------------------------------------------------------------------

    def hangs(self, lanes: Lanes, call: Call, run: Run, *, frozen: bool) -> None:
        """Somebody looks whether it is past its deadline."""
        self.able = self.able and not frozen
        cancels = self.world.spec.coroutines and self.world.chance(0.7)  # else it does not end when it is told to
        late_s = DEADLINE_S + run.began - self.world.now + 0.001 + self.world.latency()
        self.world.after(late_s, self._look, *((lanes, call, run) if cancels else ()))

    def _look(self, lanes: Lanes | None = None, call: Call | None = None, run: Run | None = None) -> None:
        if self.able and lanes is not None and call is not None and run is not None:
            lanes.cancelled(call, run)
            return
        late = [run for run in self.runs.values() if self.world.now - run.began >= DEADLINE_S]
        if late and not self.doomed:
            self.overran, self.held = late, not self.able
            self.kill("deadline")

    def hook(self, lanes: Lanes, hook: str) -> None:
        """The processor's last hook, which may raise, or take longer than it may."""
        world = self.world
        if lanes.stating is not None and hook != "lease_lost":
            lanes.stating.hook()
        if world.chance(0.05):
            world.after(HOOK_S_MAX, self._hook_late, lanes)
        else:
            world.after(world.latency(), self.say, lanes, "raised" if world.chance(0.1) else "ended", "")

    def _hook_late(self, lanes: Lanes) -> None:
        if lanes.seat.lanes is lanes:
            self.kill("hook")

    def drain(self) -> None:
        """To be replaced once nothing runs in it."""
        if self.draining is None and self.started and not self.doomed and self.stays:
            self.draining = set(self.stays)
            for lanes in self.stays:
                lanes.put(Drain())
            self._look_idle()

    def drained(self, lanes: Lanes) -> None:
        if self.draining is not None:
            self.draining.discard(lanes)

    def _look_idle(self) -> None:
        if self.draining is not None and self.draining.isdisjoint(self.stays) and not self.runs:
            self.kill("recycled")
        elif not self.doomed:
            self.world.after(0.1, self._look_idle)

    def kill(self, why: str, by: Run | None = None) -> None:
        """It ends now, by one of its records or not. The host hears of it a moment later."""
        if self.doomed:
            return
        world = self.world
        self.doomed, self.able = why, False
        if why == "signal" and world.spec.coroutines and any(lanes.intents for lanes in self.stays):
            self.stepping = by or (world.pick(list(self.runs.values())) if self.runs and world.chance(0.5) else None)
        for run in self.runs.values():
            track = run.item.track
            if track.running:
                track.running = False
                track.excused += 1
                stood = self.stepping is not None and run is not self.stepping
                track.shared |= why not in BY_US and (track.stood or not stood)
                track.stood |= stood
        for lanes in self.stays:
            if lanes.stating is not None:
                lanes.stating.dies()
        # Whoever has something to state is asked to rely on that it was said.
        lost = world.below(len(self._outbox) + 1) if world.chance(0.3) and not world.spec.states else 0
        del self._outbox[len(self._outbox) - lost :]
        world.after(world.latency(), self.pool.died, self)


class SimPool:
    """Implements `port.Pool`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cells = Cells(self, world.spec.policy.cells_max)
        self.places: dict[int, Process] = {}
        self._seats: dict[int, set[SimSeat]] = {}
        self._in_use: set[object] = set()
        self._deaths = 0

    async def open(self) -> Any: ...

    async def close(self) -> None:
        for process in self.places.values():
            process.kill("by_us")
        self.cells.close()

    def take_slot(self) -> Slot | None:
        if self.world.chance(0.02):
            return None
        slot = Slot()
        self._in_use.add(slot)
        return slot

    def give_back(self, slot: object) -> None:
        self._in_use.remove(slot)

    def seat(self, shard: Shard, listener: Listener) -> SimSeat:
        seat = SimSeat(self, shard, listener)
        self.world.watch(seat, listener)
        return seat

    # -- who stands where --------------------------------------------------------------

    def seat_waits(self, seat: SimSeat) -> None:
        place = 0 if self.world.spec.shared else seat.stream.number
        place = seat.place_apart if seat.apart and self.world.spec.shared else place
        self._seats.setdefault(place, set()).add(seat)
        process = self.places.get(place)
        if process is None:
            self._spawn(place)
        elif process.started and not process.doomed and process.draining is None:
            seat.sit(process)

    def _spawn(self, place: int) -> None:
        process = self.places[place] = Process(self, place)
        self.world.after(self.world.start_s(), self._started, process)

    def _started(self, process: Process) -> None:
        if process.doomed:
            return
        process.able = process.started = True
        waiting = self._seats.get(process.place, set())
        for seat in sorted(waiting, key=lambda seat: seat.stream.number):
            if seat.stage == "waiting":
                seat.sit(process)
        waiting.clear()

    def died(self, process: Process) -> None:
        """What it had said is heard first; its marks are read before anybody is told."""
        while process.unread:
            process.read_one()
        if self.places.get(process.place) is process:
            del self.places[process.place]
            if any(seat.stage == "waiting" for seat in self._seats.get(process.place, ())):
                self._spawn(process.place)
        self._deaths += 1
        stays = list(process.stays)
        self.world.worker_died(process)
        losses = [lanes.seat.lost() for lanes in stays]
        total = sum(len(running) for running, _ in losses)
        total += sum(lanes.seat.stage == "initializing" for lanes in stays) if process.doomed not in BY_US else 0
        if stays and process.doomed != "by_us":
            stays[0].seat.listener.worker_died(process.doomed)
        for lanes, (running, done) in zip(stays, losses, strict=True):
            if lanes.seat.lanes is lanes:
                lanes.seat.bereaved(process, running, done, self._deaths, total)
