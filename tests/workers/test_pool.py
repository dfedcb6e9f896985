"""Places, spares, cells and hooks: the processes of one host."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from streamheal.core.messages import At, Cause, Done, Failed, WorkerDied
from streamheal.workers.arena import SLOTS

from .stand import Ear, line, standing, until
from .test_decode import aggregate, body

HANDLE = "def handle(record): effect(f'{record.json()} {record.shard_id} {os.getpid()}')"


async def test_shards_are_dealt_out_to_the_least_loaded(tmp_path: Path) -> None:
    async with standing(tmp_path, HANDLE, "app:handle", workers=2) as stand:
        ears = [await stand.ear(f"shardId-{n}").start() for n in range(4)]
        pids = [ear.seat.process.pid for ear in ears if ear.seat.process is not None]
        assert len(set(pids)) == 2
        assert sorted(pids.count(pid) for pid in set(pids)) == [2, 2]
        await until(lambda: set(pids) < set(stand.pids))  # and a spare beside them


async def test_initialize_is_called_with_the_shard_before_its_first_record(tmp_path: Path) -> None:
    code = """
class App(RecordProcessor):
    def initialize(self, shard): effect(f"{shard.shard_id} of {shard.stream}")
    def process_record(self, record): effect("record")
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear("shardId-9").start()
        ear.bring(1, line([0]))
        await ear.span_done(1)
        assert stand.effects() == ["shardId-9 of orders", "record"]


INITIALIZE = """
class App(RecordProcessor):
    def initialize(self, shard):
        print("connecting")
        if not os.path.exists("up"): {fails}
    def process_record(self, record): effect("record")
"""


@pytest.mark.parametrize(
    ("fails", "outcome", "says"),
    [
        ("raise ConnectionError('no database')", "exception", "no database"),
        ("die('exit')", "crash", "the process exited with code 7"),
        ("die('hang')", "deadline", "still running"),
    ],
)
async def test_initialize_that_fails_is_told_and_tried_again(
    tmp_path: Path, fails: str, outcome: str, says: str
) -> None:
    async with standing(tmp_path, INITIALIZE.format(fails=fails), initialize_s_max=0.4) as stand:
        ear = await stand.ear().start()
        (attempt,) = ear.uninitialized
        assert attempt.outcome == outcome
        assert says in (attempt.message or "")
        assert attempt.log == "connecting\n"
        (tmp_path / "up").touch()
        ear.uninitialized.clear()
        await ear.start()
        assert ear.up
        ear.bring(1, line([0]))
        await ear.span_done(1)


async def test_a_cell_is_a_fresh_process_with_only_that_record(tmp_path: Path) -> None:
    code = """
class App(RecordProcessor):
    def initialize(self, shard): effect(f"initialize {os.getpid()}")
    def process_record(self, record):
        effect(f"{record.json()} {record.attempt} {os.getpid()}")
        if record.json() == 1: raise ValueError(f"try {record.attempt}")
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([0, 1, 2]), ask=(0, 1, 2))
        await ear.span_done(1)
        for nth in range(3):
            ear.seat.run_alone(At(1, nth), 2, fresh=True)
        await ear.until(lambda: len(ear.of(Done)) == 2 and ear.attempts.get(At(1, 1)))
        assert {(done.at, done.alone) for done in ear.of(Done)} == {(At(1, 0), True), (At(1, 2), True)}
        failed: Failed = ear.of(Failed)[-1]
        assert (failed.record.at, failed.cause, failed.alone) == (At(1, 1), Cause.RAISED, True)
        assert failed.began < failed.ended
        attempt = ear.attempts[At(1, 1)][0]
        assert (attempt.message, attempt.alone) == ("try 2", True)
        pids = [text.split()[-1] for text in stand.effects() if not text.startswith("initialize")]
        assert len(set(pids)) == 3
        ear.seat.run_alone(At(1, 1), 3, fresh=True)
        await ear.failed(At(1, 1), 3)
        assert stand.effects()[-1].split()[-1] not in pids


async def test_a_cell_that_cannot_be_initialized_says_nothing_of_the_record(tmp_path: Path) -> None:
    code = INITIALIZE.format(fails="raise ConnectionError('no database')")
    async with standing(tmp_path, code) as stand:
        (tmp_path / "up").touch()
        ear = await stand.ear().start()
        ear.bring(1, line([0]), ask=(0,))
        await ear.span_done(1)
        (tmp_path / "up").unlink()
        ear.seat.run_alone(At(1, 0), 1, fresh=True)
        failed = await ear.failed(At(1, 0), 2)
        assert (failed.cause, failed.alone) == (Cause.THROTTLED, True)
        assert ear.attempts[At(1, 0)][0].outcome == "throttled"


@pytest.mark.parametrize("mode", ["", "async "])
async def test_hooks_are_called_and_give_the_place_up(tmp_path: Path, mode: str) -> None:
    code = f"""
