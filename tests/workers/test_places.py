"""Shards whose `initialize` hangs or ends its process: whoever stands beside them pays once, and no more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streamheal.core.messages import Start, WorkerDied

from .stand import Ear, Stand, gone, line, standing, until

# Shard "sick" cannot be initialized while there is no file `up`. The others' records run beside it.
CODE = """
import asyncio
class App(RecordProcessor):
    concurrency = {concurrency}
    {plain}def initialize(self, shard):
        effect(f"begins {{shard.shard_id}} {{os.getpid()}}")
        if shard.shard_id == "sick" and not os.path.exists("up"): {how}
    {mode}def process_record(self, record): effect(record.json())
"""
PLAIN = {"concurrency": 1, "plain": "", "mode": ""}
ASYNC = {"concurrency": 8, "plain": "async ", "mode": "async "}
MODES = [pytest.param(PLAIN, id="plain"), pytest.param(ASYNC, id="async")]
HANG = {"": "time.sleep(60)", "async ": "await asyncio.sleep(60)"}


async def fails(sick: Ear, times: int) -> None:
    """It is started once more, and has failed so often then."""
    await sick.start()
    await sick.until(lambda: len(sick.uninitialized) == times)


async def gets_its_own(sick: Ear, folder: Path) -> None:
    """It hangs once, and can be initialized from then on."""
    await fails(sick, 1)
    (folder / "up").touch()
    sick.uninitialized.clear()
    await sick.start()


def pid_of(ear: Ear) -> int:
    assert ear.seat.process is not None
    return ear.seat.process.pid


def begun(stand: Stand, shard_id: str) -> list[str]:
    return [text.split()[-1] for text in stand.effects() if text.startswith(f"begins {shard_id}")]


@pytest.mark.parametrize("mode", MODES)
async def test_initialize_that_hangs_takes_others_along_once(tmp_path: Path, mode: dict[str, str]) -> None:
    code = CODE.format(**mode, how=HANG[mode["mode"]])
    async with standing(tmp_path, code, initialize_s_max=0.5) as stand:
        ear, sick = await stand.ear("well", heal=True).start(), stand.ear("sick")
        for times in (1, 2, 3, 4):
            await fails(sick, times)
            await ear.until(lambda: ear.up)
        assert [died.by_us for died in ear.of(WorkerDied)] == [True]
        assert len(set(begun(stand, "sick"))) == 4
        assert [attempt.outcome for attempt in sick.uninitialized] == ["deadline"] * 4
        (tmp_path / "up").touch()
        sick.uninitialized.clear()
        await sick.start()
        assert pid_of(sick) != pid_of(ear)


@pytest.mark.parametrize("mode", MODES)
async def test_initialize_that_ends_its_process_twice_does_so_by_itself_from_then_on(
    tmp_path: Path, mode: dict[str, str]
) -> None:
    """Once may have been another's fault. What it did to others is not without an explanation."""
    async with standing(tmp_path, CODE.format(**mode, how="die('exit')")) as stand:
        ear, sick = await stand.ear("well", heal=True).start(), stand.ear("sick")
        for times in (1, 2, 3, 4):
            await fails(sick, times)
            await ear.until(lambda: ear.up)
        died = ear.of(WorkerDied)
        assert [(one.running, one.running_total, one.by_us) for one in died] == [((), 1, False)] * 2


async def test_who_has_a_process_for_itself_takes_it_along(tmp_path: Path) -> None:
    async with standing(tmp_path, CODE.format(**PLAIN, how=HANG[""]), initialize_s_max=0.5) as stand:
        ear, sick = await stand.ear("well", heal=True).start(), stand.ear("sick", heal=True)
        await gets_its_own(sick, tmp_path)
        own = pid_of(sick)
        sick.bring(1, line([0]))
        await sick.span_done(1)
        sick.seat.end("shutdown_requested")
        await sick.until(lambda: sick.over)
        await until(lambda: gone(own))
        await ear.until(lambda: ear.up)
        again = await stand.ear("sick").start()
        assert pid_of(again) == pid_of(ear)


async def test_once_that_process_has_died_it_stands_among_the_others_again(tmp_path: Path) -> None:
    async with standing(tmp_path, CODE.format(**PLAIN, how=HANG[""]), initialize_s_max=0.5) as stand:
        ear, sick = await stand.ear("well", heal=True).start(), stand.ear("sick", heal=True)
        await gets_its_own(sick, tmp_path)
        assert sick.seat.process is not None
        sick.up = False
        sick.seat.process.kill("stopped")
        await sick.until(lambda: sick.up)
        await ear.until(lambda: ear.up)
        assert pid_of(sick) == pid_of(ear)


