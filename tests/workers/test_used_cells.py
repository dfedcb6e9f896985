"""Bystanders of a death run one after the other in a process in which the one before has succeeded."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamheal.core.messages import At, Cause, Done, Failed, Stated

from .stand import Ear, Stand, line, standing

# Thirty-two meet in a worker; one of them kills it, and would kill any other process.
CROWD = """
met = threading.Barrier(32)
class App(RecordProcessor):
    concurrency = 32
    def initialize(self, shard): effect(f"initialize {os.getpid()}")
    def process_record(self, record):
        if record.attempt == 1: met.wait(30)
        if record.json() == 7: os._exit(3)
        if record.attempt == 1: time.sleep(60)
        effect(f"{record.json()} {os.getpid()}")
"""
ACT = """
        n = record.json()
        effect(f"{n} {os.getpid()}")
        ACT
"""
CODES = {
    "plain": "class App(RecordProcessor):\n    deadline_s = 0.5\n    def process_record(self, record):" + ACT,
    "async": "class App(RecordProcessor):\n    deadline_s = 0.5\n    async def process_record(self, record):" + ACT,
    "batch": "class App(RecordProcessor):\n    deadline_s = 0.5\n    def process_records(self, records):\n"
    "        (record,) = records" + ACT,
}


async def asked(stand: Stand, records: int) -> Ear:
    """An ear with so many suspects, none of which has run."""
    ear = await stand.ear(heal=True).start()
    ear._heal = False  # they are sent to cells by the test itself
    ear.bring(1, line(list(range(records))), ask=tuple(range(records)))
    await ear.span_done(1)
    ear._heal = True
    return ear


def alone(ear: Ear, *nths: int, fresh: bool = False) -> None:
    for nth in nths:
        ear.seat.run_alone(At(1, nth), 2, fresh=fresh)


def pids(stand: Stand) -> list[str]:
    return [text.split()[1] for text in stand.effects() if not text.startswith("initialize")]


async def test_thirty_one_bystanders_need_few_processes(tmp_path: Path) -> None:
    """Four at once, the killer's first, and one that takes its place: a process for each would be thirty-two."""
    async with standing(tmp_path, CROWD) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line(list(range(32))))
        await ear.until(lambda: ear.open == 0)
        assert len(ear.shared) == 32
        assert ear.aside == {At(1, 7): "CRASHED"}
        done = [text.split()[0] for text in stand.effects() if not text.startswith("initialize")]
        assert sorted(map(int, done)) == sorted({*range(32)} - {7})
        assert len(set(pids(stand))) <= 8
        assert sum(text.startswith("initialize") for text in stand.effects()) <= 12


@pytest.mark.parametrize("mode", CODES)
async def test_a_cell_is_used_again_for_who_needs_no_fresh_one(tmp_path: Path, mode: str) -> None:
    async with standing(tmp_path, CODES[mode].replace("ACT", ""), cells_max=1) as stand:
        ear = await asked(stand, 5)
        alone(ear, 0, 1, 2)
        alone(ear, 3, fresh=True)
        alone(ear, 4)
        await ear.until(lambda: len(ear.of(Done)) == 5)
        where = dict(text.split() for text in stand.effects())
        assert where["0"] == where["1"] == where["2"] == where["4"] != where["3"]
        assert not ear.of(Stated)


async def test_a_cell_that_nobody_waits_for_ends(tmp_path: Path) -> None:
    async with standing(tmp_path, CODES["plain"].replace("ACT", ""), cells_max=1) as stand:
        ear = await asked(stand, 2)
        alone(ear, 0)
        await ear.until(lambda: len(ear.of(Done)) == 1)
        assert not stand.pool.cells._live
        alone(ear, 1)
        await ear.until(lambda: len(ear.of(Done)) == 2)
        assert len(set(pids(stand))) == 2


async def test_a_cell_is_not_used_again_after_a_failure(tmp_path: Path) -> None:
    code = CODES["plain"].replace("ACT", "if n == 0: raise ValueError('bad')")
    async with standing(tmp_path, code, cells_max=1) as stand:
        ear = await asked(stand, 2)
        alone(ear, 0, 1)
        await ear.until(lambda: ear.of(Done))
        assert len(set(pids(stand))) == 2
        assert [(failed.cause, failed.alone, failed.used) for failed in ear.of(Failed)[2:]] == [
            (Cause.RAISED, True, False)
        ]


