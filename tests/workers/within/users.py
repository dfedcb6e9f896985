"""User code in each kind of runner, and how the runner is moved: one made-up user a kind."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from contextlib import suppress
from typing import Any, NoReturn

from streamheal.errors import Throttled
from streamheal.records import Record
from streamheal.workers import wire
from streamheal.workers.child.batches import Batches
from streamheal.workers.child.coroutines import Coroutines
from streamheal.workers.child.sequential import Sequential
from streamheal.workers.child.threads import Crew, Threads
from streamheal.workers.child.worker import Site

from .core import Place
from .process import Dead, Sick
from .world import World


class User:
    """What of user code is the same everywhere."""

    def __init__(self, world: World, site: Site) -> None:
        self.world, self.worker = world, self.make(site)
        self.culprit: Place | None = None
        self.worker.give_up = self.give_up

    def make(self, site: Site) -> Any:
        raise NotImplementedError

    def give_up(self, error: BaseException | None = None) -> NoReturn:
        if not self.world.process.link.dead:
            self.world.broken.append(error or AssertionError("the worker gave up"))
        raise Dead

    def read(self) -> None:
        """The worker takes a message."""
        if self.world.process.inbox:
            with suppress(Dead):
                self.heed(self.world.process.inbox.popleft())

    def heed(self, message: Any) -> None:
        self.worker._heed(message)

    def run(self) -> None: ...
    def end(self) -> None: ...
    def act(self) -> None: ...

    def begun(self, seat: int) -> set[tuple[int, int]]:
        """What the worker takes for begun, in cautious mode; a batch says so of all at once."""
        lanes = self.worker.lanes.get(seat)
        return set() if lanes is None or lanes.intents is None or self.world.batches else set(lanes.intents._begun)

    def moment(self, place: Place) -> None:
        """User code takes a while: meanwhile the host may act, and the process die."""
        world = self.world
        for _ in range(world.dice.choice((0, 0, 1, 3))):
            world.act()
        if world.dice.random() < 0.5:
            world.check()
        if world.process.doomed is not None or world.strikes():
            self.die(place)

    def die(self, place: Place) -> NoReturn:
        self.culprit = place
        self.world.die()
        raise Dead

    def ask(self, record: Record) -> Place:
        """`key` and `mask`: short, and about this record."""
        world = self.world
        world.process.link.check_not_forked()
        place = world.place(record)
        self.was_inside = place in world.inside
        world.asked = place
        world.inside.add(place)
        if world.dice.random() < 0.3:
            world.check()
        if world.strikes():
            self.die(place)
        return place

    def asked(self, place: Place) -> None:
        self.world.asked = (-1, -1, -1)
        if not self.was_inside:
            self.world.inside.discard(place)

    def mask(self, record: Record) -> bytes:
        self.asked(self.ask(record))
        return b"***"

    def key(self, record: Record) -> str:
        self.world.process.link.check_not_forked()
        try:
            place = self.ask(record)
        except Dead:
            self.world.keyless.add(self.world.place(record))
            raise
        self.asked(place)
        return self.world.own_key(place)

    def wants(self, record: Record) -> bool:
        place = self.world.enter(record, in_order=self.world.mode != "batch")
        self.moment(place)
        if self.world.dice.random() < 0.2:
            self.world.end_well(place, filtered=True)
            return False
        self.world.inside.discard(place)
        return True

    def fails(self, place: Place) -> bool:
        return self.world.fails[place] > 0

    def check_stepping(self, stepping: list[Place]) -> None:
        assert not stepping

    def raise_something(self) -> NoReturn:
        raise Throttled if self.world.dice.random() < 0.2 else Sick("bad")


class Plain(User):
    def make(self, site: Site) -> Any:
        return Sequential(site)

    def run(self) -> None:
        with suppress(Dead):
            if (lanes := self.worker._next_turn()) is not None:
                self.worker.turn(lanes)
            else:
                for idle in self.worker.lanes.values():
                    idle.witnesses.tell()

    def call_one(self, record: Record) -> None:
        world, place = self.world, self.world.enter(record)
        self.moment(place)
        if self.fails(place):
            world.inside.discard(place)
            self.raise_something()
        world.end_well(place)


class Batch(Plain):
    def make(self, site: Site) -> Any:
        return Batches(site)

    def call(self, records: list[Record]) -> list[Record]:
        world = self.world
        places = [world.enter(record) for record in records]
        self.moment(places[0])
        sick = [record for record, place in zip(records, places, strict=True) if self.fails(place)]
        world.inside -= {*places}
        if sick and world.dice.random() < 0.7:
            self.raise_something()
        for record, place in zip(records, places, strict=True):
            if record not in sick:
                world.end_well(place)
        return sick


class Async(User):
    def make(self, site: Site) -> Any:
        self.loop = asyncio.SelectorEventLoop()
        self.waits: dict[asyncio.Future[None], Place] = {}
        worker = Coroutines(site)
        worker._loop = self.loop
        return worker

    def heed(self, message: Any) -> None:
        self.worker._heed(message)

    def turn_loop(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def run(self) -> None:
        world = self.world
        if self.waits and world.dice.random() < 0.5:
            future = world.dice.choice(list(self.waits))
            if not future.done():
                future.set_result(None)
        for _ in range(world.dice.choice((1, 1, 2, 5))):
            if not world.process.link.dead:
                self.turn_loop()

    def act(self) -> None:
        """A record's coroutine is past its deadline."""
        world = self.world
        core = world.dice.choice(world.cores)
        if world.trouble and core.up and (running := core.seat.running()) and world.dice.random() < 0.3:
            world.process.send(wire.Cancel(core.seat.number, *world.dice.choice(running)))

    async def coroutine(self, record: Record) -> None:
        world, place = self.world, self.world.enter(record)
        try:
            self.moment(place)
            for _ in range(world.dice.choice((0, 1, 1, 2))):
                future = self.loop.create_future()
                self.waits[future] = place
                try:
                    await future
                except asyncio.CancelledError:
                    world.process.link.check_not_forked()
                    if world.dice.random() < 0.6:
                        raise
                finally:
                    self.waits.pop(future, None)
                world.process.link.check_not_forked()
                self.moment(place)
            if self.fails(place):
                self.raise_something()
        except Dead:
            raise
        except BaseException:
            world.inside.discard(place)
            raise
        world.end_well(place)

    def moment(self, place: Place) -> None:
        if self.world.dice.random() < 0.5:
            super().moment(place)

    def check_stepping(self, stepping: list[Place]) -> None:
        assert stepping in ([], [self.culprit]), f"{stepping} are stepping, and {self.culprit} was"

    def end(self) -> None:
        for crew in self.worker._crews.values():
            crew.over = True
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        for _ in range(20):
            self.turn_loop()
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()
        self.loop.set_exception_handler(lambda *_: None)
        self.loop.close()


