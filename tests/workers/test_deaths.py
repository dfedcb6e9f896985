"""Processes die under records, in every way we know; who is named must be who it was."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from streamheal.core.messages import At, Cause, Done, Failed, Give, WorkerDied

from .stand import Ear, Stand, line, standing, until

ACT = """
        n, do = record.json()
        {wait}
        if do == "raise": raise ValueError("bad")
        die(do)
        effect(n)
"""
PLAIN = "class App(RecordProcessor):\n    deadline_s = 0.3\n    def process_record(self, record):" + ACT.format(wait="")
THREADS = (
    "class App(RecordProcessor):\n    deadline_s = 0.3\n    concurrency = 8\n    def process_record(self, record):"
    + ACT.format(wait="time.sleep(0.001)")
)
ASYNC = (
    "import asyncio\nclass App(RecordProcessor):\n    deadline_s = 0.3\n    concurrency = 8\n"
    "    async def process_record(self, record):" + ACT.format(wait="await asyncio.sleep(0.001)")
)
BATCH = """class App(RecordProcessor):
    deadline_s = 0.3
    def process_records(self, records):
        for record in records:
            n, do = record.json()
            if do == "raise": raise ValueError("bad")
            die(do)
        for record in records: effect(record.json()[0])
"""
CODES = {"plain": PLAIN, "threads": THREADS, "async": ASYNC, "batch": BATCH}
HOWS = ("segv", "exit", "kill", "hang")


async def heal(stand: Stand, ear: Ear, sick: dict[int, str], *, records: int, keys: int, span: int) -> None:
    """Bring all, let the simplest core settle all, and compare with what took effect."""
    for first in range(0, records, span):
        payloads = [[n, sick.get(n, "")] for n in range(first, first + span)]
        ear.bring(first // span + 1, line(payloads, first=first, keys=lambda n: f"k{n % keys}"))
    await ear.until(lambda: ear.open == 0)
    aside = {(at.span - 1) * span + at.nth: why for at, why in ear.aside.items()}
    assert aside == {n: _CAUSES[do] for n, do in sick.items()}, "exactly the sick are named"
    ran = [{(record.at.span - 1) * span + record.at.nth for record in died.running} for died in ear.of(WorkerDied)]
    assert all(not running.isdisjoint(sick) for running in ran), "who ends a process is marked as running in it"
    counts = {int(text): times for text, times in stand.counts().items()}
    assert set(counts) == set(range(records)) - set(sick), "nobody healthy is lost"
    twice = {n for n, times in counts.items() if times > 1}
    shared = {(at.span - 1) * span + at.nth for at in ear.shared}
    # A death may come between an effect and its mark; then it is tried alone, once.
    assert twice <= shared, "only who ran when a process died has run again"
    assert max(counts.values()) <= 2


_CAUSES = {"segv": "CRASHED", "exit": "CRASHED", "kill": "CRASHED", "hang": "OVERRAN", "raise": "RAISED"}


@pytest.mark.parametrize("mode", ["plain", "threads", "async"])
async def test_every_one_of_many_deaths_is_judged_exactly(tmp_path: Path, mode: str) -> None:
    """Sixty deaths a mode, at random records; what took effect is what the handlers wrote themselves."""
    dice = random.Random(f"deaths {mode}")
    async with standing(tmp_path, CODES[mode]) as stand:
        ear = await stand.ear(heal=True).start()
        sick = {n: dice.choice(("segv", "exit", "kill")) for n in dice.sample(range(2000), 28)}
        sick |= dict.fromkeys(dice.sample(sorted(set(range(2000)) - set(sick)), 2), "hang")
        await heal(stand, ear, sick, records=2000, keys=97, span=50)
        # Each killer dies twice: among others, and alone.
        assert len(ear.deaths) >= 55


@pytest.mark.parametrize("mode", ["plain", "threads", "async"])
async def test_of_a_span_reported_long_ago_the_killer_is_named_too(tmp_path: Path, mode: str) -> None:
    """9 to 17 waited behind 0 to 8, which failed. The next process is given them without these, and 17 kills it."""
    payloads = [[n, "raise"] for n in range(9)] + [[n, ""] for n in range(9, 17)] + [[17, "segv"]]
    async with standing(tmp_path, CODES[mode]) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line(payloads, keys=lambda n: f"k{n % 9}"))
        await ear.span_done(1)
        assert ear.seat.process is not None
        ear.seat.process.kill("stopped")
        await ear.until(lambda: ear.of(WorkerDied))
        await ear.start()
        ear.seat.give(Give(1, rest=False, queued=tuple(range(9, 18)), skip=tuple(range(9))))
        await ear.until(lambda: len(ear.of(WorkerDied)) == 2)
        died = ear.of(WorkerDied)[-1]
        assert At(1, 17) in [record.at for record in died.running]


@pytest.mark.parametrize("mode", ["async", "batch"])
async def test_a_key_that_kills_or_holds_its_process_names_its_record(tmp_path: Path, mode: str) -> None:
    """Lanes are lined up by the processor's own `key`: whoever it was asked for is suspect, and nobody else's."""
    code = (
        CODES[mode]
        + """
    def key(self, record):
        n, do = record.json()
        die(do)
        return str(n % 3)