class App(RecordProcessor):
    {mode}def process_record(self, record): effect("record")
    {mode}def shard_ended(self): effect("ended")
    {mode}def shutdown_requested(self): raise OSError("cannot flush")
    def lease_lost(self): die("hang")
"""
    async with standing(tmp_path, code, hook_s_max=0.3) as stand:
        one, two, three = [await stand.ear(f"shardId-{n}").start() for n in range(3)]
        one.seat.end("shard_ended")
        await one.until(lambda: one.over)
        assert (stand.effects(), one.hook_failures) == (["ended"], [])
        two.seat.end("shutdown_requested")
        await two.until(lambda: two.over)
        ((hook, attempt),) = two.hook_failures
        assert (hook, attempt.exception_type, attempt.message) == ("shutdown_requested", "OSError", "cannot flush")
        two_again = await stand.ear("shardId-2").start()
        three.seat.end("lease_lost")
        await three.until(lambda: three.over)
        ((hook, attempt),) = three.hook_failures
        assert (hook, attempt.outcome) == ("lease_lost", "deadline")
        await two_again.until(lambda: two_again.of(WorkerDied))
        assert two_again.of(WorkerDied)[0].by_us, "nobody here is suspect"


async def test_abandoning_a_busy_shard_kills_its_process_and_suspects_nobody(tmp_path: Path) -> None:
    code = """
class App(RecordProcessor):
    concurrency = 2
    def process_record(self, record):
        effect(record.json())
        if record.json() != "quick": time.sleep(60)
"""
    async with standing(tmp_path, code) as stand:
        one, two = await stand.ear("shardId-1").start(), await stand.ear("shardId-2").start()
        free = len(stand.pool._arena._free)
        one.bring(1, line(["slow"]))
        two.bring(1, line(["slow too"]))
        await _effects(stand.folder, 2)
        one.seat.abandon()
        await two.until(lambda: two.of(WorkerDied))
        died: WorkerDied = two.of(WorkerDied)[0]
        assert (died.by_us, [named.at for named in died.running]) == (True, [At(1, 0)])
        assert one.of(WorkerDied) == []
        assert len(stand.pool._arena._free) == free - 1, "its slot is free, the other's is still needed"
        assert two.attempts == {}


async def test_abandoning_an_idle_shard_disturbs_nobody(tmp_path: Path) -> None:
    async with standing(tmp_path, HANDLE, "app:handle") as stand:
        one, two = await stand.ear("shardId-1").start(), await stand.ear("shardId-2").start()
        one.bring(1, line([1]))
        await one.span_done(1)
        one.seat.abandon()
        two.bring(1, line([2]))
        await two.span_done(1)
        assert two.of(WorkerDied) == []
        again = await stand.ear("shardId-1").start()
        again.bring(1, line([3]))
        await again.span_done(1)


async def test_a_spare_that_dies_is_replaced_after_a_while(tmp_path: Path) -> None:
    async with standing(tmp_path, HANDLE, "app:handle") as stand:
        ear = await stand.ear(heal=True).start()
        await _warm(ear, 1)
        os.kill(stand.pool._warm[0].pid, signal.SIGKILL)
        await until(lambda: stand.log.of("spare_died"))
        await _warm(ear, 1)
        # Then the import breaks: spares back off, the worker runs on, and mending it heals.
        source = (tmp_path / "app.py").read_text()
        (tmp_path / "app.py").write_text("raise OSError('half deployed')")
        os.kill(stand.pool._warm[0].pid, signal.SIGKILL)
        await until(lambda: len(stand.log.of("spare_died")) >= 3)
        ear.bring(1, line([1]))
        await ear.span_done(1)
        assert "half deployed" in stand.log.of("spare_died")[-1]["why"]
        (tmp_path / "app.py").write_text(source)
        await _warm(ear, 1)


async def test_slots_are_given_back_when_a_span_is_reported(tmp_path: Path) -> None:
    async with standing(tmp_path, "def handle(record): raise ValueError", "app:handle") as stand:
        ear = await stand.ear().start()
        free = len(stand.pool._arena._free)
        for span in range(1, 4):
            ear.bring(span, line([b"x" * 1000, b"y"], first=span * 10))
            await ear.span_done(span)
        assert len(stand.pool._arena._free) == free
        assert ear.seat.record(At(2, 0)).data == b"x" * 1000
        ear.seat.settle(At(2, 0))
        ear.seat.forget(At(2, 0))


async def test_every_slot_in_use_is_none_left(tmp_path: Path) -> None:
    async with standing(tmp_path, HANDLE, "app:handle") as stand:
        taken = []
        while (slot := stand.pool.take_slot()) is not None:
            taken.append(slot)
        assert len(taken) == SLOTS
        stand.pool.give_back(taken[0])
        assert stand.pool.take_slot() is taken[0]


async def test_ten_thousand_held_records_and_a_big_payload_come_through(tmp_path: Path) -> None:
    """A report longer than a datagram may be, and a record as big as Kinesis allows, sent back to be run again."""
    code = """
