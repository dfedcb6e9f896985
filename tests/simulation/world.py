"""Lives of a host, one after another, and the world around them: time, what running does, what dies.

A life is the real `Runtime` over made-up workers, engine, stores and clock. When the host dies
the loop is thrown away, and the next life begins from what is durable.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from streamheal.core.messages import At
from streamheal.runtime.chronicle import Chronicle
from streamheal.runtime.keeper import Keeper
from streamheal.runtime.runtime import Runtime
from streamheal.state.ledgers import Starts
from streamheal.state.marks import Marks
from streamheal.workers.port import Listener
from tests.simulation.clock import Loop
from tests.simulation.engine import SimEngine
from tests.simulation.generate import Fault, Spec
from tests.simulation.hosts import Hosts
from tests.simulation.oracle import Oracle, Stream, Track, Violation
from tests.simulation.pool import Process, SimPool
from tests.simulation.runs import SETTLED, Run
from tests.simulation.seat import SimSeat
from tests.simulation.stores import NoThreads, Sealer, SimShelf, SimState
from tests.simulation.watch import Log, watched

T = TypeVar("T")
STEPS_MAX = 150_000
_UNREADY_MAX = 6
_LOOK_S = 5.0  # how often the runtime looks whether all is done: a world that waits for hours must cost little


class HostDied(Exception):
    """The host is no more, at this very step."""


class TimeUp(Exception):
    """Whatever is open now stays so."""


class Life:
    """One host, from its start to its end."""

    def __init__(self, world: World) -> None:
        self.loop = Loop(world, world.dice, world.slow, world.alarm)
        self.pool = SimPool(world)
        self.engine = SimEngine(world)
        chronicle = Chronicle(Log(world))
        self.keeper = Keeper(SimShelf(world), chronicle, executor=NoThreads())
        self.runtime = Runtime(
            engine=self.engine,
            pool=self.pool,
            policy=world.spec.policy,
            keeper=self.keeper,
            seal=Sealer(world),
            starts=Starts(world.state, "app", "orders"),
            marks=Marks(world.state, "app", "orders"),
            chronicle=chronicle,
            until_caught_up=world.spec.ends == "caught up",
            clock=self.loop.time,
            wall_clock=self.loop.time,
            dice=world.dice.random,
            look_s=_LOOK_S,
        )

    async def _drive(self) -> None:
        """As `runtime.driving.drive` does."""
        try:
            await self.runtime.run()
        finally:
            await self.keeper.close()
            await self.pool.close()

    def run(self) -> None:
        """Returns when the run has ended; raises what ended it otherwise."""
        main = self.loop.create_task(self._drive())
        self.loop.run_until(main)
        main.result()


class World:
    """Implements `clock.Clock`."""

    def __init__(self, spec: Spec, transcript: list[str] | None = None) -> None:
        self.spec, self.transcript = spec, transcript
        self.now, self.steps = 0.0, 0
        self.dice = random.Random(spec.seed + 1)
        self._random, self._pace_s = self.dice.random, spec.pace_s
        self.oracle = Oracle(self)
        self.violation: Violation | None = None
        self.state = SimState(self)
        self.hosts = Hosts(self)
        self.broken = False
        self.streams: list[Stream] = []
        for number, records in enumerate(spec.shards):
            parent = self.streams[0] if spec.children and number else None
            self.streams.append(Stream(self, number, records, parent))
        self._by_id = {stream.shard_id: stream for stream in self.streams}
        self._faults = list(spec.faults)
        self._unready = 0
        self._time_up = self._deployed = self._memory_short = False
        self._life: Life | None = None
        self.after: Callable[..., None]  # of the present life's loop

    # -- what everything in it asks for --------------------------------------------------

    @property
    def life(self) -> Life:
        assert self._life is not None
        return self._life

    def stream(self, shard_id: str) -> Stream:
        return self._by_id[shard_id]

    def unfinished(self) -> list[Stream]:
        return [stream for stream in self.streams if not stream.finished]

    def note(self, line: str) -> None:
        if self.transcript is not None:
            self.transcript.append(line)

    def chance(self, share: float) -> bool:
        return self._random() < share

    def below(self, number: int) -> int:
        return int(self._random() * number)

    def pick(self, several: Sequence[T]) -> T:
        return several[int(self._random() * len(several))]

    def latency(self) -> float:
        """Of one step in a worker, or of one word on its way; now and then it takes far longer."""
        wait_s = self._random() * self._pace_s
        return wait_s if self._random() < 0.98 else min(1.0, wait_s * 100)

    def run_s(self) -> float:
        """Until a record that has begun in a lane comes to its end, or to what is wrong with it."""
        return self.latency() + (self._random() * self.spec.run_s if self.spec.run_s else 0.0)

    def slow(self) -> float:
        """Of half a call to a store, a state or a stream."""
        return min(5.0, self._random() * self._pace_s * self.pick((1, 10, 1000)) / 2)

    def start_s(self) -> float:
        """Until a process runs: at once where a spare stands by."""
        return self.pick((0.0, 0.0, self._pace_s, 2.0))

    def away_s(self) -> float:
        """Until a shard that was taken away comes back."""
        return self.pick((0.0, self._pace_s, 5.0))

    def initialize(self) -> str:
        """How `initialize` ends: well, `unready` (it raises), or `crash`."""
        if self._unready < _UNREADY_MAX and self.chance(self.spec.unready):
            self._unready += 1
            return self.pick(("unready", "unready", "crash"))
        return ""

    def lane(self, track: Track, at: At) -> object:
        ordering = self.spec.ordering
        return track.rec.key if ordering == "key" else at if ordering == "none" else "shard"

    def watch(self, seat: SimSeat, listener: Listener) -> None:
        seat.stream.suspects = self.hosts.suspects(seat.stream)
        seat.stream.run = listener  # type: ignore[assignment]  # in a runtime it is a ShardRun
        watched(self, seat.stream)

    # -- what running does ---------------------------------------------------------------

    def outcome(self, stream: Stream, run: Run, process: Process | None) -> str:
        """What becomes of this try: ok, filtered, raise, poison, throttle, hang, freeze, crash or host."""
        track, dice = run.item.track, self._random
        rec, now = track.rec, self.now
        kind = rec.kind
        track.own = False
        if kind == "filtered":
            track.ever, track.fate = track.ever or "filtered", "filtered"
            return "filtered"
        if process is None and (self.broken or self._short_of_memory(track)):
            run.like = "SIGKILL"
            return "crash"
        for down in self.spec.outages:
            if down.hits(stream.number, rec.key, now):
                track.hit_by.add(down)
                track.unclear |= down.some
                return self._fails(run, down.how, down.like)
            if down.runup_s and down.begins(stream.number, now) and dice() < 0.3:
                track.hit_by.add(down)
                track.unclear = True
                return self._fails(run, "raise", down.like)
        track.own = True
        if kind == "fine":
            return "ok"
        if kind in ("flaky", "throttle") and track.times:
            track.times -= 1
            return self._fails(run, "raise" if kind == "flaky" else "throttle", rec.like)
        if kind == "bad" or (kind == "perhaps" and dice() < 0.2):
            return self._fails(run, "raise", rec.like)
        company = process is not None and len(process.runs) > 1
        if kind == "crash" or (kind == "company" and company) or (kind == "perhaps" and dice() < 0.4):
            if process is not None:
                self.oracle.killed(track)
            return self._fails(run, "crash", "SIGSEGV")
        if kind == "host" or (kind == "host_lane" and process is not None) or (kind == "host_cell" and process is None):
            self.hosts.dies_of(track)
            return "host"
        if kind == "host_cell":
            return self._fails(run, "raise", rec.like)
        if kind == "poison":
            return self._fails(run, "poison", rec.like)
        if kind in ("hang", "freeze"):
            return self._fails(run, kind, rec.like)
        return "ok"

    def haunted(self, run: Run) -> str:
        """A thread that another left behind ends the cell in which this runs, or holds it; empty: not yet.

        As with memory, no more than one death of a record is somebody else's: twice is taken for its own doing.
        """
        track = run.item.track
        how = self.pick(("crash", "crash", "freeze", ""))
        if how == "crash" and track.rec.kind != "crash":
            if track.kills or track.rec.kind == "perhaps":
                return ""
            track.kills = 1
        if how:
            track.own, run.like = False, "SIGABRT" if how == "crash" else ""
            self.oracle.seen["runs that a thread left behind has ended or held"] += 1
        return how

    def _short_of_memory(self, track: Track) -> bool:
        """The kernel ends the next cell, once at most for each record: twice is taken for its own doing."""
        if not self._memory_short or track.kills or track.rec.kind in ("crash", "perhaps"):
            return False
        self._memory_short, track.kills = False, 1
        return True

    @staticmethod
    def _fails(run: Run, how: str, like: str) -> str:
        run.like = like
        run.item.track.excused += how not in ("hang", "freeze", "crash")  # the death it ends in excuses those
        return how

    def worker_died(self, process: Process) -> None:
        self.oracle.seen["workers that died"] += 1
        self.note(f"{self.now:9.3f}    PROCESS {process.place} has died: {process.doomed}")
        for lanes in process.stays:
            lanes.seat.stream.deaths += 1

    def left(self, stream: Stream) -> None:
        run = stream.run
        if run is not None and run.healing_ended == "shutdown_requested" and not stream.abandoned:
            items = run.seat.items.values()  # type: ignore[attr-defined]  # it is our seat
            settled = {item.track.position for item in items if item.settled or item.mark in SETTLED}
            if not self.spec.states:  # what was stated out of turn may not be passed
                self.oracle.left_in_order(stream, settled)

    # -- faults --------------------------------------------------------------------------

    def ring(self) -> None:
        """Have `alarm` called before the next step."""
        if self._life is not None:
            self._life.loop.alarm_at = 0

    def alarm(self) -> int:
        if self.violation is not None:
            raise self.violation
        if self._time_up:
            raise TimeUp
        if self.steps > STEPS_MAX:
            self.oracle.fail(f"no end to it after {STEPS_MAX} steps, at {self.now:.0f} s")
        while self._faults and self._faults[0].step <= self.steps:
            fault = self._faults.pop(0)
            self.note(f"{self.now:9.3f}    FAULT {fault}")
            self._strike(fault)
        return self._faults[0].step if self._faults else STEPS_MAX

    def provoke(self) -> None:
        """What was just decided must be known to the next life: now and then that begins at once."""
        if self.spec.restless and self.chance(0.5):
            self.befall(Fault(self.steps + self.below(100), "host", 0))

    def befall(self, fault: Fault) -> None:
        self._faults.insert(0, fault)
        self.ring()

    def _strike(self, fault: Fault) -> None:
        life, streams = self.life, self.unfinished()
        match fault.what:
            case "kill":
                alive = [process for process in life.pool.places.values() if not process.doomed]
                if alive:
                    alive[fault.which % len(alive)].kill("signal")
            case "recycle":
                places = list(life.pool.places.values())
                if places:
                    places[fault.which % len(places)].drain()
            case "oom":
                self._memory_short = True
            case "broken":
                self.broken = True  # from now on every process dies as soon as it starts
                for process in list(life.pool.places.values()):
                    process.kill("signal")
            case "host":
                raise HostDied
            case "scrape":
                self.oracle.scraped(life.runtime.figures())
            case "deploy":
                self._deployed = True
                life.runtime.stop()
            case "lease" if streams:
                life.engine.lease_lost(streams[fault.which % len(streams)])
            case "shutdown" if streams:
                life.engine.shutdown_requested(streams[fault.which % len(streams)])

    def all_finished(self) -> None:
        if self.spec.ends == "stop":
            self.after(self.latency(), self.life.runtime.stop)

    def _end_time(self) -> None:
        self._time_up = True
        self.ring()

    # -- lives ---------------------------------------------------------------------------

    def run(self) -> World:
        while True:
            life = Life(self)
            self._life, self.after = life, life.loop.after
            life.loop.call_at(self.now + self.spec.life_s_max, self._end_time)
            asyncio._set_running_loop(None)
            try:
                life.run()
            except HostDied:
                life.loop.die()
                self._after_death()
                continue
            except TimeUp:
                life.loop.die()
                for stream in self.unfinished():
                    self.oracle.at_the_end_of_time(stream)
                return self
            except BaseException:
                life.loop.die()
                raise
            if self.violation is not None:
                raise self.violation
            if self._has_ended(life):
                return self
            self.hosts.over()

    def _after_death(self) -> None:
        self.oracle.seen["hosts that died"] += 1
        self.hosts.over()
        if self.violation is not None:
            raise self.violation

    def _has_ended(self, life: Life) -> bool:
        for stream in self.streams:
            for track in stream.tracks:
                if track.running:
                    self.oracle.fail(f"the run has ended, but {track.name} runs")
        if not self.unfinished():
            return True
        if life.runtime.needs_human:
            self.oracle.seen["worlds that end with a human called"] += 1
            return True
        settled = all(stream.unchecked(len(stream.tracks)) is None for stream in self.streams)
        if self.broken and (settled or self.spec.states):
            return True  # one life would follow another, and nothing come of any
        if self._deployed:
            self._deployed = False
            return False
        if life.engine.away:
            return False  # its own shards were read to their tips; the others are for the next
        if self.spec.ends != "caught up":
            self.oracle.fail("the run has ended by itself, with shards open")
        for stream in self.streams:
            missing = stream.unchecked(len(stream.tracks))
            if missing is not None and self.spec.states:
                return True  # what was not stated is for whoever reads it next
            if missing is not None and (stream.run is None or stream.run.healer.over):
                return False  # it came back while the host was ending, or had been left for the next
            if missing is not None:
                self.oracle.fail(f"caught up, but {missing.name} is open")
        return True
