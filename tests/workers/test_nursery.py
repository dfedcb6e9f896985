"""Workers are forked from a process of ours. Whatever becomes of that one, and of what they leave behind."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamheal import platform
from streamheal.workers import nursery
from streamheal.workers.cgroups import Group
from streamheal.workers.nursery import Newborn
from tests.torture.killing import state
from tests.whole.running import processes_in

from .stand import Ear, Log, Stand, line, numbers, standing, until

pytestmark = pytest.mark.skipif(not platform.LINUX, reason="nobody is forked here")

HANDLE = "def handle(record): effect(record.json())"


def _nursery(stand: Stand) -> int:
    pid = stand.pool.nursery.pid
    assert pid is not None
    return pid


async def _ready(stand: Stand) -> None:
    await until(stand.pool.nursery._ready.is_set)


async def _another(stand: Stand) -> str:
    """How one more process comes to be."""
    born: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    pool = stand.pool
    take = pool._born

    def taken(newborn: Newborn, group: Group | None) -> None:
        take(newborn, group)
        if not born.done():
            born.set_result(type(newborn.child).__name__)

    pool._born = taken
    pool._spawn()
    return await born


async def _bereave(stand: Stand, ear: Ear) -> None:
    """Its worker dies, and the spare becomes it."""
    await until(lambda: stand.pool._warm)
    assert ear.seat.process is not None
    os.kill(ear.seat.process.pid, signal.SIGKILL)
    await ear.until(lambda: ear.deaths and ear.up)


SURROUNDINGS = r"""
import json, re, resource
def links():
    at = lambda n: re.sub(r"\d+\]$", "]", os.readlink(f"/proc/self/fd/{n}"))
    fds = [int(n) for n in os.listdir("/proc/self/fd")]
    return {n: at(n) for n in fds if os.path.exists(f"/proc/self/fd/{n}")}
def handle(record):
    pid = os.getpid()
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines())
    effect(json.dumps({
        "open": links(),
        "signals": {name: status[name] for name in ("SigBlk", "SigIgn", "SigCgt")},
        "handlers": [str(signal.getsignal(n)).split(" at ")[0] for n in range(1, signal.NSIG)],
        "own": [os.getsid(0) == pid, os.getpgrp() == pid, threading.active_count()],
        "parent": os.getppid(),
        "called": [status["Name"], status["Umask"], open("/proc/self/oom_score_adj").read()],
        "started": [sys.argv[:2], len(sys.argv), sys.path, str(sys.flags), sys.executable],
        "env": dict(os.environ),
        "cwd": os.getcwd(),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name[:4] == "RLIM"
                   and name != "RLIM_INFINITY"},
        "main": sorted(set(vars(sys.modules["__main__"])) - {"nurse"}),
    }))
