"""Where worker processes come from: forked from a process of ours, or each a new interpreter.

    a nursery that answers    a few milliseconds, memory shared; never runs user code (`child/nursery.py`)
    none, or one in trouble   executed: a tenth of a second, as everywhere but on Linux

Whichever it was, the process is a child of the host, alone in its session, and has what the host gave it and
nothing else.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Container
from contextlib import ExitStack, suppress
from typing import NamedTuple, Protocol

import msgspec

from streamheal import platform
from streamheal.workers.child.birth import BORN, READY, Birth, Given
from streamheal.workers.journal import Journal
from streamheal.workers.port import Log

_PIPE_BYTES = 1 << 20
_ANSWER_BYTES = 64
# A fork takes milliseconds, on the busiest machine a few hundred.
_ANSWER_S_MAX = 1.0
# The first process of all waits for it: executing that one instead would take as long.
_READY_S_MAX = 2.0
_END_S_MAX = 1.0
# One that cannot live must not cost us more than this; each that has borne nobody doubles it.
_AGAIN_S_MIN, _AGAIN_S_MAX = 1.0, 60.0
_ORPHANS_S = 1.0

# Our own modules are loaded before the working folder can offer others of their names.
_BOOT = """
import sys
sys.path.append(sys.argv[1])
from streamheal.workers.child.main import main
main(sys.argv[2])
"""
_NURSERY_BOOT = """
import sys
sys.path.append(sys.argv[1])
from streamheal.workers.child.main import main
from streamheal.workers.child.nursery import nurse
main(nurse(sys.argv[2], sys.argv[3]))
"""
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Child(Protocol):
    """As `subprocess.Popen` has it."""

    pid: int
    returncode: int | None

    def wait(self) -> int: ...


class Newborn(NamedTuple):
    """A process that was just born, and the host's side of what it was given."""

    child: Child
    journal: Journal
    sock: socket.socket
    dump: int
    stdout: int
    stderr: int