async def test_a_thread_that_a_bystander_left_convicts_nobody_by_killing_its_cell(tmp_path: Path) -> None:
    """0 succeeds, and leaves a thread that ends the process as soon as another runs there."""
    act = """
        if n == 0: threading.Thread(target=lambda: (began.wait(), os._exit(5)), daemon=True).start()
        elif record.attempt == 2: began.set(); time.sleep(60)
"""
    code = "began = threading.Event()\n" + CODES["plain"].replace("ACT", act).replace("0.5", "30.0")
    async with standing(tmp_path, code, cells_max=1) as stand:
        ear = await asked(stand, 2)
        alone(ear, 0, 1)
        await ear.until(lambda: len(ear.of(Done)) == 2)
        assert ear.aside == {}
        (failed,) = ear.of(Failed)[2:]
        assert (failed.record.at, failed.cause, failed.alone, failed.used) == (At(1, 1), Cause.CRASHED, True, True)
        assert [(one.outcome, one.alone) for one in ear.attempts[At(1, 1)]] == [("crash", False)]
        ran = stand.effects()
        assert [text.split()[0] for text in ran] == ["0", "1", "1"]
        assert pids(stand)[0] == pids(stand)[1] != pids(stand)[2]


async def test_a_thread_that_holds_a_used_cell_convicts_nobody(tmp_path: Path) -> None:
    """As soon as 0 is done a thread of it holds the interpreter: 1 does not begin there, or is tried again."""
    code = """
def hold(main):
    while sys._current_frames()[main].f_code.co_name != "receive": pass
    die("hang")
"""
    act = """
        if n == 0:
            left.append(n)
            threading.Thread(target=hold, args=(threading.get_ident(),), daemon=True).start()
        elif left: time.sleep(60)
"""
    async with standing(tmp_path, "left = []" + code + CODES["plain"].replace("ACT", act), cells_max=1) as stand:
        ear = await asked(stand, 2)
        alone(ear, 0, 1)
        await ear.until(lambda: len(ear.of(Done)) == 2)
        assert ear.aside == {}
        assert all(failed.used for failed in ear.of(Failed)[2:])
        assert pids(stand)[0] != pids(stand)[-1]


async def test_a_cell_that_is_in_the_middle_of_a_line_is_not_used_again(tmp_path: Path) -> None:
    """What the next prints would be joined to it."""
    async with standing(tmp_path, CODES["plain"].replace("ACT", "os.write(1, b'half a line')"), cells_max=1) as stand:
        ear = await asked(stand, 2)
        alone(ear, 0, 1)
        await ear.until(lambda: len(ear.of(Done)) == 2)
        assert len(set(pids(stand))) == 2


async def test_what_a_record_prints_in_a_used_cell_is_its_own(tmp_path: Path) -> None:
    act = "print('pricing', n)\n        if n == 1: raise ValueError('bad')\n        if n == 3: die('exit')"
    async with standing(tmp_path, CODES["plain"].replace("ACT", act), cells_max=1) as stand:
        ear = await asked(stand, 4)
        ear._heal = False
        alone(ear, 0, 1)
        await ear.failed(At(1, 1), 2)
        alone(ear, 2, 3)
        await ear.failed(At(1, 3), 2)
        assert [failed.used for failed in ear.of(Failed)[4:]] == [True, True]
        assert ear.attempts[At(1, 1)][0].log == "pricing 1\n"
        assert ear.attempts[At(1, 3)][0].log == "pricing 3\n"


async def test_a_deadline_in_a_used_cell_is_the_records_own(tmp_path: Path) -> None:
    """Each takes most of the deadline; together they take it several times over."""
    async with standing(tmp_path, CODES["plain"].replace("ACT", "time.sleep(0.3)"), cells_max=1) as stand:
        ear = await asked(stand, 4)
        alone(ear, 0, 1, 2, 3)
        await ear.until(lambda: len(ear.of(Done)) == 4)
        assert len(set(pids(stand))) == 1


@pytest.mark.parametrize("own_session", [False, True])
async def test_a_program_that_prints_without_end_holds_up_nobody(tmp_path: Path, own_session: bool) -> None:
    """0 succeeds and leaves it behind, still printing when its cell is ended, or even after that."""
    act = f"if n == 0: subprocess.Popen(['yes', 'x' * 60], start_new_session={own_session}); time.sleep(0.1)"
    code = "import subprocess\n" + CODES["plain"].replace("ACT", act)
    async with standing(tmp_path, code, cells_max=1) as stand:
        ear = await asked(stand, 2)
        alone(ear, 0, 1)
        await ear.until(lambda: len(ear.of(Done)) == 2)
        assert len(set(pids(stand))) == 2


async def test_a_used_cell_serves_no_other_shard(tmp_path: Path) -> None:
    async with standing(tmp_path, CODES["plain"].replace("ACT", ""), cells_max=1) as stand:
        one = await asked(stand, 1)
        two = stand.ear("shardId-2", heal=True)
        await two.start()
        two._heal = False
        two.bring(1, line([1]), ask=(0,))
        await two.span_done(1)
        two._heal = True
        alone(one, 0)
        alone(two, 0)
        await one.until(lambda: one.of(Done))
        await two.until(lambda: two.of(Done))
        assert len(set(pids(stand))) == 2