"""


async def test_a_forked_worker_finds_what_an_executed_one_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[dict[str, Any]] = []
    for forks in (True, False):
        if not forks:
            monkeypatch.setattr(platform, "adopt_orphans", lambda: False)
        async with standing(tmp_path, SURROUNDINGS, "app:handle") as stand:
            ear = await stand.ear(heal=True).start()
            await _bereave(stand, ear)  # nothing of an earlier one has come to the next
            assert ear.seat.process is not None
            assert type(ear.seat.process._child).__name__ == ("_Forked" if forks else "Popen")
            ear.bring(1, line([0]))
            await ear.span_done(1)
            found.append(json.loads(stand.effects()[-1]))
    forked, executed = found
    assert forked == executed
    assert forked["parent"] == os.getpid()


async def test_a_nursery_that_is_killed_harms_nobody_and_is_replaced(tmp_path: Path) -> None:
    async with standing(tmp_path, HANDLE, "app:handle") as stand:
        ear = await stand.ear().start()
        await _ready(stand)
        first = _nursery(stand)
        assert await _another(stand) == "_Forked"
        os.kill(first, signal.SIGKILL)
        assert await _another(stand) == "Popen"
        await _ready(stand)
        assert _nursery(stand) != first
        assert await _another(stand) == "_Forked"
        ear.bring(1, line(range(20)))
        await ear.span_done(1)
        assert ear.deaths == []
        assert sorted(numbers(stand.effects())) == list(range(20))
        assert [fields["pid"] for fields in stand.log.of("nursery_lost")] == [first]


async def test_a_nursery_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    async with standing(tmp_path, HANDLE, "app:handle") as stand:
        ear = await stand.ear().start()
        await _ready(stand)
        first = _nursery(stand)
        os.kill(first, signal.SIGSTOP)
        await until(lambda: state(first) == "T")
        ear.bring(1, line(range(5)))
        await ear.span_done(1)
        assert await _another(stand) == "Popen"
        await until(lambda: state(first) in "XZ")
        await _ready(stand)
        assert await _another(stand) == "_Forked"
        assert ear.deaths == []


async def test_an_answer_that_lies_there_is_in_time(tmp_path: Path) -> None:
    """It is we who were stopped: nothing was read meanwhile."""
    async with standing(tmp_path, HANDLE, "app:handle") as stand:
        await _ready(stand)
        await until(lambda: stand.pool._warm and not stand.pool.nursery._asked)
        stand.pool._spawn()
        (asked,) = stand.pool.nursery._asked
        select.select([stand.pool.nursery._sock], [], [])
        stand.pool.nursery._late(asked)
        assert stand.pool.nursery._ready.is_set()
        assert not stand.pool.nursery._asked


async def test_a_nursery_that_cannot_live_here_is_neither_waited_for_nor_tried_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nursery, "_NURSERY_BOOT", "raise SystemExit")
    monkeypatch.setattr(nursery, "_READY_S_MAX", 1e6)
    async with standing(tmp_path, HANDLE, "app:handle") as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([0]))
        await ear.span_done(1)
    alone, tried_at = nursery.Nursery(Log()), []
    await alone.open()
    for now in range(10, 60):
        alone.look(now, ours=())
        if alone.pid is not None:
            tried_at.append(now)
        await until(lambda: alone.pid is None)
    alone.close()
    assert tried_at == [10, 12, 16, 24, 40]


async def test_whoever_is_born_too_late_runs_nothing(tmp_path: Path) -> None:
    """The host has given the nursery up, and had the same process executed, while that one was being forked."""
    async with standing(tmp_path, f"effect('imported')\n{HANDLE}", "app:handle") as stand:
        await until(lambda: len(stand.effects()) == 1)
        await _ready(stand)
        for _ in range(3):
            seen = len(stand.effects())
            stand.pool._spawn()
            stand.pool.nursery._give_up("it is slow")
            await until(lambda seen=seen: len(stand.effects()) == seen + 1)
            await _ready(stand)
            await until(lambda: set(processes_in(tmp_path)) <= {*stand.pids, os.getpid(), _nursery(stand)})
        assert len(stand.effects()) == 1 + 3


async def test_what_user_code_leaves_behind_is_buried(tmp_path: Path) -> None:
    """A daemon that has left its worker's session, and one in it: the host is their parent now, and nobody's heir."""
    code = """
def handle(record):
    if os.fork() == 0:
        if record.json(): os.setsid()
        if os.fork() == 0:
            effect(os.getpid())
            time.sleep(0.05)
        os._exit(0)
    os.wait()
"""
    async with standing(tmp_path, code, "app:handle") as stand:
        ear = await stand.ear().start()
        # Children of the host's own, whatever their session, are left to who started them.
        others = [subprocess.Popen(["sh", "-c", "exit 7"]) for _ in range(2)]  # noqa: ASYNC220
        ear.bring(1, line([0, 1, 1]))
        await ear.span_done(1)
        await until(lambda: len(stand.effects()) == 3)
        await until(lambda: all(state(pid) == "X" for pid in numbers(stand.effects())))
        assert [other.wait() for other in others] == [7, 7]


async def test_threads_of_a_module_start_where_it_is_imported(tmp_path: Path) -> None:
    code = """
