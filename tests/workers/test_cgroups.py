"""The kernel holds each worker process to its limit, where it lets us make control groups.

With real groups of version 1 or 2, whichever this machine has for memory; what of version 2 a machine does not
have is shown against files of the names that it documents (Documentation/admin-guide/cgroup-v2.rst).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamheal import platform
from streamheal.core.messages import At
from streamheal.workers import cgroups
from streamheal.workers.cgroups import Group, Groups, NotPossible

from .stand import line, standing

MIB = 1 << 20


@pytest.fixture
def home() -> Iterator[Path]:
    """The group in which groups are made; at the end none of ours is left in it."""
    try:
        groups = Groups(64 * MIB)
    except NotPossible as why:
        pytest.skip(f"no control groups can be made here: {why}")
    made = groups.make()
    groups.close()
    home = Path(made.path).parent
    yield home
    assert not list(home.glob(f"streamheal-{os.getpid()}-*"))


async def test_what_the_kernel_ends_is_told_and_judged_as_what_we_end(tmp_path: Path, home: Path) -> None:
    """It takes all at once, while the host does not come to look."""
    code = """
class App(RecordProcessor):
    def process_record(self, record):
        n = record.json()
        if n == 1: eaten = b"x" * (400 << 20)
        effect(n)
"""
    async with standing(tmp_path, code, memory_each=96 * MIB) as stand:
        (told,) = stand.log.of("memory_limited")
        assert (told["worker_mib"], told["enforced_by"]) == (96, "cgroup")
        ear = await stand.ear(heal=True).start()
        assert ear.seat.process is not None
        assert ear.seat.process.group is not None
        ear.bring(1, line([0, 1, 2]))
        _wait_until_dead(ear.seat.process.pid)  # the loop stands still meanwhile
        await ear.until(lambda: ear.open == 0)
        assert ear.aside == {At(1, 1): "CRASHED"}
        assert sorted(stand.effects()) == ["0", "2"]
        assert ear.deaths == ["memory", "memory"], "in the worker, and alone"
        first = ear.attempts[At(1, 1)][0]
        assert (first.outcome, first.signal) == ("crash", "SIGKILL")
        assert first.message == "grew past 96 MiB, and was killed by the kernel"
        assert not stand.log.of("memory_group_failed")


def _wait_until_dead(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_groups_that_a_killed_host_left_are_removed_by_the_next(home: Path) -> None:
    """One in which somebody still runs is not, nor is that of a host that lives."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as host:
        left = home / f"streamheal-{host.pid}-1"
        left.mkdir()
        Groups(64 * MIB).close()
        assert left.exists(), "its host lives"
        host.kill()
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as other:
        (left / "cgroup.procs").write_text(str(other.pid))
        Groups(64 * MIB).close()
        assert left.exists(), "somebody runs in it"
    Groups(64 * MIB).close()
    assert not left.exists()


async def test_where_no_group_can_be_made_the_host_watches_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "_CGROUPS", str(tmp_path / "nothing"))
    async with standing(
        tmp_path, "def handle(record): effect(record.json())", "app:handle", memory_each=96 * MIB
    ) as stand:
        (told,) = stand.log.of("memory_limited")
        assert (told["enforced_by"], told["no_cgroup_because"]) == ("host", "no control group is to be seen")
        ear = await stand.ear().start()
        ear.bring(1, line([1]))
        await ear.span_done(1)


async def test_a_process_for_which_no_group_can_be_made_is_born_all_the_same(tmp_path: Path, home: Path) -> None:
    """Said once, however many there are."""
    async with standing(tmp_path, "class App(RecordProcessor):\n    def process_record(self, record): die('exit')",
                        memory_each=96 * MIB) as stand:  # fmt: skip
        groups = stand.pool.memory._groups
        assert groups is not None
        groups._home = str(tmp_path / "nothing")
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([1, 2]))
        await ear.until(lambda: len(ear.aside) == 2)
        (failed,) = stand.log.of("memory_group_failed")
        assert failed["why"].startswith("No such file or directory")


