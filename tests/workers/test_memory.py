"""Processes that grow are ended before the kernel ends their host, and only who grows one alone is blamed."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamheal import platform
from streamheal.core.messages import At, Cause, Done, Failed, WorkerDied
from streamheal.errors import TargetError
from streamheal.workers.process import LOOK_EVERY_S

from .stand import line, numbers, standing, until

MIB = 1 << 20

EATING = """
class App(RecordProcessor):
    concurrency = 2
    def process_record(self, record):
        n = record.json()
        if n == 1: self.eat()
        if n == 2 and record.attempt == 1: time.sleep(60)
        effect(n)
    def eat(self):
        eaten = []
        while True:
            eaten.append(bytearray(4 << 20))
            time.sleep(0.001)
"""


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"memory_each": 96 * MIB}, "grew past 96 MiB"),
        ({"memory_together": 256 * MIB}, "the most when all worker processes together passed 256 MiB"),
    ],
)
async def test_who_grows_a_process_alone_is_named_and_its_neighbour_is_done(
    tmp_path: Path, limits: dict[str, int], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "_CGROUPS", "/nowhere")  # the kernel may be quicker, and tells no stack
    async with standing(tmp_path, EATING, **limits) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([1, 2, 3]))
        await ear.until(lambda: ear.open == 0)
        assert ear.aside == {At(1, 0): "CRASHED"}
        assert sorted(stand.effects()) == ["2", "3"]
        blamed = [attempt for attempt in ear.attempts[At(1, 0)] if attempt.outcome == "crash"]
        assert len(blamed) == 2, "in the worker, and alone"
        yielded = len(ear.attempts[At(1, 0)]) - 2  # where its neighbour still ran alone, too
        assert ear.deaths == ["memory"] * (2 + yielded)
        assert [fields["cause"] for fields in stand.log.of("worker_died")] == ear.deaths
        for attempt in blamed:
            assert attempt.signal is None
            assert says in (attempt.message or "")
        assert ear.attempts[At(1, 0)][-1].frames == ("app.py:process_record", "app.py:eat")


async def test_of_several_that_run_alone_one_that_has_no_room_is_tried_again_and_not_blamed(tmp_path: Path) -> None:
    """Each needs no more than a worker may have; only at once they are too much."""
    code = """
class App(RecordProcessor):
    def process_record(self, record):
        if record.attempt == 1: raise ValueError("once")
        held = [bytearray(1 << 20) for _ in range(150)]
        while not os.path.exists("go"): time.sleep(0.01)
        effect(record.json())
"""
    async with standing(tmp_path, code, memory_together=320 * MIB) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([1, 2]))
        for at in (At(1, 0), At(1, 1)):
            await ear.failed(at)
            ear.seat.run_alone(at, 2, fresh=True)
        await ear.until(lambda: len(ear.of(Failed)) == 3)
        crowded: Failed = ear.of(Failed)[-1]
        assert (crowded.cause, crowded.alone) == (Cause.THROTTLED, True)
        attempt = ear.attempts[crowded.record.at][-1]
        assert attempt.outcome == "throttled"
        assert attempt.message == "ended to make room: all worker processes together passed 320 MiB"
        assert ear.deaths == ["memory"]
        (tmp_path / "go").touch()
        await ear.until(lambda: ear.of(Done))
        ear.seat.run_alone(crowded.record.at, 2, fresh=True)
        await ear.until(lambda: len(ear.of(Done)) == 2)
        assert sorted(stand.effects()) == ["1", "2"]


HOLD = """
import mmap
def hold(mib):
    held = mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE)
    for at in range(0, mib << 20, 4096): held[at] = 1
    return held
"""
HOLDING = (
    HOLD
    + """
def wait(name):
    while not os.path.exists(name): time.sleep(0.01)
class App(RecordProcessor):
    def initialize(self, shard): self.ballast = hold(BALLAST)
    def process_record(self, record):
        n = record.json()
        if n == 1 and record.attempt == 1: raise ValueError("once")
        with hold(130 if n == 1 else 120):
            effect(f"{n} holds")
            wait("go" if n == 1 else f"go {n}")
            effect(f"{n} done")
