"""Where the made-up records come from: leases that come and go, batches with holes, late checkpoints.

A shard that was split gives its keys to its children, which begin once it is complete.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streamheal.engines.base import Batch, Sink
from streamheal.errors import StateUnavailable
from streamheal.records import Dialect, Position, Shard
from tests.simulation.generate import Rec

if TYPE_CHECKING:
    from tests.simulation.oracle import Stream
    from tests.simulation.world import World

# What a stream grows to at most while anything is open, and by how much at least.
RECORDS_MAX, MORE_RECORDS = 200, 150


class Reading:
    """A shard that is ours. `next`: the record to be brought next; `owed`: the runtime has not asked for more;
    `asked`: the last checkpoint."""

    __slots__ = ("asked", "ended", "looks", "next", "owed", "stream")

    def __init__(self, stream: Stream) -> None:
        self.stream, self.next, self.asked = stream, stream.checkpoint, stream.checkpoint
        self.owed, self.ended, self.looks = True, False, 0


class SimEngine:
    """Implements `engines.base.Engine`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sink: Sink | None = None
        self._held: dict[str, Reading] = {}
        self._begun: set[str] = set()
        self.away: set[str] = set()  # taken from us, and not come back yet
        self._all_complete = asyncio.Event()

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    async def run(self, sink: Sink) -> None:
        self._sink = sink
        try:
            for stream in self._world.streams:
                self._start_later(stream, self._world.latency())
            await self._all_complete.wait()
            if self._world.spec.ends != "returns":
                await asyncio.Event().wait()
        finally:
            self._sink = None

    def _comes_back(self, stream: Stream) -> None:
        self.away.add(stream.shard_id)
        self._start_later(stream, self._world.away_s())

    def _start_later(self, stream: Stream, delay_s: float) -> None:
        self._world.after(delay_s, self._start, stream)

    def _start(self, stream: Stream) -> None:
        sink, world = self._sink, self._world
        if sink is None or stream.finished or stream.shard_id in self._held:
            return
        if stream.parent is not None and not stream.parent.finished:
            return  # it starts once that is complete
        reading = self._held[stream.shard_id] = Reading(stream)
        self._begun.add(stream.shard_id)
        self.away.discard(stream.shard_id)
        stream.begins(world.now)
        world.oracle.seen["shards begun"] += 1
        world.note(f"{world.now:9.3f} s{stream.number} STARTED after {stream.checkpoint}")
        sink.shard_started(Shard(stream.shard_id, "orders"), Position(stream.checkpoint) if stream.checkpoint else None)
        self._look_at(reading, world.now + 1)

    @property
    def has_brought_all(self) -> bool:
        return all(stream.finished or stream.shard_id in self._begun for stream in self._world.streams)

    # -- batches -------------------------------------------------------------------------

    def answer(self, shard_id: str) -> None:
        reading = self._held.get(shard_id)
        if reading is None:
            return
        healer = reading.stream.healer
        if healer is not None and healer.ledger.in_flight >= self._world.spec.policy.open_records_max:
            self._world.oracle.fail("answered beyond the window")
        if not reading.owed:
            self._world.oracle.fail("answered twice")
        reading.owed = False
        self._look_soon(reading)

    def _look_soon(self, reading: Reading) -> None:
        self._look_at(reading, self._world.now + self._world.latency())

    def _look_at(self, reading: Reading, when: float) -> None:
        reading.looks += 1
        self._world.after(max(0.0, when - self._world.now), self._look, reading, reading.looks)

    def _look(self, reading: Reading, looks: int) -> None:
        stream, sink, world = reading.stream, self._sink, self._world
        if looks != reading.looks or sink is None or self._held.get(stream.shard_id) is not reading or reading.ended:
            return
        tracks = stream.tracks
        if reading.next < len(tracks):
            if tracks[reading.next].rec.arrives > world.now:
                self._look_at(reading, tracks[reading.next].rec.arrives)
            elif not reading.owed:
                self._bring(reading, sink)
            return
        every_s = world.spec.trickle_s
        settled = stream.healer is not None and stream.healer.ledger.first_open() is None
        if (
            every_s
            and not settled
            and not stream.closed
            and len(tracks) < max(RECORDS_MAX, stream.given + MORE_RECORDS)
        ):
            last = tracks[-1]
            if world.now >= last.rec.arrives + every_s:
                stream.append(Rec(f"t{last.position}", arrives=world.now))
                self._look_soon(reading)
            else:
                self._look_at(reading, last.rec.arrives + every_s)
        elif world.spec.ends == "caught up" and not stream.has_children:
            sink.lag_measured(stream.shard_id, 0.0, True)
            self._look_at(reading, world.now + max(1.0, every_s))
        else:
            reading.ended = stream.closed = True
            sink.shard_ended(stream.shard_id)

    def _bring(self, reading: Reading, sink: Sink) -> None:
        world, tracks = self._world, reading.stream.tracks
        most = world.pick((0, 1, 3, 10, 99, 99) if world.spec.empty else (10, 99))
        found = []
        for track in tracks[reading.next : reading.next + most]:
            if track.rec.arrives > world.now:
                break
            found.append(track)
        slot = sink.take_slot()
        if slot is None:
            self._look_at(reading, world.now + 0.5)
            return
        slot.tracks = found  # type: ignore[attr-defined]  # it is our pool's
        reading.next += len(found)
        reading.owed = True
        sink.batch_arrived(reading.stream.shard_id, Batch(slot, len(found), Dialect.DAEMON))
        self._look_at(reading, world.now + 1)

    # -- checkpoints -----------------------------------------------------------------------

    async def checkpoint(self, shard_id: str, position: Position) -> None:
        world = self._world
        stream, reading = world.stream(shard_id), self._held.get(shard_id)
        world.oracle.checkpointed(stream, position.sequence)
        if reading is not None:
            if position.sequence < reading.asked:
                world.oracle.fail(f"checkpoint {position.sequence} is asked for after {reading.asked}")
            reading.asked = position.sequence
        await self._call(lambda: self._keep(stream, reading, position.sequence))

    async def _call(self, work: object) -> None:
        """As a service is called: late, in vain, or with the answer lost."""
        await asyncio.get_running_loop().run_in_executor(None, self._answering, work)

    def _answering(self, work: object) -> None:
        world = self._world
        if world.chance(world.spec.fails):
            raise StateUnavailable("it does not answer")
        work()  # type: ignore[operator]
        if world.chance(world.spec.fails):
            raise StateUnavailable("the answer was lost")

    def _keep(self, stream: Stream, reading: Reading | None, position: int) -> None:
        if reading is None or self._held.get(stream.shard_id) is not reading:
            raise StateUnavailable("the lease is another's")
        if position < stream.checkpoint:
            return  # the last word was asked for while this one was under way, and came first
        stream.checkpoint, stream.passed_at = position, self._world.now
        self._world.note(f"           s{stream.number} checkpoint {position} is kept")

    # -- leaving -------------------------------------------------------------------------

    async def shard_complete(self, shard_id: str) -> None:
        stream = self._world.stream(shard_id)
        reading = self._held.get(shard_id)
        await self._call(lambda: self._complete(stream, reading))

    def _complete(self, stream: Stream, reading: Reading | None) -> None:
        if reading is None or self._held.get(stream.shard_id) is not reading:
            return
        self._world.oracle.complete(stream)
        stream.finished = True
        del self._held[stream.shard_id]
        for other in self._world.streams:
            if other.parent is stream:
                self._start_later(other, self._world.latency())
        if not self._world.unfinished():
            self._all_complete.set()
            self._world.all_finished()

    def shard_left(self, shard_id: str) -> None:
        reading = self._held.pop(shard_id, None)
        if reading is not None:
            self._world.left(reading.stream)
            if self._sink is not None:
                self._comes_back(reading.stream)

    def lease_lost(self, stream: Stream) -> None:
        if self._sink is not None and self._held.pop(stream.shard_id, None) is not None:
            self._world.note(f"{self._world.now:9.3f} s{stream.number} LEASE LOST")
            self._comes_back(stream)
            self._sink.lease_lost(stream.shard_id)

    def shutdown_requested(self, stream: Stream) -> None:
        if self._sink is not None and stream.shard_id in self._held:
            self._world.note(f"{self._world.now:9.3f} s{stream.number} SHUTDOWN REQUESTED")
            self._sink.shutdown_requested(stream.shard_id)
