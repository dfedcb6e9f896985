"""What only Linux has, and what stands in for it elsewhere.

Production is Linux; macOS is where people develop. Nothing outside this module asks which.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import socket
import sys
import termios
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

LINUX = sys.platform == "linux"
# Elsewhere nobody says cheaply what a process uses without the arena.
WATCHES_MEMORY = LINUX

# Asks a worker for its stack. A real-time signal, because programs use those least; macOS has none.
DUMP_SIGNAL: int = getattr(signal, "SIGRTMAX", signal.SIGUSR2 + 1) - 1

# Above what `os.closerange(3, 256)`, the usual preparation of a daemon, takes away.
_HIGH = 700
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_DESCRIPTORS_MAX = 10_240


def anonymous_file(name: str, size: int) -> int:
    """A descriptor of memory that can be shared; sparse, and gone with its last user."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create(f"streamheal-{name}", os.MFD_CLOEXEC)
    else:
        import tempfile

        fd, path = tempfile.mkstemp(prefix=f"streamheal-{name}-")
        os.unlink(path)
    os.ftruncate(fd, size)
    return fd


def keep_out_of_dumps(memory: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_DONTDUMP"):
        memory.madvise(mmap.MADV_DONTDUMP)


def free_pages(memory: mmap.mmap, start: int, length: int) -> None:
    """Give memory back to the system; what is read there afterwards is zeros, or what it was."""
    if hasattr(mmap, "MADV_REMOVE"):
        try:
            memory.madvise(mmap.MADV_REMOVE, start, length)
        except OSError:
            pass  # some filesystems cannot; then the pages stay until we end


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends that keep messages whole, and lose none that was sent before a death."""
    kind = socket.SOCK_SEQPACKET if LINUX else socket.SOCK_DGRAM
    return socket.socketpair(socket.AF_UNIX, kind)


def widen_pipe(fd: int, size: int) -> None:
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        try:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)
        except OSError:
            pass  # limited per user; the usual 64 KiB will do


def unread_bytes(fd: int) -> int:
    """How much lies in a pipe now."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def allow_many_descriptors() -> None:
    """As many as the system lets us have. The usual soft limit of 1,024 is for programs that call select()."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS says infinity, and takes no more than OPEN_MAX.
    most = _DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def high_descriptor(fd: int) -> int:
    """The same file under a high number, closed on exec; the low number is closed."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = _HIGH if soft == resource.RLIM_INFINITY or soft > _HIGH + 20 else max(3, soft - 20)
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
    os.close(fd)
    return high


def die_with(parent: int, closed: Callable[[], None]) -> None:
    """Die when the parent does, however it dies. `closed` waits for the parent's end of the socket."""
    if LINUX:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # it died before we could ask to be told
    else:
        threading.Thread(target=closed, daemon=True).start()


def killed_with_us() -> Callable[[], None]:
    """For a child to call between fork and exec: the kernel kills it when the thread that forked it ends.

    Elsewhere than on Linux it has to notice our end by itself.
    """
    if not LINUX:
        return lambda: None
    import ctypes

    # Loaded here: the forked child must not import anything.
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def adopt_orphans() -> bool:
    """From here on processes that our descendants leave behind are our children. False: not here.

    Linux has it since 3.4. Without /proc nobody would find them.
    """
    if not LINUX or not os.path.isdir("/proc/self/task"):
        return False
    import ctypes

    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def dead_orphans() -> set[int]:
    """Children of another session than ours that are dead and not reaped.

    Dead children of our own session may be a `subprocess.run` of some library's, which is about to reap them.
    """
    try:
        if not LINUX or os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return set()
        processes = os.listdir("/proc")
    except OSError:  # there are no children, or no descriptors to look by
        return set()
    ours, session = str(os.getpid()), str(os.getsid(0))
    found = set()
    for pid in filter(str.isdecimal, processes):
        state, parent, _, its_session, *_ = text_of(f"/proc/{pid}/stat").rpartition(")")[2].split() or [""] * 4
        if state == "Z" and parent == ours and its_session != session:
            found.add(int(pid))
    return found


def call_process(name: str) -> str:
    """Have `ps` and `top` show this name, of 15 bytes at most, where that is possible. Returns what it was."""
    before = text_of("/proc/self/comm")
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(name)
    except OSError:
        pass
    return before


def be_killed_first(by: int) -> None:
    """The kernel, out of memory, takes a worker before the host or the JVM. Best effort."""
    try:
        with open("/proc/self/oom_score_adj", "r+") as file:
            score = min(1000, int(file.read()) + by)
            file.seek(0)
            file.write(str(score))
    except (OSError, ValueError):
        pass


class ProcessStatus:
    """What the kernel says of a child, read twenty times a second: its files are opened once.

    Where there is no such file (macOS) nothing is said: nobody is ever seen stopped, and no memory is known.
    """

    def __init__(self, pid: int) -> None:
        self._files: list[int] = []
        try:
            self._files += [os.open(f"/proc/{pid}/{name}", os.O_RDONLY) for name in ("stat", "statm")]
        except OSError:
            pass

    @property
    def state(self) -> str:
        """One letter of proc(5): `T` stopped, `t` stopped by a debugger, `D` in a call that nothing interrupts."""
        found = self._read(0)
        # The name in brackets may hold brackets itself.
        return found[found.rindex(b")") + 2 :][:1].decode() if found else ""

    @property
    def anonymous_bytes(self) -> int | None:
        """Without the arena, which all share: it would count in every process again. What it still has in common with
        whom it was forked from does count."""
        found = self._read(1).split()
        return (int(found[1]) - int(found[2])) * mmap.PAGESIZE if found else None

    def _read(self, file: int) -> bytes:
        try:
            return os.pread(self._files[file], 4096, 0)
        except (OSError, IndexError):
            return b""  # it is dead and reaped, or there are no such files

    def close(self) -> None:
        while self._files:
            os.close(self._files.pop())


def machine_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def container_memory_bytes() -> int | None:
    """The container's limit; None: there is none, or no less than the machine has."""
    # Another version of cgroups says nothing here; version 2 says `max` for none, version 1 a number
    # beyond any machine's memory.
    said = next((text for path in cgroup_files(_LIMITS) if (text := text_of(path)).isdecimal()), None)
    return int(said) if said is not None and int(said) < machine_memory_bytes() else None


def oom_kills() -> int:
    """How many of the container's processes the kernel has killed for want of memory; 0 where nobody counts."""
    return next((kills for path in cgroup_files(_OOM_COUNTS) if (kills := oom_kills_in(path)) is not None), 0)


def oom_kills_in(path: str) -> int | None:
    """What this file of a control group counts; None: it is not there, or counts nothing of the kind."""
    for line in text_of(path).splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    return None


_CGROUPS = "/sys/fs/cgroup"
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
OOM_COUNTS = ("memory.events", "memory.oom_control")  # in version 2, and 1
_OOM_COUNTS = (OOM_COUNTS[0], f"memory/{OOM_COUNTS[1]}")


def cgroup_files(names: tuple[str, str]) -> list[str]:
    """Where our own control group says such a thing, in both versions: it, else the root that a container sees."""
    groups = [line.split(":", 2) for line in text_of("/proc/self/cgroup").splitlines()]
    found = []
    for name, ours in ((names[0], lambda kinds: kinds == ""), (names[1], lambda kinds: "memory" in kinds.split(","))):
        controller, _, file = name.rpartition("/")
        for _, kinds, group in groups:
            if ours(kinds):
                found.append(os.path.join(_CGROUPS, controller, group.strip("/"), file))
        found.append(os.path.join(_CGROUPS, name))
    return found


def text_of(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def peer_uid(peer: socket.socket) -> int:
    """Whose process is at the other end of this Unix socket."""
    if LINUX:
        import struct

        _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(uid)
    # LOCAL_PEERCRED is a struct xucred: its version, then the effective user id (macOS, sys/ucred.h).
    return int.from_bytes(peer.getsockopt(0, 0x001, 8)[4:8], sys.byteorder)


def when_dead(pid: int, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Call in the loop's thread once the process has died, reaped or not.

    Not the socket's end: a grandchild may hold that open.
    """
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        pass  # not on this system, or no descriptor is free, or it is dead and reaped by the kernel
    else:

        def readable() -> None:
            loop.remove_reader(fd)
            os.close(fd)
            call()

        loop.add_reader(fd, readable)
        return

    def wait() -> None:
        # WNOWAIT leaves it unreaped, so that its group's number cannot be another's yet.
        with suppress(ChildProcessError):  # where SIGCHLD is ignored the kernel reaps
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        try:
            loop.call_soon_threadsafe(call)
        except RuntimeError:
            pass  # the loop was closed meanwhile

    threading.Thread(target=wait, daemon=True).start()
