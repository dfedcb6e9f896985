"""Cautious mode, with real processes: nothing begins before it is permitted, whatever kind of processor it is."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from streamheal.core.messages import At, Cause, Done, Give, WorkerDied
from tests.workers.stand import Ear, Stand, line, numbers, standing, until

PLAIN = """
class App(RecordProcessor):
    def process_record(self, record):
        effect(record.json())
"""
THREADS = PLAIN + "    concurrency = 4\n"
ASYNC = """
import asyncio
class App(RecordProcessor):
    async def process_record(self, record):
        await asyncio.sleep(0)
        effect(record.json())
"""
BATCH = """
class App(RecordProcessor):
    def process_records(self, records):
        for record in records:
            effect(record.json())
"""
KEYED = PLAIN + "    def key(self, record): return str(record.json() % 3)\n"
KINDS = {"plain": PLAIN, "threads": THREADS, "async": ASYNC, "batch": BATCH, "keyed": KEYED}


async def cautious(stand: Stand, *, heal: bool = False) -> Ear:
    ear = stand.ear(heal=heal)
    ear.seat.cautious(True)
    return await ear.start()


@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_runs_was_permitted_first(tmp_path: Path, kind: str) -> None:
    async with standing(tmp_path, KINDS[kind]) as stand:
        ear = await cautious(stand)
        ear.permits = False
        ear.bring(1, line(range(30)))
        await ear.until(lambda: ear.intents)
        assert stand.effects() == []
        while 1 not in ear.reported:
            asked = {at.nth for ats in ear.intents for at in ats}
            assert {*numbers(stand.effects())} <= asked
            done, waiting = len(ear.intents), [ats for ats in ear.intents if not {*ats} & {*ear.ended_there}]
            for ats in waiting:
                ear.seat.permit(ats[0])
            await ear.until(lambda done=done: len(ear.intents) > done or 1 in ear.reported)
        assert sorted(numbers(stand.effects())) == [*range(30)]
        await ear.until(lambda: len(ear.ended_there) == 30)
        together = max(len(ats) for ats in ear.intents)
        assert together == (10 if kind == "batch" else 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_lanes_keep_their_order_in_cautious_mode(tmp_path: Path, kind: str) -> None:
    async with standing(tmp_path, KINDS[kind]) as stand:
        ear = await cautious(stand)
        ear.bring(1, line(range(60), keys=lambda n: f"k{n % 3}"))
        await ear.span_done(1)
        done = numbers(stand.effects())
        assert all([n for n in done if n % 3 == key] == [*range(key, 60, 3)] for key in range(3))


WAITS = """
    def wait(self, number):
        effect(f"{number} began")
        while number < 3 and not os.path.exists("go"): time.sleep(0.001)
        effect(f"{number} ended")