class _Forked:
    """A child that another process forked for us."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self) -> int:
        if self.returncode is None:
            try:
                _, status = os.waitpid(self.pid, 0)
            except ChildProcessError:
                status = 0  # SIGCHLD is ignored here; `Popen` says the same then
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class _Unborn:
    """What one process is to begin with. Made anew for each try: nobody else ever has the other ends."""

    def __init__(self, birth: Birth) -> None:
        self.birth = birth
        self._pipes: list[tuple[int, int]] = []
        with ExitStack() as made:
            self._journal = Journal()
            made.callback(self._journal.close)
            self._sock, self._their_sock = platform.socket_pair()
            made.callback(self._sock.close)
            made.callback(self._their_sock.close)
            self._sock.setblocking(False)
            self._dump = platform.anonymous_file("dump", 0)
            made.callback(os.close, self._dump)
            for _ in ("stdout", "stderr"):
                pipe = os.pipe()
                self._pipes.append(pipe)
                for fd in pipe:
                    made.callback(os.close, fd)
                platform.widen_pipe(pipe[0], _PIPE_BYTES)
            self._made = made.pop_all()

    def ask(self, nursery: socket.socket) -> None:
        socket.send_fds(nursery, [msgspec.json.encode(self.birth)], self._given())

    def forked(self, pid: int) -> Newborn:
        with suppress(OSError):  # it is dead already, and we will hear of it
            self._sock.send(BORN)
        return self._newborn(_Forked(pid))

    def executed(self) -> Newborn:
        given = self._given()
        birth = msgspec.structs.replace(self.birth, **given.kept)
        return self._newborn(
            subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, _ROOT, msgspec.json.encode(birth).decode()],
                stdin=subprocess.DEVNULL,
                stdout=given.stdout,
                stderr=given.stderr,
                pass_fds=tuple(given.kept.values()),
                start_new_session=True,
            )
        )

    def discard(self) -> None:
        """Whatever comes of it finds nobody here, and ends."""
        self._made.close()

    def _given(self) -> Given:
        stdout, stderr = (write for _, write in self._pipes)
        return Given(self._their_sock.fileno(), self.birth.arena, self._journal.fd, self._dump, stdout, stderr)

    def _newborn(self, child: Child) -> Newborn:
        self._close_theirs()
        (stdout, _), (stderr, _) = self._pipes
        return Newborn(child, self._journal, self._sock, self._dump, stdout, stderr)

    def _close_theirs(self) -> None:
        self._their_sock.close()
        for _, write in self._pipes:
            os.close(write)


# Who hears of a birth, or why there is none: too many processes or files, or no memory.
Then = Callable[[Newborn | OSError], None]


class _Asked(NamedTuple):
    unborn: _Unborn
    then: Then


class Nursery:
    """Bears all worker processes of this host. Lives in one event loop."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._loop: asyncio.AbstractEventLoop
        self._popen: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket
        self._ready = asyncio.Event()
        self._heard = asyncio.Event()  # that it is ready, or dead
        self._asked: deque[_Asked] = deque()
        self._given_up: list[subprocess.Popen[bytes]] = []
        self._possible = False
        self._again_at = self._orphans_at = 0.0
        self._again_s = _AGAIN_S_MIN
        self._orphans: set[int] = set()

    async def open(self) -> None:
        """Start it. It may not be ready in the end, or never be: then processes are executed."""
        self._loop = asyncio.get_running_loop()
        self._possible = platform.adopt_orphans()
        if self._possible:
            self._start()
        if self._popen is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), _READY_S_MAX)

    @property
    def pid(self) -> int | None:
        return None if self._popen is None else self._popen.pid

    def bear(self, birth: Birth, then: Then) -> None:
        """A new worker process. `then` is called with it: now, or in some milliseconds; nobody waits here."""
        if not (self._ready.is_set() and self._ask(birth, then)):
            _execute(birth, then)

    def look(self, now: float, ours: Container[int]) -> None:
        """At what is dead and nobody has asked for. `ours`: processes whose owner will."""
        self._given_up = [popen for popen in self._given_up if popen.poll() is None]
        if self._possible and self._popen is None and now >= self._again_at:
            self._again_at = now + self._again_s
            self._start()
        if now >= self._orphans_at:
            self._orphans_at = now + _ORPHANS_S
            self._bury_orphans(ours)

    def close(self) -> None:
        """Nobody is born any more, and who was about to be is not."""
        self._possible = False
        if self._popen is not None:
            self._forget()
        while self._asked:
            self._asked.popleft().unborn.discard()
        for popen in self._given_up:
            with suppress(subprocess.TimeoutExpired):
                popen.wait(_END_S_MAX)

    # -- the process -------------------------------------------------------------------------

    def _start(self) -> None:
        """If that is not possible now, it may be when we next look."""
        with ExitStack() as made, suppress(OSError):
            sock, theirs = platform.socket_pair()
            made.callback(sock.close)
            with theirs:
                self._popen = subprocess.Popen(
                    [sys.executable, "-P", "-c", _NURSERY_BOOT, _ROOT, str(theirs.fileno()), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
            made.pop_all()
            sock.setblocking(False)
            self._sock = sock
            self._loop.add_reader(sock.fileno(), self._readable)

    def _ask(self, birth: Birth, then: Then) -> bool:
        """Whether it has been asked."""
        try:
            unborn = _Unborn(birth)
        except OSError:
            return False
        try:
            unborn.ask(self._sock)
        except OSError:
            unborn.discard()  # it is dead, and the next may be born by another
            return False
        asked = _Asked(unborn, then)
        self._asked.append(asked)
        self._loop.call_later(_ANSWER_S_MAX, self._late, asked)
        return True

    def _readable(self) -> None:
        self._read()

    def _read(self) -> bool:
        """One answer, if there is one."""
        try:
            answer = self._sock.recv(_ANSWER_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            answer = b""
        if not answer:
            self._give_up("it died")
        elif answer == READY:
            self._ready.set()
            self._heard.set()
        else:
            unborn, then = self._asked.popleft()
            if pid := int.from_bytes(answer, sys.byteorder):
                self._again_s = _AGAIN_S_MIN
                then(unborn.forked(pid))
            else:
                unborn.discard()
                _execute(unborn.birth, then)
        return True

    def _late(self, asked: _Asked) -> None:
        while asked in self._asked and self._read():
            pass  # it may be we who were stopped
        if asked in self._asked:
            self._give_up("it does not answer")

    def _give_up(self, why: str) -> None:
        assert self._popen is not None
        self._log.warning("nursery_lost", pid=self._popen.pid, why=why)
        self._forget()
        self._heard.set()
        self._again_s = min(_AGAIN_S_MAX, 2 * self._again_s)
        asked, self._asked = self._asked, deque()
        for unborn, then in asked:
            unborn.discard()
            _execute(unborn.birth, then)

    def _forget(self) -> None:
        assert self._popen is not None
        self._popen.kill()
        self._given_up.append(self._popen)
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        self._popen = None
        self._ready.clear()

    # -- what others leave behind --------------------------------------------------------------

    def _bury_orphans(self, ours: Container[int]) -> None:
        """Since we are their reaper. One that is still there at the next look has nobody who asks for it."""
        started = {popen.pid for popen in self._given_up} | {self.pid}
        found = {pid for pid in platform.dead_orphans() if pid not in ours and pid not in started}
        for pid in found & self._orphans:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._orphans = found - self._orphans


def _execute(birth: Birth, then: Then) -> None:
    try:
        unborn = _Unborn(birth)
    except OSError as error:
        then(error)
        return
    try:
        newborn = unborn.executed()
    except OSError as error:
        unborn.discard()
        then(error)
    else:
        then(newborn)