@pytest.mark.parametrize("concurrency", [pytest.param(1, id="plain"), pytest.param(8, id="threads")])
async def test_a_shard_whose_turn_to_initialize_has_not_come_is_not_late(tmp_path: Path, concurrency: int) -> None:
    """But of coroutines they initialize one after another: five take longer together than one may."""
    code = f"""
class App(RecordProcessor):
    concurrency = {concurrency}
    def initialize(self, shard): time.sleep(0.3)
    def process_record(self, record): effect(record.json())
"""
    async with standing(tmp_path, code, initialize_s_max=0.8) as stand:
        ears = [stand.ear(f"shardId-{n}") for n in range(5)]
        await asyncio.gather(*(ear.start() for ear in ears))
        assert [ear.uninitialized for ear in ears] == [[]] * 5
        assert len({pid_of(ear) for ear in ears}) == 1


async def left(ear: Ear) -> None:
    await ear.until(lambda: ear.over)


async def begins_beside(stand: Stand, *others: str) -> tuple[Ear, list[Ear]]:
    """The shard "sick" is being initialized, and these wait for the same, or are, too."""
    ears = [stand.ear("sick"), *(stand.ear(shard_id, heal=True) for shard_id in others)]
    for ear in ears:
        ear.seat.start(Start(None, None, 0.0))
    await until(lambda: begun(stand, "sick"))
    return ears[0], ears[1:]


@pytest.mark.parametrize("mode", MODES)
async def test_who_is_to_begin_beside_a_shard_that_is_given_up_has_not_failed(
    tmp_path: Path, mode: dict[str, str]
) -> None:
    """Its process is ended, and no other begins there before it is dead; who had begun does so again, in the next."""
    async with standing(tmp_path, CODE.format(**mode, how=HANG[mode["mode"]])) as stand:
        sick, others = await begins_beside(stand, "one", "two")
        ended = pid_of(sick)
        sick.seat.abandon()
        await until(lambda: gone(ended))  # of coroutines, one may have been through before
        for other in others:
            await until(lambda other=other: other.uninitialized or (other.up and pid_of(other) != ended))
        assert [other.uninitialized for other in others] == [[], []]
        assert pid_of(others[0]) == pid_of(others[1])


TURNS = """
class App(RecordProcessor):
    concurrency, deadline_s = {concurrency}, 10
    {plain}def initialize(self, shard): pass
    {mode}def process_record(self, record):
        effect(record.json())
        time.sleep(1.2)
    def lease_lost(self):
        time.sleep(0.4)
        effect("lost")
"""
THREADS = {"concurrency": 4, "plain": "", "mode": ""}


async def test_a_shard_that_comes_waits_for_the_record_that_runs_and_is_not_late(tmp_path: Path) -> None:
    async with standing(tmp_path, TURNS.format(**PLAIN), initialize_s_max=0.5, hook_s_max=0.5) as stand:
        ear, leaves, comes = await stand.ear("1", heal=True).start(), await stand.ear("2").start(), stand.ear("3")
        ear.bring(1, line([0]))
        await until(stand.effects)
        leaves.seat.end("lease_lost")
        await comes.start()
        await left(leaves)
        await ear.until(lambda: ear.open == 0)
        assert (comes.uninitialized, leaves.hook_failures, ear.of(WorkerDied)) == ([], [], [])
        assert stand.effects() == ["0", "lost"]


@pytest.mark.parametrize("mode", [pytest.param(PLAIN, id="plain"), pytest.param(THREADS, id="threads")])
async def test_shards_that_leave_together_are_not_late_for_one_anothers_sake(
    tmp_path: Path, mode: dict[str, str]
) -> None:
    async with standing(tmp_path, TURNS.format(**mode), hook_s_max=0.8) as stand:
        ears = [await stand.ear(f"shardId-{n}").start() for n in range(4)]
        for ear in ears:
            ear.seat.end("lease_lost")
        await asyncio.gather(*(left(ear) for ear in ears))
        assert [ear.hook_failures for ear in ears] == [[]] * 4
        assert stand.effects() == ["lost"] * 4