"""
RUNNING = {
    "threads": "class App(RecordProcessor):\n    concurrency = 3\n"
    "    def process_record(self, record): self.wait(record.json())\n" + WAITS,
    "async": "import asyncio\nclass App(RecordProcessor):\n    concurrency = 3\n"
    "    async def process_record(self, record): await asyncio.to_thread(self.wait, record.json())\n" + WAITS,
}


@pytest.mark.parametrize("kind", RUNNING)
async def test_what_runs_when_caution_begins_is_told_of_and_the_rest_asks(tmp_path: Path, kind: str) -> None:
    async with standing(tmp_path, RUNNING[kind]) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line(range(6)))
        await until(lambda: len(stand.effects()) == 3)
        ear.seat.cautious(True)
        await ear.until(lambda: ear.ran_before is not None)
        assert ear.ran_before == (At(1, 0), At(1, 1), At(1, 2))
        (tmp_path / "go").touch()
        await ear.span_done(1)
        await ear.until(lambda: len(ear.ended_there) == 6)
        assert sorted(ear.intents) == [(At(1, 3),), (At(1, 4),), (At(1, 5),)]


@pytest.mark.parametrize("kind", KINDS)
async def test_at_full_speed_again_nothing_waits(tmp_path: Path, kind: str) -> None:
    async with standing(tmp_path, KINDS[kind]) as stand:
        ear = await cautious(stand)
        ear.permits = False
        ear.bring(1, line(range(30)))
        await ear.until(lambda: ear.intents)
        ear.seat.cautious(False)
        await ear.span_done(1)
        assert sorted(numbers(stand.effects())) == [*range(30)]


async def test_the_next_worker_asks_as_well(tmp_path: Path) -> None:
    code = "class App(RecordProcessor):\n    def process_record(self, record): die(record.json())\n"
    async with standing(tmp_path, code) as stand:
        ear = await cautious(stand, heal=True)
        ear.bring(1, line(["fine", "segv", "fine", "fine"]))
        await ear.span_done(1)
        assert {At(1, n) for n in range(4)} <= {at for ats in ear.intents for at in ats}
        assert len(ear.of(WorkerDied)) == 1


async def test_a_cell_waits_for_its_permit_and_its_deadline_with_it(tmp_path: Path) -> None:
    code = "class App(RecordProcessor):\n    def process_record(self, record): effect(record.json())\n"
    async with standing(tmp_path, code, deadline_s=0.2) as stand:
        ear = await cautious(stand, heal=True)
        ear.permits = False
        ear.bring(1, line([7]), ask=(0,))
        await ear.failed(At(1, 0))
        await ear.until(lambda: ear.intents)
        await until(lambda: stand.pool.loop.time() > stand.pool.watchdog.now + 0.04)
        assert stand.effects() == []
        ear.seat.permit(At(1, 0))
        await ear.until(lambda: At(1, 0) in ear.settled)
        assert stand.effects() == ["7"]
        assert ear.attempts == {}


async def test_who_is_not_to_be_run_is_not_run_by_the_next_worker_either(tmp_path: Path) -> None:
    """1 waits behind 0 of its key when its span is reported and the worker dies."""
    code = """
class App(RecordProcessor):
    def process_record(self, record):
        effect(record.json())
        raise KeyError
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([0, 1], keys=lambda n: "k"), ask=(1,))
        done = await ear.span_done(1)
        assert [record.at for record in done.held] == [At(1, 1)]
        (pid,) = [process.pid for process in stand.pool._seats]
        os.kill(pid, signal.SIGKILL)
        await ear.until(lambda: ear.of(WorkerDied))
        await ear.start()
        ear.seat.give(Give(1, rest=False, queued=(1,), hold=(0,), ask=(1,)))
        ear.seat.settle(At(1, 0))
        failed = await ear.failed(At(1, 1))
        assert failed.cause is Cause.SUSPECTED
        assert stand.effects() == ["0"]


CRASHING = """
import asyncio, ctypes
class App(RecordProcessor):
    concurrency = 100
    async def process_record(self, record):
        for _ in range(record.json().get("steps", 10**9)):
            await asyncio.sleep(0.001)
        ctypes.string_at(0)
"""


async def test_of_a_hundred_coroutines_only_the_one_that_crashed_did_not_merely_stand_there(tmp_path: Path) -> None:
    async with standing(tmp_path, CRASHING) as stand:
        ear = await cautious(stand)
        ear.bring(1, line([{"steps": 20} if n == 41 else {} for n in range(100)]))
        await ear.until(lambda: ear.of(WorkerDied))
        (died,) = ear.of(WorkerDied)
        assert len(died.running) == 100
        assert {record.at for record in died.running} - {*died.stood} == {At(1, 41)}


async def test_where_no_coroutine_was_on_the_loop_none_merely_stood_there(tmp_path: Path) -> None:
    """A thread that one of them waits for crashes the process: nobody can say which."""
    code = CRASHING.replace("ctypes.string_at(0)", "await asyncio.to_thread(self.crash)")
    code += "    def crash(self):\n        time.sleep(0.05)\n        ctypes.string_at(0)\n"
    code = code.replace('.get("steps", 10**9)', '["steps"]').replace("sleep(0.001)", "sleep(0)")
    async with standing(tmp_path, code) as stand:
        ear = await cautious(stand)
        ear.bring(1, line([{"steps": 1}] * 20))
        await ear.until(lambda: ear.of(WorkerDied))
        (died,) = ear.of(WorkerDied)
        assert len(died.running) == 20
        assert died.stood == ()