class App(RecordProcessor):
    def process_record(self, record):
        if record.attempt == 1 and record.data[:1] == b"x": raise ValueError(record.data[:100].decode() * 10_000)
        effect(len(record.data))
    def mask(self, record): return record.data
"""
    async with standing(tmp_path, code, ordering="shard") as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([b"x" * 10_000_000, *[b""] * 10_000]))
        done = await ear.span_done(1)
        assert len(done.held) == 10_000
        assert ear.masked[At(1, 0)] == b"x" * 10_000_000
        ear.seat.retry(At(1, 0), 2)
        await ear.until(lambda: len(ear.of(Done)) == 10_001)
        assert stand.effects()[0] == "10000000"


async def test_after_a_death_thousands_held_are_given_anew(tmp_path: Path) -> None:
    code = """
class App(RecordProcessor):
    def process_record(self, record):
        n = record.json()
        if n == 0 and record.attempt == 1: raise Throttled
        if n == 2500: os._exit(1)
        effect(n)
"""
    async with standing(tmp_path, code, ordering="shard") as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line(range(5000)))
        await ear.until(lambda: ear.open == 0)
        assert ear.aside == {At(1, 2500): "CRASHED"}
        assert stand.effects() == [str(n) for n in range(5000) if n != 2500]


async def test_kpl_records_run_and_are_named_one_by_one(tmp_path: Path) -> None:
    from streamheal.records import Dialect, Position

    code = """
class App(RecordProcessor):
    def process_record(self, record):
        if record.data == b"bad": raise ValueError
        effect(f"{record.data.decode()} {record.partition_key} {record.sub_sequence_number}")
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        packed = aggregate(("a", b"old", None), ("a", b"good", None), ("b", b"bad", None))
        raw = bytes(body(packed, b"next"))
        first = Position(int(body_first(raw)), 0)
        ear.bring(1, raw, Dialect.GET_RECORDS, first)
        done = await ear.span_done(1)
        assert done.records == 3
        (failed,) = ear.of(Failed)
        assert (failed.record.position, failed.record.before) == (
            Position(first.sequence, 2),
            Position(first.sequence, 1),
        )
        assert stand.effects() == ["good a 1", "next k1 0"]


async def test_the_oldest_open_arrival_is_known(tmp_path: Path) -> None:
    async with standing(tmp_path, "def handle(record): raise ValueError", "app:handle") as stand:
        ear = await stand.ear().start()
        assert ear.seat.arrival() is None
        ear.bring(1, line([1]))
        assert ear.seat.arrival() == 1795424770.703
        await ear.span_done(1)
        assert ear.seat.arrival() == 1795424770.703
        ear.seat.settle(At(1, 0))
        ear.seat.forget(At(1, 0))
        assert ear.seat.arrival() is None


def body_first(raw: bytes) -> str:
    import json

    found: str = json.loads(raw)["Records"][0]["SequenceNumber"]
    return found


async def _warm(ear: Ear, least: int) -> None:
    await until(lambda: len(ear._stand.pool._warm) >= least)


async def _effects(folder: Path, least: int) -> None:
    file = folder / "effects"
    await until(lambda: file.exists() and len(file.read_text().splitlines()) >= least)