"""
    )
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear(heal=True).start()
        await heal(stand, ear, {3: "segv", 11: "hang", 14: "exit", 25: "kill"}, records=40, keys=5, span=20)


@pytest.mark.parametrize("told", ["__str__", "mask"])
async def test_who_kills_a_batchs_process_when_it_is_told_of_is_the_only_suspect(tmp_path: Path, told: str) -> None:
    """Its call is over by then, and nobody else of the batch runs."""
    code = """
class Deadly(Exception):
    def __str__(self): os._exit(3)
class App(RecordProcessor):
    def process_records(self, records):
        for record in records:
            if record.json() == "__str__": raise Deadly
        effect(*(record.json() for record in records))
        return [record for record in records if record.json() == "mask"]
    def mask(self, record): os._exit(3)
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([0, 1, told, 3]))
        await ear.until(lambda: ear.open == 0)
        assert ear.aside == {At(1, 2): "CRASHED"}
        assert [[record.at for record in died.running] for died in ear.of(WorkerDied)] == [[At(1, 2)]]


async def test_deaths_of_batches_name_all_and_end_with_the_one(tmp_path: Path) -> None:
    async with standing(tmp_path, BATCH) as stand:
        ear = await stand.ear(heal=True).start()
        await heal(stand, ear, {3: "segv", 11: "hang", 14: "raise"}, records=20, keys=5, span=10)
        died = ear.of(WorkerDied)
        assert all(one.overran == () for one in died), "nobody can say which of a call's records it was"
        assert max(one.running_total for one in died) >= 10


async def test_a_crash_tells_the_signal_and_the_stack(tmp_path: Path) -> None:
    async with standing(tmp_path, PLAIN) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([[0, ""], [1, "segv"], [2, ""]]))
        await ear.until(lambda: ear.open == 0)
        shared, alone = ear.attempts[At(1, 1)]
        for attempt in (shared, alone):
            assert (attempt.outcome, attempt.signal, attempt.exit_code) == ("crash", "SIGSEGV", None)
            assert attempt.stack is not None
            assert "string_at" in attempt.stack
            assert attempt.frames == ("app.py:process_record", "app.py:die")
            assert attempt.where is not None
            assert attempt.where.startswith("app.py:")
        assert (shared.alone, alone.alone) == (False, True)
        assert (shared.worker or "").startswith("worker 0 (pid ")
        assert (alone.worker or "").startswith("cell (pid ")


async def test_an_exit_tells_its_code(tmp_path: Path) -> None:
    async with standing(tmp_path, PLAIN) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([[0, "exit"]]))
        await ear.until(lambda: ear.open == 0)
        assert [(a.outcome, a.signal, a.exit_code) for a in ear.attempts[At(1, 0)]] == [("crash", None, 7)] * 2


async def test_a_record_that_holds_the_interpreter_is_stopped_with_its_stack(tmp_path: Path) -> None:
    """`ctypes.PyDLL` keeps the GIL: no Python code of the worker could say where it is."""
    async with standing(tmp_path, PLAIN) as stand:
        ear = await stand.ear(heal=True).start()
        began = stand.pool.loop.time()
        ear.bring(1, line([[0, ""], [1, "hang"], [2, ""]]))
        await ear.until(lambda: ear.of(WorkerDied))
        died: WorkerDied = ear.of(WorkerDied)[0]
        assert died.overran == (At(1, 1),)
        assert 0.3 <= stand.pool.loop.time() - began < 0.9
        await ear.until(lambda: ear.open == 0)
        for attempt in ear.attempts[At(1, 1)]:
            assert (attempt.outcome, attempt.signal) == ("deadline", None)
            assert attempt.frames == ("app.py:process_record", "app.py:die")
            assert attempt.duration_s >= 0.25
        assert ear.of(Failed)[-1].cause is Cause.OVERRAN


async def test_a_frozen_loop_names_all_who_are_late(tmp_path: Path) -> None:
    async with standing(tmp_path, ASYNC) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([[0, ""], [1, "hang"], [2, ""]]))
        await ear.until(lambda: ear.of(WorkerDied))
        died: WorkerDied = ear.of(WorkerDied)[0]
        assert At(1, 1) in died.overran
        assert set(died.overran) <= {named.at for named in died.running}