ticking = threading.Event()
threading.Thread(target=lambda: (ticking.set(), time.sleep(1000)), daemon=True).start()
def handle(record):
    assert ticking.wait(20)
    effect(record.json())
"""
    async with standing(tmp_path, code, "app:handle") as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([1]))
        await ear.span_done(1)
        assert stand.effects() == ["1"]
        assert len(os.listdir(f"/proc/{_nursery(stand)}/task")) == 1


async def test_a_users_module_is_theirs_whatever_python_calls_its_own(tmp_path: Path) -> None:
    """`heapq` is among what the nursery would import for coroutines."""
    (tmp_path / "heapq.py").write_text("whose = 'ours'")
    async with standing(tmp_path, "import heapq\ndef handle(record): effect(heapq.whose)", "app:handle") as stand:
        ear = await stand.ear(heal=True).start()
        await _bereave(stand, ear)
        assert type(ear.seat.process._child).__name__ == "_Forked"
        ear.bring(1, line([1]))
        await ear.span_done(1)
        assert stand.effects() == ["ours"]


HOST = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.workers.stand import standing
async def main():
    async with standing(Path.cwd(), "def handle(record): pass", "app:handle") as stand:
        print("up", flush=True)
        while True:
            stand.pool._spawn()
            await asyncio.sleep(0.002)
            for process in list(stand.pool._warm): process.kill("retired")
asyncio.run(main())
"""


async def test_nobody_outlives_a_host_that_dies_while_they_are_born(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOST, str(Path(__file__).parents[2])]
    for wait_s in (0.0, 0.003, 0.007, 0.02):
        host = await asyncio.to_thread(subprocess.Popen, command, cwd=tmp_path, stdout=subprocess.PIPE)
        assert host.stdout is not None
        with host.stdout:
            host.stdout.readline()
            await asyncio.sleep(wait_s)
            host.kill()
            host.wait()
        await until(lambda: processes_in(tmp_path) == [])


@pytest.mark.parametrize("forks", [True, False])
async def test_where_no_process_can_be_started_the_next_try_may_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forks: bool
) -> None:
    """Here no descriptor is free for a while; too many processes, or no memory, come to the same."""
    if not forks:
        monkeypatch.setattr(platform, "adopt_orphans", lambda: False)
    async with standing(tmp_path, HANDLE, "app:handle") as stand:
        ear = await stand.ear(heal=True).start()
        await until(lambda: stand.pool._warm)
        before = len(os.listdir("/proc/self/fd"))
        assert ear.seat.process is not None
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for free in range(8):
            first_free = os.dup(0)
            os.close(first_free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + free, hard))
            try:
                stand.pool._spawn()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(stand.log.of("process_not_started")) == 8
        assert len(os.listdir("/proc/self/fd")) == before
        await _bereave(stand, ear)
        stand.pool._spares_from = 0.0
        await until(lambda: stand.pool._warm)
        ear.bring(1, line(range(5)))
        await ear.span_done(1)
        assert sorted(numbers(stand.effects())) == list(range(5))


async def test_where_python_begins_with_threads_nobody_is_forked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agents of monitoring do that. A fork would lack the thread, and never get the lock that it holds."""
    (tmp_path / "sitecustomize.py").write_text(
        "import threading\n"
        "lock, held = threading.Lock(), threading.Event()\n"
        "def hold():\n"
        "    with lock: held.set(); threading.Event().wait(0.2)\n"
        "    threading.Event().wait()\n"
        "threading.Thread(target=hold, daemon=True).start(); held.wait()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code = "import sitecustomize\nwith sitecustomize.lock: pass\ndef handle(record): effect(threading.active_count())"
    async with standing(tmp_path, code, "app:handle") as stand:
        ear = await stand.ear().start()
        await _ready(stand)
        assert await _another(stand) == "Popen"
        ear.bring(1, line([1]))
        await ear.span_done(1)
        assert stand.effects() == ["2"]
        assert stand.log.of("nursery_lost") == []
