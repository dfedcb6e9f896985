"""Whoever runs too long is ended, and nobody who merely stood beside it, or was stopped, or was not looked at."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamheal.core.messages import At, Cause, Done, Failed, WorkerDied

from .stand import line, standing, until

WAITING = """
import asyncio
class App(RecordProcessor):
    deadline_s = 0.4
    async def process_record(self, record):
        n = record.json()
        if n == 3: return await self.charge()
        await asyncio.sleep(0.25)
        effect(n)
    async def charge(self):
        {charge}
"""


async def test_a_coroutine_past_its_deadline_is_cancelled_and_its_neighbours_go_on(tmp_path: Path) -> None:
    """Its process lives; it has failed where it waited, and is the only one that has."""
    async with standing(tmp_path, WAITING.format(charge="await asyncio.Event().wait()"), concurrency=2) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([3, 1, 2, 4, 5, 6]))
        failed = await ear.failed(At(1, 0))
        assert (failed.cause, failed.alone) == (Cause.OVERRAN, False)
        (attempt,) = ear.attempts[At(1, 0)]
        assert (attempt.outcome, attempt.exception_type, attempt.signal) == ("deadline", None, None)
        assert attempt.message == f"still running after {attempt.duration_s:.1f} s"
        assert attempt.frames == ("app.py:process_record", "app.py:charge")
        assert "in charge" in (attempt.stack or "")
        assert attempt.duration_s >= 0.4
        await ear.span_done(1)
        assert stand.effects() == ["1", "2", "4", "5", "6"]
        assert not ear.of(WorkerDied)


async def test_what_is_queued_behind_a_cancelled_coroutine_waits_for_it(tmp_path: Path) -> None:
    async with standing(tmp_path, WAITING.format(charge="await asyncio.Event().wait()")) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([3, 1], keys=lambda n: "one"))
        await ear.span_done(1)
        assert stand.effects() == []
        ear.seat.settle(At(1, 0))
        ear.bring(2, line([2], first=10, keys=lambda n: "one"))
        await ear.span_done(2)
        assert stand.effects() == ["1", "2"]


async def test_a_coroutine_that_catches_its_cancellation_and_returns_is_done(tmp_path: Path) -> None:
    charge = "try: await asyncio.Event().wait()\n        except asyncio.CancelledError: effect('gave up')"
    async with standing(tmp_path, WAITING.format(charge=charge)) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([3, 1]))
        await ear.span_done(1)
        assert stand.effects() == ["1", "gave up"]
        ear.bring(2, line(["again"], first=10))
        await ear.span_done(2)
        assert not ear.of(Failed), "and the cancellation stays with its record"


async def test_a_coroutine_that_does_not_end_is_stopped_with_its_process(tmp_path: Path) -> None:
    """Its neighbours, who are in time, are not past their deadline; all show where they were."""
    charge = "while True:\n            try: await asyncio.sleep(60)\n            except asyncio.CancelledError: pass"
    async with standing(tmp_path, WAITING.format(charge=charge), concurrency=2) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([3, 1, 2, 4, 5, 6]))
        await ear.until(lambda: ear.of(WorkerDied))
        died: WorkerDied = ear.of(WorkerDied)[0]
        assert died.overran == (At(1, 0),)
        assert len(died.running) == 2
        await ear.until(lambda: ear.open == 0)
        assert ear.aside == {At(1, 0): "OVERRAN"}
        for attempt in ear.attempts[At(1, 0)]:
            assert attempt.frames == ("app.py:process_record", "app.py:charge")
        neighbour = ear.attempts[died.running[1].at][0]
        assert neighbour.outcome == "crash"
        assert "another record" in (neighbour.message or "")


UNTIL_TOLD = """
class App(RecordProcessor):
    deadline_s = 0.3
    def process_record(self, record):
        n = record.json()
        effect(f"{n} begins")
        while n == 1 and not os.path.exists("go"): time.sleep(0.01)
        effect(f"{n} ends")