class Threaded(User):
    def make(self, site: Site) -> Any:
        self.lock = threading.Lock()
        self.gates: list[tuple[Place, threading.Event]] = []
        return Threads(site)

    def give_up(self, error: BaseException | None = None) -> None:  # type: ignore[override]
        if not self.world.process.link.dead:
            self.world.broken.append(error or sys.exc_info()[1] or AssertionError("gave up"))

    def crews(self) -> list[Crew]:
        return list(self.worker._crews.values())

    def still(self) -> bool:
        with self.worker._mutex:
            crews: list[Any] = self.crews()
            resting = sum(len(crew.more._waiters) for crew in crews)
            return resting + len(self.gates) == sum(len(crew.current) for crew in crews)

    def settle(self) -> None:
        """Until every thread is in user code or rests."""
        until = time.monotonic() + 10
        while not self.still():
            self.world.raise_broken()
            assert time.monotonic() < until, "threads do not come to rest"
            time.sleep(0)

    def heed(self, message: Any) -> None:
        self.worker._heed(message)
        self.settle()

    def run(self) -> None:
        world = self.world
        if self.gates and world.dice.random() < 0.7:
            with self.lock:
                place, gate = self.gates.pop(world.dice.randrange(len(self.gates)))
            self.dying = world.process.doomed is not None or world.strikes()
            if self.dying:
                self.gates.append((place, gate))
                world.die()
                return
            gate.set()
        else:
            with self.worker._mutex:
                for crew in self.crews():
                    if crew.may_grow:
                        self.worker._grow(crew)
            self.worker._start()
        self.settle()
        if world.dice.random() < 0.3:
            world.check()

    def call_one(self, record: Record) -> None:
        world = self.world
        with self.lock:
            place = world.enter(record)
            gate = threading.Event()
            self.gates.append((place, gate))
        gate.wait()
        world.process.link.check_not_forked()
        with self.lock:
            if self.fails(place):
                world.inside.discard(place)
                raise Sick("bad")
            world.end_well(place)

    def key(self, record: Record) -> str:
        return self.world.own_key(self.world.place(record))

    def mask(self, record: Record) -> bytes:
        return b"***"

    def wants(self, record: Record) -> bool:
        with self.lock:
            place = self.world.enter(record)
            self.world.inside.discard(place)
            if self.world.dice.random() < 0.2:
                self.world.end_well(place, filtered=True)
                return False
        return True

    def end(self) -> None:
        with self.worker._mutex:
            for crew in self.crews():
                crew.over = True
                crew.more.notify_all()
        for _, gate in self.gates:
            gate.set()
        for thread in threading.enumerate():
            if thread.name.startswith("lane "):
                thread.join(10)


USERS = {"plain": Plain, "batch": Batch, "async": Async, "threads": Threaded}