async def test_a_coroutine_that_is_resumed_step_by_step_is_awaited_as_ever(tmp_path: Path) -> None:
    """Exceptions thrown into it, results, cancellation by itself, and context all come through."""
    code = """
import asyncio
async def slow(): await asyncio.sleep(10)
class App(RecordProcessor):
    async def process_record(self, record):
        try: await asyncio.wait_for(slow(), 0.01)
        except TimeoutError: effect("timeout")
        async with asyncio.timeout(0.01) as soon:
            try: await slow()
            except asyncio.CancelledError: effect("cancelled"); raise
        effect("never")
"""
    async with standing(tmp_path, code) as stand:
        ear = await cautious(stand)
        ear.bring(1, line([1]))
        failed = await ear.failed(At(1, 0))
        assert failed.cause is Cause.RAISED
        (attempt,) = ear.attempts[At(1, 0)]
        assert attempt.exception_type == "TimeoutError"
        assert stand.effects() == ["timeout", "cancelled"]


async def test_a_coroutine_that_hangs_in_cautious_mode_still_shows_where(tmp_path: Path) -> None:
    code = """
import asyncio
class App(RecordProcessor):
    async def process_record(self, record):
        await self.price()
    async def price(self):
        await asyncio.Event().wait()
"""
    async with standing(tmp_path, code, deadline_s=0.2) as stand:
        ear = await cautious(stand)
        ear.bring(1, line([1]))
        failed = await ear.failed(At(1, 0))
        assert failed.cause is Cause.OVERRAN
        (attempt,) = ear.attempts[At(1, 0)]
        assert "in price" in (attempt.stack or "")
        assert not ear.of(WorkerDied), "it is cancelled, as at full speed"


async def test_what_began_between_two_times_of_caution_is_told_of(tmp_path: Path) -> None:
    """On, off and on again before the worker has answered once: only its last answer counts."""
    async with standing(tmp_path, RUNNING["threads"]) as stand:
        ear = await stand.ear().start()
        ear.permits = False
        for wanted in (True, False, True):
            ear.seat.cautious(wanted)
        ear.bring(1, line(range(6)))
        await ear.until(lambda: ear.intents)
        assert ear.ran_before == ()
        assert stand.effects() == []


async def test_what_runs_alone_when_caution_begins_is_told_of(tmp_path: Path) -> None:
    """Nobody has asked for it, and the host may die of it: it must be marked, and nothing run as if by itself."""
    code = """
class App(RecordProcessor):
    def process_record(self, record):
        if record.attempt == 1: raise ValueError("once")
        effect("begins")
        while not os.path.exists("go"): time.sleep(0.01)
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([1]))
        await ear.failed(At(1, 0))
        ear.seat.run_alone(At(1, 0), 2, fresh=True)
        await until(stand.effects)
        ear.seat.cautious(True)
        await ear.until(lambda: ear.ran_before is not None)
        assert (ear.ran_before, ear.alone_before) == ((), (At(1, 0),))
        (tmp_path / "go").touch()
        await ear.until(lambda: ear.of(Done))


async def test_once_caution_is_over_records_go_by_keys_of_their_own_again(tmp_path: Path) -> None:
    """0 has failed, and all stand behind it, in one lane. In the next process only those of its key do."""
    sick = KEYED.replace("effect(", "n = record.json(); 1 / n; effect(")
    async with standing(tmp_path, sick) as stand:
        ear = await cautious(stand)
        ear.bring(1, line(range(9)))
        assert len((await ear.span_done(1)).held) == 8
        assert stand.effects() == []
        ear.seat.cautious(False)
        await ear.until(lambda: ear.of(WorkerDied))
        (died,) = ear.of(WorkerDied)
        assert (died.by_us, died.running) == (True, ())
        await ear.start()
        ear.seat.give(Give(1, False, tuple(range(1, 9)), (0,)))
        await ear.until(lambda: len(ear.of(Done)) == 6)
        assert sorted(numbers(stand.effects())) == [1, 2, 4, 5, 7, 8]
        ear.seat.abandon()
