"""The host, its only process, and the user: what may happen, chosen by dice, and what must hold meanwhile."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from streamheal.core.messages import At, Start
from streamheal.records import Record
from streamheal.workers import wire
from streamheal.workers.arena import Arena
from streamheal.workers.child.target import Options, Target, _classify
from streamheal.workers.child.worker import Site
from streamheal.workers.deaths import Death

from .core import Core, Place
from .pool import Pool
from .process import Corpse, Process, Sick


class World(Pool):
    """The host, its only process, and the user."""

    def __init__(self, seed: int, mode: str, arena: Arena, user: Callable[[World, Site], Any]) -> None:
        self.dice = dice = random.Random(f"{mode} {seed}")
        super().__init__(arena, batches=mode == "batch")
        self.mode, self.make_user = mode, user
        self.keys = dice.randint(1, 6)
        self.trouble = dice.random() < 0.9
        self.deadly = dice.choice((0.002, 0.01, 0.05))
        self.ordering = dice.choice(("key", "key", "key", "shard", "none"))
        self.concurrency = {"plain": 1, "batch": 1}.get(mode, dice.choice((2, 4, 8)))
        self.with_key = dice.random() < 0.3
        self.with_wants = dice.random() < 0.3
        self.key_of: dict[Place, str] = {}
        self.fails: Counter[Place] = Counter()
        self.over: Counter[Place] = Counter()  # ran to its end, was filtered, or settled by the core
        self.filtered: set[Place] = set()
        self.keyless: set[Place] = set()
        self.bad: set[Place] = set()  # whose own key is none
        self.inside: set[Place] = set()  # whose user code runs now
        self.ran: set[Place] = set()  # whose ran when the process died
        self.again: Counter[Place] = Counter()  # deaths that it ran in
        self.corpse: Corpse | None = None
        self.asked: Place = (-1, -1, -1)  # for its key, or to be masked
        self.broken: list[BaseException] = []
        self.deaths = self.numbers = self.comers = 0
        self.now = 0.0
        self.target = self.make_target()
        self.by_number: dict[int, Core] = {}
        for _ in range(dice.randint(1, 3)):
            self.come()
        self.new_process()

    @property
    def cores(self) -> list[Core]:
        return list(self.by_number.values())

    def come(self) -> None:
        self.comers += 1
        core = self.by_number[self.comers] = Core(self, self.comers)
        core.seat.start(Start(None, None, 0.0))

    def go(self, core: Core) -> None:
        """The shard is another host's."""
        if not core.up:
            return
        if core.open or self.dice.random() < 0.5:
            core.seat.abandon()
            self.gone(core)
        else:
            core.up = False
            core.seat.end("lease_lost")

    def gone(self, core: Core) -> None:
        del self.by_number[core.number]
        self.inside = {place for place in self.inside if place[0] != core.number}
        self.key_of = {place: key for place, key in self.key_of.items() if place[0] != core.number}
        self.come()

    def clock(self) -> float:
        self.now += self.dice.random() * 0.004
        return self.now

    # -- processes

    def make_target(self) -> Target:
        """As the worker would find it, but made for this world."""
        world = self

        def kept(user_code: str, given: Any) -> Any:
            """What does not hold is not for the runner, which would take it for a failure."""
            try:
                return getattr(world.user, user_code)(given)
            except AssertionError as error:
                world.broken.append(error)
                raise

        class App:
            ordering, concurrency = self.ordering, self.concurrency

            def mask(self, record: Record) -> bytes:
                made: bytes = kept("mask", record)
                return made

        def process_record(_: object, record: Record) -> None:
            kept("call_one", record)

        async def process_record_async(_: object, record: Record) -> None:
            try:
                await world.user.coroutine(record)
            except AssertionError as error:
                world.broken.append(error)
                raise

        methods: dict[str, Any] = {"process_record": process_record}
        if self.mode == "batch":
            methods = {"process_records": lambda _, records: kept("call", records)}
        elif self.mode == "async":
            methods = {"process_record": process_record_async}
        if self.with_key:
            methods["key"] = lambda _, record: kept("key", record)
        if self.with_wants:
            methods["wants"] = lambda _, record: kept("wants", record)
        for name, method in methods.items():
            setattr(App, name, method)
        return _classify(App, "app:App", "App", Options("key", None, 30.0))

    def new_process(self) -> None:
        self.process = Process()
        site = Site(self.process.link, memoryview(self.arena.map), self.process.journal, self.target, -1)  # type: ignore[arg-type]
        self.user = self.make_user(self, site)
        self.sit()

    def sit(self) -> None:
        """Whoever waits for a process begins in this one."""
        if self.process.doomed is None and self.process.draining is None and not self.process.link.dead:
            seats, self.waiting = self.waiting, []
            for seat in seats:
                self.numbers += 1
                seat.sit(self.process, self.numbers)  # type: ignore[arg-type]

    def strikes(self) -> bool:
        return self.trouble and self.dice.random() < self.deadly

    def die(self) -> None:
        """From here on nobody sees what it does."""
        if self.dice.random() < 0.4:
            self.process.kill("stopped")  # for no record's sake
        self.process.link.dead = True
        self.corpse = Corpse(self.process.journal, [slot.index for slot in self.slots])
        self.ran = set(self.inside)

    def bury(self) -> None:
        assert self.corpse is not None
        self.user.end()
        self.corpse.restore()
        self.hear()
        self.inside.clear()
        self.again.update(self.ran)
        self.deaths += 1
        process, seats = self.process, [core.seat for core in self.cores if core.seat.process is not None]
        initializing = [seat for seat in seats if seat.stage == "initializing"]
        losses = {seat: seat.lost() for seat in seats}
        total = sum(len(loss.running) for loss in losses.values())
        death = Death(self.deaths, total, any(loss.stepping is not None for loss in losses.values()))
        steps = [(core, losses[core.seat].stepping) for core in self.cores if core.seat in losses]
        self.user.check_stepping([core.place(at) for core, at in steps if at is not None])
        for core in self.cores:
            core.up = False
        for seat, loss in losses.items():
            if seat in initializing:
                self.seat_left(seat)
                seat.start(Start(None, None, 0.0))
            else:
                seat.bereaved(process, loss, death)  # type: ignore[arg-type]
        process.journal.close()
        self.corpse = None
        for slot in self.late_slots:
            self.give_back(slot)
        self.late_slots.clear()
        self.new_process()

    def hear(self, most: int = 1 << 30) -> None:
        """What the worker has said reaches the host."""
        said, process = self.process.link.said, self.process
        for _ in range(min(most, len(said))):
            message: Any = said.popleft()
            if isinstance(message, wire.Drained):
                assert process.draining is not None
                process.draining.discard(message.seat)
            elif not isinstance(message, wire.Heeded):
                seat = next((core.seat for core in self.cores if core.seat.number == message.seat), None)
                if seat is not None and seat.process is not None:
                    seat.heard(message)

    def check(self) -> None:
        """If the process died now: would the host see who runs?"""
        self.hear()
        for core in self.cores:
            # Whoever is the core's already is not its worker's, and may be asked for its key only.
            mine = {place for place in self.inside if place[0] == core.number and not core.has(place)}
            seen = {core.place(at) for at in core.seat.running()}
            assert seen == mine, f"{sorted(mine)} run, and {sorted(seen)} are marked"
            if core.heeded and core.seat.is_cautious:
                allowed = {core.place(at) for at in core.permitted}
                mine.discard(self.asked)  # for its key, which may be before its turn
                assert mine <= allowed, f"{sorted(mine - allowed)} run unasked"
                begun = {core.place(At(*at)) for at in self.user.begun(core.seat.number)}
                assert begun <= mine | {self.asked}, f"{sorted(begun - mine)} have ended, and nobody says so"
        if self.process.draining == set():
            self.recycle()

    def recycle(self) -> None:
        if not any(core.seat.running() for core in self.cores):
            assert not self.inside, f"{self.inside} run in a process that is emptied"
            self.process.kill("recycled")

    # -- user code

    def place(self, record: Record) -> Place:
        shard, span, nth = record.json()
        return shard, span, nth

    def lane(self, place: Place) -> object:
        if self.ordering == "shard":
            return ""
        if self.ordering == "none":
            return place
        return f"own {sum(place) % 3}" if self.with_key and place not in self.keyless else self.key_of[place]

    def own_key(self, place: Place) -> str:
        core, at = self.by_number[place[0]], At(*place[1:])
        assert at in core.permitted or not core.cautious_from_its_first, f"{place} is asked for its key unasked"
        if place in self.bad:
            self.keyless.add(place)
            raise Sick("no key")
        return f"own {sum(place) % 3}"

    def enter(self, record: Record, *, in_order: bool = True) -> Place:
        """User code of a record begins."""
        self.process.link.check_not_forked()
        place = self.place(record)
        if place[0] not in self.by_number:
            raise Sick("nobody sees what becomes of it")
        core, at = self.by_number[place[0]], At(*place[1:])
        state = core.spans[at.span].get(at.nth, "queued")
        assert not self.over[place], f"{place} runs, and is over"
        assert state == "queued", f"{place} runs, but is {state}"
        assert self.over[place] <= self.again[place]
        for other in self.key_of if in_order else ():
            if other[0] == place[0] and other < place and self.lane(other) == self.lane(place):
                assert self.over[other] or other in self.inside, f"{place} runs before {other} of its key"
        if at in core.told:
            assert record.attempt == core.told[at], f"{place} is attempt {record.attempt}"
        self.inside.add(place)
        return place

    def end_well(self, place: Place, *, filtered: bool = False) -> None:
        self.inside.discard(place)
        self.over[place] += 1
        if filtered:
            self.filtered.add(place)

    # -- what may happen

    def act(self) -> None:
        """The host does something, whatever the worker is at."""
        dice, process = self.dice, self.process
        core = dice.choice(self.cores)
        roll = dice.random()
        if roll < 0.3:
            self.hear(dice.randint(1, 4))
        elif roll < 0.5:
            if len(core.spans) < 8 and core.seat.stage != "ending":
                core.bring()
        elif roll < 0.7:
            if core.in_hand():
                core.answer()
        elif roll < 0.8:
            if core.intended and core.up:
                core.permit()
        elif roll < 0.85:
            if core.up and self.trouble:
                core.seat.limit(dice.choice((None, None, None, 0, 1, 3)))
        elif roll < 0.89:
            if self.trouble:
                core.be_cautious()
        elif roll < 0.91:
            core.seat.curious(dice.random() < 0.3)
        elif roll < 0.93 and self.trouble:
            seats = [one.seat for one in self.cores]
            if process.draining is None and process.doomed is None and all(seat.stage == "in" for seat in seats):
                for seat in seats:
                    process.send(wire.Drain(seat.number))
                process.draining = {seat.number for seat in seats}
        elif roll < 0.935 and self.trouble:
            process.kill("stopped")
        elif roll < 0.945 and self.trouble:
            self.go(core)
        elif roll < 0.96:
            self.sit()
        else:
            self.user.act()

    def play(self, steps: int) -> None:
        for _ in range(steps):
            self.step()
        self.finish()

    def step(self) -> None:
        roll = self.dice.random()
        if roll < 0.4:
            self.act()
        elif roll < 0.6:
            self.user.read()
        else:
            self.user.run()
        self.settle_deaths()

    def raise_broken(self) -> None:
        if self.broken:
            raise self.broken[0]

    def settle_deaths(self) -> None:
        self.raise_broken()
        if not self.process.link.dead:
            if self.dice.random() < 0.3:
                self.check()
            if self.process.doomed is not None or self.strikes():
                self.die()
        if self.process.link.dead:
            self.bury()

    def finish(self) -> None:
        """Everything comes to an end: nobody waits whom nobody would ever come back to."""
        trouble, self.trouble = self.trouble, False
        for place in self.fails:
            self.fails[place] = 0
        for core in self.cores:
            if core.seat.is_cautious and trouble and self.dice.random() < 0.5:
                core.be_cautious()
        for _ in range(3000):
            if not any(core.open for core in self.cores):
                break
            self.sit()
            for core in self.cores:
                if core.up and core.intended:
                    core.permit()
                elif core.in_hand():
                    core.answer()
                if core.up:
                    core.seat.limit(None)
            while self.process.inbox:
                self.user.read()
            self.user.run()
            self.settle_deaths()
            self.hear()
        else:
            raise AssertionError(f"stands still: {[(core.spans, core.reported) for core in self.cores]}")
        assert {place for place in self.key_of if not self.over[place]} == set()
        assert not self.inside
        assert not self.slots
        for core in self.cores:
            assert not (core.heeded and core.permitted), f"{core.permitted} have begun, and are never over"
        self.die()
        self.user.end()
        self.process.journal.close()