"""
)


async def test_one_that_runs_alone_yields_to_what_others_took_since_it_began(tmp_path: Path) -> None:
    """It has grown most, but by itself it would have had room. Beside it one after another takes as much.

    Twice it is ended, tried again, and not blamed. Then the others yield, or it would never come to an end.
    """
    async with standing(tmp_path, HOLDING.replace("BALLAST", "1"), memory_together=256 * MIB) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([1]))
        await ear.failed(At(1, 0))
        for nth in (2, 3, 4):
            ear.seat.run_alone(At(1, 0), nth, fresh=True)
            await until(lambda nth=nth: stand.counts()["1 holds"] == nth - 1)
            ear.bring(nth, line([nth], first=nth))
            if nth == 4:
                break
            failed = await ear.failed(At(1, 0), nth)
            assert (failed.cause, failed.alone) == (Cause.THROTTLED, True)
            attempt = ear.attempts[At(1, 0)][-1]
            assert attempt.outcome == "throttled"
            assert attempt.message == "ended to make room: all worker processes together passed 256 MiB"
            (tmp_path / f"go {nth}").touch()
            await ear.span_done(nth)
        await ear.until(lambda: ear.of(WorkerDied))
        (died,) = ear.of(WorkerDied)
        assert [named.at for named in died.running] == [At(4, 0)]
        assert ear.deaths == ["memory"] * 3
        (tmp_path / "go").touch()
        await ear.until(lambda: ear.of(Done))
        assert stand.counts()["1 done"] == 1


async def test_who_comes_slowly_to_the_limit_is_named_though_others_grew_a_little(tmp_path: Path) -> None:
    code = (
        HOLD
        + """
class App(RecordProcessor):
    def process_record(self, record):
        n = record.json()
        if n == 1 and record.attempt == 1: raise ValueError("once")
        held = [hold(100 if n == 1 else 6)]
        effect(n)
        while not os.path.exists("go"): time.sleep(0.01)
        while n == 1:
            held.append(hold(1))
            time.sleep(0.002)
"""
    )
    async with standing(tmp_path, code, memory_together=256 * MIB) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([1]))
        await ear.failed(At(1, 0))
        ear.seat.run_alone(At(1, 0), 2, fresh=True)
        await until(lambda: "1" in stand.effects())
        ear.bring(2, line([2], first=2))
        await until(lambda: "2" in stand.effects())
        (tmp_path / "go").touch()
        failed = await ear.failed(At(1, 0), 2)
        assert (failed.cause, failed.alone) == (Cause.CRASHED, True)


async def test_who_grew_is_ended_and_not_who_was_large_from_the_start(tmp_path: Path) -> None:
    """Four shards were initialized in the worker, and take more than the record that grows alone beside it."""
    async with standing(tmp_path, HOLDING.replace("BALLAST", "40"), memory_together=320 * MIB) as stand:
        others = [await stand.ear(f"shardId-{n}").start() for n in (2, 3, 4)]
        ear = await stand.ear().start()
        ear.bring(1, line([1]))
        await ear.failed(At(1, 0))
        ear.seat.run_alone(At(1, 0), 2, fresh=True)
        failed = await ear.failed(At(1, 0), 2)
        assert (failed.cause, failed.alone) == (Cause.CRASHED, True)
        message = ear.attempts[At(1, 0)][-1].message or ""
        assert message.endswith("the most when all worker processes together passed 320 MiB"), message
        assert not any(one.of(WorkerDied) for one in (ear, *others))


async def test_shared_memory_is_held_against_nobody(tmp_path: Path) -> None:
    """A batch lies in memory that all processes map, and every one that reads it has it resident."""
    code = "class App(RecordProcessor):\n    def process_record(self, record): effect(len(record.data))"
    async with standing(tmp_path, code, memory_each=64 * MIB) as stand:
        ear = await stand.ear(heal=True).start()
        for span in range(1, 13):
            ear.bring(span, line([b"x" * (6 * MIB)], first=span))
        await ear.until(lambda: ear.open == 0)
        assert stand.effects() == [str(6 * MIB)] * 12
        assert not ear.of(WorkerDied)


async def test_a_processor_that_needs_more_than_it_may_have_is_refused_at_the_start(tmp_path: Path) -> None:
    code = (
        "ballast = bytearray(80 << 20)\nfor n in range(0, len(ballast), 4096): ballast[n] = 1\ndef handle(record): pass"
    )
    host_says = r"app:handle uses \d+ MiB, and a worker may use no more than 64 MiB"
    kernel_says = "grew past 64 MiB, and was killed by the kernel"
    with pytest.raises(TargetError, match=rf"({host_says}|{kernel_says}) +\(--worker-memory\)"):
        async with standing(tmp_path, code, "app:handle", memory_each=64 * MIB):
            pass


LEAKING = """
import asyncio
kept = []
def leak(record):
    if len(kept) < 115: kept.append(bytearray(1 << 20))
    effect(f"{record.json()} {os.getpid()}")