"""


async def test_a_process_that_is_stopped_goes_on_and_its_record_loses_no_time(tmp_path: Path) -> None:
    """Stopped for longer than the deadline, a tenth of a second at a time."""
    async with standing(tmp_path, UNTIL_TOLD) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([1]))
        await until(stand.effects)
        assert ear.seat.process is not None
        process = ear.seat.process
        while process.stops < 8:
            os.kill(process.pid, signal.SIGSTOP)
            await until(lambda seen=process.stops: process.stops > seen)
        (tmp_path / "go").touch()
        await ear.span_done(1)
        assert [fields["pid"] for fields in stand.log.of("worker_stopped")] == [process.pid], "said once"
        assert not ear.of(WorkerDied)


async def test_a_process_that_is_stopped_again_and_again_is_replaced_and_nobody_is_blamed(tmp_path: Path) -> None:
    async with standing(tmp_path, UNTIL_TOLD) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([1]))
        await until(stand.effects)
        assert ear.seat.process is not None
        process = ear.seat.process

        def stop() -> bool:
            if not process.dead.is_set():
                os.kill(process.pid, signal.SIGSTOP)
            return process.dead.is_set()

        await until(stop)
        (tmp_path / "go").touch()
        await ear.until(lambda: ear.open == 0)
        (died,) = ear.of(WorkerDied)
        assert (died.by_us, len(died.running), ear.deaths, ear.aside) == (True, 1, ["stopped"], {})


async def test_a_cell_that_is_stopped_again_and_again_is_replaced_and_nobody_is_blamed(tmp_path: Path) -> None:
    async with standing(tmp_path, UNTIL_TOLD) as stand:
        ear = await stand.ear(heal=True).start()
        ear._heal = False
        ear.bring(1, line([1]), ask=(0,))
        await ear.span_done(1)
        ear._heal = True
        ear.seat.run_alone(At(1, 0), 2, fresh=True)
        await until(stand.effects)
        (cell,) = stand.pool.cells._live

        def stop() -> bool:
            if not cell.dead.is_set():
                os.kill(cell.pid, signal.SIGSTOP)
            return cell.dead.is_set()

        await until(stop)
        (tmp_path / "go").touch()
        await ear.until(lambda: ear.of(Done))
        assert [failed.cause for failed in ear.of(Failed)] == [Cause.SUSPECTED, Cause.THROTTLED]
        assert ear.aside == {}


async def test_a_record_that_stops_its_own_process_is_found(tmp_path: Path) -> None:
    """The first two processes are excused for it; then it is a death like any other."""
    code = """
class App(RecordProcessor):
    def process_record(self, record):
        while record.json() == 1: os.kill(os.getpid(), signal.SIGSTOP)
        effect(record.json())
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([0, 1, 2]))
        await ear.until(lambda: ear.open == 0)
        assert ear.aside == {At(1, 1): "CRASHED"}
        assert [died.by_us for died in ear.of(WorkerDied)] == [True, True, False]
        assert "stopped again and again" in (ear.attempts[At(1, 1)][-1].message or "")


