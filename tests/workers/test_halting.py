"""A shard that is stopped in the middle of its spans: what its marks say is kept, and nothing runs any more."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from streamheal.core.messages import At, Halted, Start, WorkerDied
from streamheal.records import Position

from .stand import FIRST, Ear, Stand, line, standing, until

# A payload is [n, what to do].
SLOW = """
class App(RecordProcessor):
    def process_record(self, record):
        n, do = record.json()
        if do == "raise": raise ValueError(n)
        effect(n)
        if do == "wait": time.sleep(60)
"""
ASYNC = """
import asyncio
class App(RecordProcessor):
    concurrency = 4
    async def process_record(self, record):
        n, do = record.json()
        effect(n)
        if do == "wait": await asyncio.sleep(60)
"""


def payloads(records: int, *waiting: int) -> list[tuple[int, str]]:
    return [(n, "wait" if n in waiting else "") for n in range(records)]


async def effects(stand: Stand, records: int) -> None:
    await until(lambda: len(stand.effects()) >= records)


async def halted(ear: Ear) -> Halted:
    ear.seat.halt()
    await ear.until(lambda: ear.of(Halted))
    (found,) = ear.of(Halted)
    assert isinstance(found, Halted)
    return found


async def test_how_far_a_span_is_done_is_read_once_nothing_runs(tmp_path: Path) -> None:
    """6 of ten runs: 0 to 5 are done. Its neighbour on the same worker is suspected of nothing."""
    async with standing(tmp_path, SLOW) as stand:
        ear, other = await stand.ear("shardId-1").start(), await stand.ear("shardId-2").start()
        ear.bring(1, line(payloads(10, 6)))
        await effects(stand, 7)
        found = await halted(ear)
        assert found.done == ()
        assert found.first_open is not None
        assert found.first_open[:3] == (At(1, 6), Position(FIRST + 6), Position(FIRST + 5))
        await other.until(lambda: other.of(WorkerDied))
        assert [died.by_us for died in (*ear.of(WorkerDied), *other.of(WorkerDied))] == [True, True]
        ear.seat.abandon()
        assert len(stand.effects()) == 7


async def test_lanes_that_are_ahead_of_the_first_open_record_do_not_count(tmp_path: Path) -> None:
    """Four at once: 2 and 5 run, all others are done. What is checkpointed ends before 2."""
    async with standing(tmp_path, ASYNC) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line(payloads(9, 2, 5)))
        await effects(stand, 9)
        await until(lambda: ear.seat.marked_done() == 7)
        found = await halted(ear)
        assert found.first_open is not None
        assert found.first_open.before == Position(FIRST + 1)
        ear.seat.abandon()


async def test_a_record_that_failed_is_the_cores_to_know(tmp_path: Path) -> None:
    """2 has failed, which the core was told; of what it was not told, 4 is the first that is open."""
    async with standing(tmp_path, SLOW) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([(0, ""), (1, ""), (2, "raise"), (3, ""), (4, "wait")]))
        await ear.failed(At(1, 2))
        await effects(stand, 4)
        found = await halted(ear)
        assert found.first_open is not None
        assert found.first_open.at == At(1, 4)
        ear.seat.abandon()


async def test_a_failed_record_that_was_settled_is_passed(tmp_path: Path) -> None:
    async with standing(tmp_path, SLOW) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([(0, ""), (1, "raise"), (2, ""), (3, "wait"), (4, "")]))
        await ear.failed(At(1, 1))
        ear.seat.settle(At(1, 1))
        ear.seat.forget(At(1, 1))
        await effects(stand, 3)
        found = await halted(ear)
        assert found.first_open is not None
        assert found.first_open[:3] == (At(1, 3), Position(FIRST + 3), Position(FIRST + 2))
        ear.seat.abandon()


async def test_a_shard_between_two_workers_is_told_of_at_once(tmp_path: Path) -> None:
    """The worker has died by itself, with 3 running, and the next one is not there yet.

    3 is the core's to know: in quarantine, maybe, before the shard is left.
    """
    async with standing(tmp_path, SLOW) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line(payloads(5, 3)))
        await effects(stand, 4)
        process = ear.seat.process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        await ear.until(lambda: ear.of(WorkerDied))
        found = await halted(ear)
        assert found.first_open is not None
        assert found.first_open.at == At(1, 4)
        ear.seat.abandon()


async def test_a_shard_that_waits_for_a_process_begins_in_none_any_more(tmp_path: Path) -> None:
    """Worker and spare have died. The next process is another shard's alone."""
    async with standing(tmp_path, SLOW) as stand:
        ear, other = await stand.ear("shardId-1").start(), await stand.ear("shardId-2").start()
        await until(lambda: stand.pool._warm)
        assert ear.seat.process is not None
        stand.pool._spares_from = float("inf")
        for process in (ear.seat.process, *stand.pool._warm):
            os.kill(process.pid, signal.SIGKILL)
        await until(lambda: other.of(WorkerDied) and not stand.pool._warm)
        ear.up = False
        ear.seat.start(Start(None, None, 0.0))
        assert ear.seat.stage == "waiting"
        assert await halted(ear) == Halted()
        stand.pool._spares_from = 0.0
        await other.start()
        assert not ear.up
        ear.seat.abandon()


async def test_where_nothing_runs_nobody_is_killed(tmp_path: Path) -> None:
    async with standing(tmp_path, SLOW) as stand:
        ear, other = await stand.ear("shardId-1").start(), await stand.ear("shardId-2").start()
        ear.bring(1, line([(0, "raise"), (1, "")]))
        await ear.span_done(1)
        assert await halted(ear) == Halted()
        ear.seat.abandon()
        other.bring(1, line([(2, "")]))
        await other.span_done(1)
        assert other.of(WorkerDied) == []


async def test_a_span_that_nobody_has_come_to_is_open_from_its_first_record(tmp_path: Path) -> None:
    async with standing(tmp_path, SLOW) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line(payloads(3, 0)))
        ear.bring(2, line(payloads(3), first=3))
        await effects(stand, 1)
        assert await halted(ear) == Halted()
        ear.seat.abandon()


ENDLESS = """
class App(RecordProcessor):
    def initialize(self, shard):
        effect(os.getpid())
        time.sleep(60)
    def process_record(self, record): pass
"""


async def test_initialize_that_still_runs_is_stopped(tmp_path: Path) -> None:
    async with standing(tmp_path, ENDLESS) as stand:
        ear = stand.ear()
        ear.seat.start(Start(None, None, 0.0))
        await effects(stand, 1)
        assert await halted(ear) == Halted()
        ear.seat.abandon()
        assert not ear.up
        assert ear.uninitialized == []


async def test_initialize_of_a_shard_that_ends_meanwhile_is_stopped(tmp_path: Path) -> None:
    async with standing(tmp_path, ENDLESS) as stand:
        ear = stand.ear()
        ear.seat.start(Start(None, None, 0.0))
        await effects(stand, 1)
        process = ear.seat.process
        assert process is not None
        ear.seat.end("shard_ended")
        await process.dead.wait()
        assert process.doomed == "by_us"