# -- version 2 -----------------------------------------------------------------------------


@pytest.fixture
def delegated() -> Iterator[tuple[Path, str]]:
    """A real group of version 2 that is ours alone, and a controller that it can pass on."""
    root = next((path for path in map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"))
                 if os.access(path / "cgroup.subtree_control", os.W_OK)), None)  # fmt: skip
    offered = [] if root is None else (root / "cgroup.controllers").read_text().split()
    if root is None or not offered:
        pytest.skip("no control groups of version 2 can be made here")
    controller = "memory" if "memory" in offered else offered[0]
    before = (root / "cgroup.subtree_control").read_text().split()
    group = root / f"streamheal-test-{os.getpid()}"
    try:
        (root / "cgroup.subtree_control").write_text(f"+{controller}")
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control groups of version 2 can be made here: {error}")
    try:
        yield group, controller
    finally:
        for path in (*group.glob("*/"), group):
            if path.is_dir():
                path.rmdir()
        if controller not in before:
            (root / "cgroup.subtree_control").write_text(f"-{controller}")


IN_GROUP = """
import os, subprocess, sys
from pathlib import Path
from streamheal.workers.cgroups import NotPossible, enter, give_way_back, make_way
home, controller = Path(sys.argv[1]), sys.argv[2]
enter(str(home))
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
try:
    make_way(str(home), controller)
except NotPossible as why:
    print(why)
else:
    worker = home / "worker"
    worker.mkdir()
    (worker / "cgroup.procs").write_text(str(child.pid))
    print((home / "cgroup.subtree_control").read_text().split() == [controller], (home / "cgroup.procs").read_text())
child.stdin.close(), child.wait()
if (home / "worker").exists(): (home / "worker").rmdir()
give_way_back(str(home), controller)
print((home / "cgroup.procs").read_text().split() == [str(os.getpid())], [path.name for path in home.glob("*/")])
"""


@pytest.mark.parametrize("crowded", [False, True])
def test_the_host_makes_way_for_its_workers_where_nobody_else_is(delegated: tuple[Path, str], crowded: bool) -> None:
    """No process may be beside groups that are limited: the host and its children move, a stranger is not moved."""
    group, controller = delegated
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as stranger:
        if crowded:
            (group / "cgroup.procs").write_text(str(stranger.pid))
        done = subprocess.run(
            [sys.executable, "-c", IN_GROUP, group, controller], capture_output=True, text=True, check=True
        )
        if crowded:
            assert "other processes are in the control group" in done.stdout
            assert (group / "cgroup.procs").read_text().split() == [str(stranger.pid)]
            assert not (group / "cgroup.subtree_control").read_text().split()
        else:
            assert done.stdout.split("\n") == ["True ", "True []", ""]


def test_a_group_of_version_2_is_limited_whole_and_says_who_was_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (
        ("cgroup.procs", f"{os.getpid()}\n"),
        ("cgroup.controllers", "cpu memory\n"),
        ("cgroup.type", "domain\n"),
        ("cgroup.subtree_control", ""),
    ):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(platform, "_CGROUPS", str(tmp_path))
    group = Group(Groups(96 * MIB).make().path)
    path = Path(group.path)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"
    assert (tmp_path / "streamheal-host" / "cgroup.procs").read_text() == str(os.getpid())
    wrote = {name: (path / name).read_text() for name in ("memory.max", "memory.oom.group", "memory.swap.max")}
    assert wrote == {"memory.max": str(96 * MIB), "memory.oom.group": "1", "memory.swap.max": "0"}

    cgroups.enter(group.path)
    assert (path / "cgroup.procs").read_text() == "0", "which is whoever writes it"
    for events, killed, was_full in (
        ("low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n", False, False),
        ("low 0\nhigh 0\nmax 31\noom 1\noom_kill 3\noom_group_kill 1\n", True, True),
        ("low 0\nhigh 0\nmax 0\noom 0\noom_kill 3\noom_group_kill 1\n", True, False),
    ):
        (path / "memory.events").write_text(events)
        assert (group.killed, group.was_full) == (killed, was_full)