async def test_a_worker_that_is_held_between_records_is_replaced_and_nobody_is_blamed(tmp_path: Path) -> None:
    """What is due there is a try, or the next of a lane: a word to it, that it never takes."""
    code = """
import ctypes, threading
class App(RecordProcessor):
    deadline_s = 0.3
    def process_record(self, record):
        if record.attempt > 1: return effect("done")
        threading.Thread(target=self.hold, daemon=True).start()
        raise ValueError("held from now on")
    def hold(self):
        while not os.path.exists("go"): time.sleep(0.01)
        effect("held")
        ctypes.PyDLL(None).sleep(60)
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear(heal=False).start()
        ear.bring(1, line([1]))
        await ear.failed(At(1, 0))
        await ear.span_done(1)
        (tmp_path / "go").touch()
        await until(stand.effects)
        ear.seat.retry(At(1, 0), 2)
        await ear.until(lambda: ear.of(WorkerDied))
        (died,) = ear.of(WorkerDied)
        assert (died.running, died.by_us) == ((), False)
        assert [fields["why"] for fields in stand.log.of("worker_died")] == ["deaf"]


@pytest.fixture
def freezer() -> Iterator[Path]:
    """A way to have a process that does not die of SIGKILL: cgroup v1 holds it as a disk that is gone would."""
    group = Path(f"/sys/fs/cgroup/freezer/streamheal-test-{os.getpid()}")
    try:
        group.mkdir()
        (group / "freezer.state").write_text("THAWED")
    except OSError:
        pytest.skip("no freezer of cgroup v1 here that could be written to")
    yield group
    (group / "freezer.state").write_text("THAWED")
    while (group / "cgroup.procs").read_text():
        pass
    group.rmdir()


async def test_a_process_that_does_not_die_is_said_and_its_shard_goes_on(tmp_path: Path, freezer: Path) -> None:
    async with standing(tmp_path, UNTIL_TOLD) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([1, 2]))
        await until(stand.effects)
        assert ear.seat.process is not None
        process = ear.seat.process
        (freezer / "cgroup.procs").write_text(str(process.pid))
        (freezer / "freezer.state").write_text("FROZEN")
        await ear.until(lambda: ear.of(WorkerDied))
        assert process.status.state == ""
        (stuck,) = stand.log.of("worker_stuck")
        assert (stuck["pid"], stuck["state"]) == (process.pid, "D")
        (death,) = stand.log.of("worker_died")
        assert (death["why"], death["state"]) == ("deadline", "D"), "no slow code, but a call that does not come back"
        (tmp_path / "go").touch()
        await ear.until(lambda: ear.open == 0)
        assert ear.aside == {}
        assert {"1 ends", "2 ends"} <= set(stand.effects())
        (freezer / "freezer.state").write_text("THAWED")


async def test_a_spare_that_is_slow_to_import_is_said_and_stops_nobody(tmp_path: Path) -> None:
    code = "if os.path.exists('slow'): time.sleep(60)\ndef handle(record): effect(record.json())"
    async with standing(tmp_path, code, "app:handle", ready_s_max=1.0) as stand:
        ear = await stand.ear(heal=True).start()
        await until(lambda: stand.pool._warm)
        (tmp_path / "slow").touch()
        os.kill(stand.pool._warm[0].pid, signal.SIGKILL)
        await until(lambda: any("import" in fields["why"] for fields in stand.log.of("spare_died")))
        assert stand.log.of("spare_died")[-1]["why"] == "importing app takes longer than 1 s"
        ear.bring(1, line([0]))
        await ear.span_done(1)
        assert not ear.of(WorkerDied)


@pytest.mark.parametrize("how", ["time.sleep(60)", "die('hang')"])
async def test_of_threads_that_are_late_it_is_known_whether_one_of_them_held_all(tmp_path: Path, how: str) -> None:
    """0 and 1 are late. Asleep, each hangs by itself; in C, with the interpreter held, one may hold the other."""
    code = f"""
class App(RecordProcessor):
    deadline_s, concurrency = 0.4, 4
    def process_record(self, record):
        if record.json() == 1: {how}
        time.sleep(60)
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([0, 1]))
        await ear.until(lambda: ear.of(WorkerDied))
        (died,) = ear.of(WorkerDied)
        assert died.held is (how != "time.sleep(60)")
        assert At(1, 1) in died.overran


async def test_initialize_that_holds_others_past_their_deadline_does_so_twice_and_no_more(tmp_path: Path) -> None:
    """It takes no longer than it may, but longer than a record may, and keeps the event loop. From then on it has a
    process for itself. Whoever was late is not known to have failed by itself."""
    code = """
import asyncio
class App(RecordProcessor):
    deadline_s, concurrency = 0.3, 2
    async def initialize(self, shard):
        if shard.shard_id == "slow": time.sleep(1.5)
    async def process_record(self, record): await asyncio.sleep(0.1)
"""
    async with standing(tmp_path, code) as stand:
        ear, slow = await stand.ear("well", heal=True).start(), stand.ear("slow")
        ear.bring(1, line(range(400)))
        for times in (1, 2):
            await slow.start()
            await slow.until(lambda times=times: len(slow.uninitialized) == times)
            await ear.until(lambda: ear.up)
        slow.uninitialized.clear()
        await slow.start()
        assert slow.up
        assert [(died.held, died.running_total > len(died.running)) for died in ear.of(WorkerDied)] == [
            (True, True)
        ] * 2