async def test_a_death_of_one_shards_record_moves_the_other_shard_too(tmp_path: Path) -> None:
    async with standing(tmp_path, PLAIN) as stand:
        one, two = stand.ear("shardId-1", heal=True), stand.ear("shardId-2", heal=True)
        await one.start()
        await two.start()
        for span in range(1, 21):
            one.bring(span, line([[n, "segv" if (span, n) == (10, 4) else ""] for n in range(10)]))
            two.bring(span, line([[100 + n, ""] for n in range(10)]))
        await one.until(lambda: one.open == 0)
        await two.until(lambda: two.open == 0)
        assert one.aside == {At(10, 4): "CRASHED"}
        assert two.aside == {}
        (mine,), (others,) = one.of(WorkerDied), two.of(WorkerDied)
        assert mine.death == others.death
        assert (mine.running_total, len(mine.running), others.running) == (1, 1, ())
        assert one.deaths + two.deaths == ["signal", "cell"], "told once a process"
        assert stand.counts() == {**{str(n): 20 for n in range(10)}, "4": 19, **{str(100 + n): 20 for n in range(10)}}


async def test_a_neighbour_in_threads_is_done_after_a_death(tmp_path: Path) -> None:
    """Two threads run; one kills the process. Both are tried alone; one of them is done."""
    code = """
met = threading.Barrier(2)
class App(RecordProcessor):
    concurrency = 2
    def process_record(self, record):
        n = record.json()
        if record.attempt == 1: met.wait(10)
        if n == 0: os._exit(3)
        if record.attempt == 1: time.sleep(60)
        effect(n)
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([0, 1]))
        await ear.until(lambda: ear.open == 0)
        assert ear.shared == {At(1, 0), At(1, 1)}
        assert ear.aside == {At(1, 0): "CRASHED"}
        assert [done.at for done in ear.of(Done) if done.alone] == [At(1, 1)]


async def test_a_process_that_dies_while_nothing_runs_names_nobody(tmp_path: Path) -> None:
    async with standing(tmp_path, PLAIN) as stand:
        ear = await stand.ear(heal=True).start()
        assert ear.seat.process is not None
        os.kill(ear.seat.process.pid, signal.SIGKILL)
        await ear.until(lambda: ear.of(WorkerDied) and ear.up)
        died: WorkerDied = ear.of(WorkerDied)[0]
        assert (died.running, died.running_total, died.done) == ((), 0, ())
        ear.bring(1, line([[0, ""]]))
        await ear.until(lambda: ear.open == 0)


async def test_other_keys_flow_again_soon_after_a_crash(tmp_path: Path) -> None:
    """The warm spare takes the place; a cold start would cost a quarter of a second. Bounds are loose here."""
    async with standing(tmp_path, PLAIN) as stand:
        ear = await stand.ear(heal=True).start()
        gaps = []
        for span in range(1, 8):
            await until(lambda: stand.pool._warm)
            began = stand.pool.loop.time()
            ear.bring(span, line([[span, "exit"], [100 + span, ""]], first=span * 10))
            await ear.span_done(span)
            gaps.append(stand.pool.loop.time() - began)
        assert sorted(gaps)[len(gaps) // 2] < 0.1, gaps


async def test_marks_of_reported_spans_are_read_too(tmp_path: Path) -> None:
    """What waits behind a blocked record has left its slot; it runs later, and dies there."""
    async with standing(tmp_path, PLAIN) as stand:
        ear = await stand.ear(heal=True).start()
        ear._heal = False
        ear.bring(1, line([[0, "raise"], [1, ""], [2, "exit"], [3, ""]], keys=lambda n: "one"))
        await ear.span_done(1)
        ear._heal = True
        ear._spans[1] = {0: "hand", 1: "queued", 2: "queued", 3: "queued"}
        ear._settle(At(1, 0), "RAISED")
        await ear.until(lambda: ear.open == 0)
        assert ear.aside == {At(1, 0): "RAISED", At(1, 2): "CRASHED"}
        assert stand.effects() == ["1", "3"]


async def test_who_ran_when_a_process_was_ended_for_no_records_sake_is_told_of_when_it_waits(tmp_path: Path) -> None:
    """Nobody was suspect, so that the core knows neither. Then 0 fails, and 1 waits behind it when the span is over."""
    code = """
class App(RecordProcessor):
    def process_records(self, records):
        if not os.path.exists("begun"):
            open("begun", "w").close()
            time.sleep(60)
        raise ValueError("bad")
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([0, 1], keys=lambda n: "one"))
        await until((tmp_path / "begun").exists)
        assert ear.seat.process is not None
        ear.seat.process.kill("stopped")
        await ear.until(lambda: ear.of(WorkerDied))
        assert [named.at for named in ear.of(WorkerDied)[0].running] == [At(1, 0), At(1, 1)]
        await ear.start()
        ear.seat.give(Give(1))
        done = await ear.span_done(1)
        assert [failed.record.at for failed in ear.of(Failed)] == [At(1, 0)]
        assert [named.at for named in done.held] == [At(1, 1)], "else it would count as settled"