class Plain(RecordProcessor):
    def process_record(self, record): leak(record); time.sleep(0.002)
class Threads(Plain):
    concurrency = 8
class Async(RecordProcessor):
    async def process_record(self, record): leak(record); await asyncio.sleep(0.01)
class Batch(RecordProcessor):
    def process_records(self, records):
        for record in records: leak(record); time.sleep(0.002)
"""


@pytest.mark.parametrize("target", ["Plain", "Threads", "Async", "Batch"])
async def test_a_worker_that_leaks_is_replaced_between_records(tmp_path: Path, target: str) -> None:
    """Each record runs once, nobody is blamed; both shards of the worker go on in the spare."""
    async with standing(tmp_path, LEAKING, f"app:{target}", memory_each=160 * MIB) as stand:
        ears = [await stand.ear(f"shardId-{n}", heal=True).start() for n in (1, 2)]
        brought = 0
        while not (recycled := stand.log.of("worker_recycled")):
            brought += 1
            for shard, ear in enumerate(ears):
                ear.bring(brought, line([brought * 100 + shard * 50 + n for n in range(16)], first=brought * 16))
            for ear in ears:
                await ear.until(lambda ear=ear: ear.open == 0)
        for ear in ears:
            await ear.until(lambda ear=ear: ear.up and ear.of(WorkerDied))
            ear.bring(brought + 1, line([9000 + ears.index(ear)], first=brought * 16 + 16))
            await ear.until(lambda ear=ear: ear.open == 0)
            assert [(died.by_us, died.running) for died in ear.of(WorkerDied)] == [(True, ())]
            assert (ear.deaths, ear.aside) == ([], {})
        found = numbers(stand.effects())
        assert len(found) == len(set(found)) == brought * 32 + 2, "none ran twice"
        assert recycled[0]["memory_mib"] >= 128 > recycled[0]["began_with_mib"]
        assert len({text.split()[1] for text in stand.effects()}) == 2


async def test_a_processor_that_needs_much_from_the_start_is_let_be(tmp_path: Path) -> None:
    code = """
class App(RecordProcessor):
    def initialize(self, shard): self.ballast = [bytearray(1 << 20) for _ in range(100)]
    def process_record(self, record):
        time.sleep(0.02)
        effect(record.json())
"""
    async with standing(tmp_path, code, memory_each=128 * MIB) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line(list(range(20))))
        await ear.until(lambda: ear.open == 0)
        assert len(stand.log.of("worker_memory_tight")) == 1, "said once"
        assert not ear.of(WorkerDied)


async def test_a_record_that_holds_much_while_it_runs_is_no_leak(tmp_path: Path) -> None:
    code = """
class App(RecordProcessor):
    def process_record(self, record):
        if record.json() == 1:
            held = [bytearray(1 << 20) for _ in range(100)]
            while not os.path.exists("go"): time.sleep(0.01)
        effect(record.json())
"""
    async with standing(tmp_path, code, memory_each=128 * MIB) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([0, 1, 2]))
        assert ear.seat.process is not None
        process = ear.seat.process
        looks = 4
        seen = 0.0
        while looks:
            await until(lambda seen=seen: process.memory > 105 * MIB and process.awake_s > seen)
            seen, looks = process.awake_s, looks - 1
        assert process.draining is None
        (tmp_path / "go").touch()
        await ear.until(lambda: ear.open == 0)
        assert not ear.of(WorkerDied)


async def test_a_leaking_worker_is_not_replaced_while_a_shard_ends_in_it(tmp_path: Path) -> None:
    """Nothing runs in it any more but the processor's last hook."""
    code = """
kept = []
class App(RecordProcessor):
    def process_record(self, record): kept.append(bytearray(140 << 20))
    def shard_ended(self):
        effect("begins")
        while not os.path.exists("go"): time.sleep(0.01)
        effect("ends")
"""
    async with standing(tmp_path, code, memory_each=160 * MIB) as stand:
        ear = await stand.ear().start()
        process = ear.seat.process
        assert process is not None
        ear.bring(1, line([1]))
        await ear.span_done(1)
        ear.seat.end("shard_ended")
        process.draining = set()  # as if it had been emptied just before
        await until(stand.effects)
        seen = process.awake_s
        await until(lambda: process.doomed or process.awake_s > seen + 3 * LOOK_EVERY_S)
        (tmp_path / "go").touch()
        await ear.until(lambda: ear.over)
        assert (stand.effects(), ear.hook_failures) == (["begins", "ends"], [])
