"""A control group for each worker process, where the kernel itself holds it to what it may use.

    the container's, which the host was started in
      ├── streamheal-host       version 2 only, where none may run beside children that are limited
      ├── streamheal-4711-1     one process: a worker, a spare, a cell; 4711 is the host
      └── streamheal-4711-2

The host looks at its processes every 50 ms, and says where one was when it grew too large. The kernel counts each
page, also those of processes that user code starts, and leaves no time in which one could take all there is.

Few containers let us do this. Wherever something does not work the host watches alone, and says why.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from itertools import count

from streamheal import platform

_HOST = "streamheal-host"
_OURS = re.compile(r"streamheal-(\d+)-\d+")
_V1 = ("limit", "max_usage")
_NEARLY = 2 << 20  # the page that had no room may have been a large one
_serials = count(1)


class NotPossible(Exception):
    """Why no groups can be made, in words."""


class Group:
    """The group of one process, until that is dead."""

    def __init__(self, path: str) -> None:
        self.path = path

    def has(self, pid: int) -> bool:
        return pid in _pids(self.path)

    @property
    def killed(self) -> bool:
        """Whether the kernel has killed somebody in it for want of memory."""
        return any(platform.oom_kills_in(os.path.join(self.path, name)) for name in platform.OOM_COUNTS)

    @property
    def was_full(self) -> bool:
        """Whether it was this group that was at its limit, and not the container."""
        events = platform.text_of(os.path.join(self.path, "memory.events")).splitlines()
        if events:
            return any(line.startswith("oom ") and line != "oom 0" for line in events)
        # `memory.failcnt` of version 1 is no help: where swap is limited as well that limit is met first,
        # and not every kernel counts it.
        limit, most = (platform.text_of(os.path.join(self.path, f"memory.{name}_in_bytes")) for name in _V1)
        return most.isdecimal() and limit.isdecimal() and int(most) > int(limit) - _NEARLY


class Groups:
    """All groups of this host.

    Raises:
        NotPossible: None can be made here.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._dead: list[Group] = []  # what user code started may take a moment to die
        self._made: set[Group] = set()
        self._home, self._version = _home()
        _remove_left_behind(self._home)
        if self._version == 2:
            make_way(self._home)
        try:
            self.died(self.make())
        except OSError as error:
            self.close()
            raise NotPossible(f"{error.strerror}: {error.filename}") from None

    def make(self) -> Group:
        """For a process that will enter it by itself, before it imports anything of the user's.

        Raises:
            OSError: It could not be made.
        """
        group = Group(os.path.join(self._home, f"streamheal-{os.getpid()}-{next(_serials)}"))
        os.mkdir(group.path)
        self._made.add(group)
        limit = str(self._limit_bytes)
        if self._version == 2:
            _write(group.path, "memory.max", limit)
            optional = {"memory.swap.max": "0", "memory.oom.group": "1"}
        else:
            _write(group.path, "memory.limit_in_bytes", limit)
            optional = {"memory.memsw.limit_in_bytes": limit}
        for name, value in optional.items():
            with suppress(OSError):  # swap may not be counted, and kernels before 4.19 end one process only
                _write(group.path, name, value)
        return group

    def died(self, group: Group) -> None:
        """Its process is dead."""
        self._made.discard(group)
        self._dead.append(group)
        self._dead = [group for group in self._dead if not _removed(group.path)]

    def close(self) -> None:
        """All processes are dead. What cannot be removed now is left to the next start."""
        for group in (*self._made, *self._dead):
            _removed(group.path)
        if self._version == 2:
            give_way_back(self._home)


def enter(path: str) -> None:
    """Put this process into the group. The host finds out whether that worked."""
    with suppress(OSError):
        _write(path, "cgroup.procs", "0")


def make_way(home: str, controller: str = "memory") -> None:
    """Move this process and its children into a group of their own, so that others beside it can be limited.

    Raises:
        NotPossible: Somebody else's process is there, or the kernel refused; then nothing has changed.
    """
    pids = _pids(home)
    if not all(_is_ours(pid) for pid in pids):
        raise NotPossible("other processes are in the control group")
    host = os.path.join(home, _HOST)
    try:
        with suppress(FileExistsError):
            os.mkdir(host)
        for pid in pids:
            _write(host, "cgroup.procs", str(pid))
        _write(home, "cgroup.subtree_control", f"+{controller}")
    except OSError as error:
        give_way_back(home, controller)
        raise NotPossible(f"{error.strerror}: {error.filename}") from None


def give_way_back(home: str, controller: str = "memory") -> None:
    """Be in the group again that we were in, as far as that is possible."""
    host = os.path.join(home, _HOST)
    with suppress(OSError):
        _write(home, "cgroup.subtree_control", f"-{controller}")
        for pid in _pids(host):
            _write(home, "cgroup.procs", str(pid))
        os.rmdir(host)


def _home() -> tuple[str, int]:
    """The group that we are in, and its version."""
    procs = platform.cgroup_files(("cgroup.procs", "memory/cgroup.procs"))
    home = next((os.path.dirname(path) for path in procs if os.getpid() in _pids(os.path.dirname(path))), None)
    if home is None:
        raise NotPossible("no control group is to be seen")
    version = 2 if os.path.exists(os.path.join(home, "cgroup.controllers")) else 1
    needed = [home, os.path.join(home, "cgroup.procs")]
    if version == 2:
        if "memory" not in platform.text_of(os.path.join(home, "cgroup.controllers")).split():
            raise NotPossible("the control group cannot limit memory")
        if not os.path.exists(os.path.join(home, "cgroup.type")):
            raise NotPossible("the control group is the machine's own")
        needed.append(os.path.join(home, "cgroup.subtree_control"))
    elif platform.text_of(os.path.join(home, "memory.use_hierarchy")) == "0":
        raise NotPossible("the control group does not count its children's memory")
    if not all(os.access(path, os.W_OK) for path in needed):
        raise NotPossible("the control group is not writable")
    return home, version


def _remove_left_behind(home: str) -> None:
    """By hosts that were killed. A group in which anybody runs cannot be removed."""
    with suppress(OSError):
        for name in os.listdir(home):
            if (found := _OURS.fullmatch(name)) and not os.path.exists(f"/proc/{found[1]}"):
                _removed(os.path.join(home, name))


def _removed(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _is_ours(pid: int) -> bool:
    """This process, or one that descends from it."""
    while pid > 1 and pid != os.getpid():
        status = platform.text_of(f"/proc/{pid}/stat")
        pid = int(status.rpartition(")")[2].split()[1]) if status else 0
    return pid == os.getpid()


def _pids(path: str) -> list[int]:
    return [int(pid) for pid in platform.text_of(os.path.join(path, "cgroup.procs")).split()]


def _write(folder: str, name: str, value: str) -> None:
    path = os.path.join(folder, name)
    try:
        with open(path, "w") as file:
            file.write(value)
    except OSError as error:
        error.filename = path  # a write that fails does not tell
        raise
