"""The host's end of one worker process, once it is born: how it talks, prints and dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from streamheal import platform
from streamheal.attempts import TRACEBACK_BYTES_MAX, cut
from streamheal.core.messages import At
from streamheal.workers.cgroups import Group
from streamheal.workers.nursery import Newborn
from streamheal.workers.output import OutputReader, Tail
from streamheal.workers.wire import (
    PART_BYTES,
    Again,
    Facts,
    Joiner,
    Limit,
    Message,
    Show,
    ToHost,
    datagrams,
    unpack_for_host,
)

_DATAGRAM_MAX = PART_BYTES + 64
# Messages taken at one go, so that one talkative worker does not keep the loop from the others.
_MESSAGES_A_TURN = 256
_DUMP_BYTES = 1 << 20
_DUMP_WAIT_S = 0.2
_DUMP_GROWING_WAIT_S = 0.05  # it eats memory meanwhile
_SHOW_S = 0.05
# The label of a process in which one record runs alone.
CELL = "cell"
# How often all processes are looked at.
LOOK_EVERY_S = 0.05

# Why we end a process, as `worker_died` has it under `why`.
Doom = Literal[
    "deadline",  # a record in a worker ran past it, and did not end when told to
    "overran",  # the same of a record that runs alone
    "initialize",  # ran past its time, as did
    "hook",  # another of the processor's
    "import",  # and its import
    "deaf",  # takes nothing it is told, though no record runs
    "memory",  # grew too large
    "crowded",  # a cell that is too large only beside others: it yields
    "stopped",  # found so again and again, and nobody is blamed
    "stopped again",  # more often than is excused: a crash like any other
    "by_us",  # a shard in it was given up while it ran records, or had it for itself
    "recycled",  # leaked, and nothing runs in it
    "retired",  # a spare or a cell that is not needed any more
    "spare failed",  # could not import the processor
    "spoke gibberish",
    "stuck",  # was killed for something else, and does not die
    "close",
]


class Owner(Protocol):
    """Who hears of a process."""

    def heard(self, process: Process, message: ToHost) -> None: ...
    def printed(self, process: Process, stream_name: str, line: str) -> None: ...
    def died(self, process: Process) -> None: ...


class Process:
    """One process, from its birth to its burial. The owner hears what it says, then that it died.

    Attributes:
        name: For people: `worker 1 (pid 4711)`.
        facts: What it found out about the processor; None until it has imported it.
        doomed: Why we kill it, once we do; None: if it dies, it died by itself.
        state: What it was doing when we did, as the kernel has it: `R`, `S`, `D` …; None: it died by itself.
        awake_s: How long it could run, as far as was seen: neither it nor its host was stopped.
        dying_s: How long ago it was killed, in the host's time awake.
        heeded_s: When it last took a `Cancel` or a `Ping`, on the clock of `awake_s`.
        stood_still: Since a record is late it has taken nothing that it was told: nothing there can run.
        stops: How often it was seen stopped.
        memory: What it used at the last look, in bytes.
        beginning: Only its processor's own beginnings run in it: import, `initialize`.
        began_with: What it took in these, in bytes.
        draining: Its seats that have not said yet that they start nothing more; None: it is not emptied.
        group: The control group that limits it; None: only the host does.
        grew: Why it is ended for its memory, or was by the kernel; None: it is not.
    """

    def __init__(
        self,
        owner: Owner,
        newborn: Newborn,
        loop: asyncio.AbstractEventLoop,
        group: Group | None = None,
    ) -> None:
        self._child, self.journal, self._sock, self._dump, *pipes = newborn
        self.facts: Facts | None = None
        self.doomed: Doom | None = None
        self.state: str | None = None
        self.dead = asyncio.Event()
        self.tail = Tail()
        self.overran: dict[Any, set[At]] | None = None  # by seat: what the watchdog ends it for
        self.tickets_given = 0  # of the host's half of the journal's
        self.awake_s = self.dying_s = 0.0
        self.heeded_s = -1.0
        self.stood_still = False
        self.stops = self.memory = self.began_with = 0
        self.beginning = True
        self.grew: str | None = None
        self.draining: set[int] | None = None
        self.group = group
        self._owner, self._loop = owner, loop
        self._joiner = Joiner()
        self._outbox: deque[bytes] = deque()
        self._stack = ""
        self.label = "spare"
        self.status = platform.ProcessStatus(self.pid)
        self._readers = [
            OutputReader(loop, pipe, lambda line, name=name: self._line(name, line))  # type: ignore[misc]  # mypy infers no lambda with defaults
            for name, pipe in zip(("stdout", "stderr"), pipes, strict=True)
        ]
        loop.add_reader(self._sock.fileno(), self._readable)
        platform.when_dead(self.pid, loop, self._died)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def name(self) -> str:
        return f"{self.label} (pid {self.pid})"

    @property
    def one_by_one(self) -> bool:
        """Whether it runs one record, or one call of a batch processor, after another."""
        facts = self.facts
        return facts is not None and (facts.mode == "batch" or facts.concurrency == 1)

    @property
    def grown(self) -> int:
        """What records have made of it, in bytes."""
        return self.memory - self.began_with

    # -- talking -------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        if self.dead.is_set() or (self.draining is not None and isinstance(message, Limit | Again)):
            return  # while it is emptied nothing is to start: all that is open will be given to the next
        waits = bool(self._outbox)
        self._outbox.extend(datagrams(message))
        if not waits:
            self._flush()
            if self._outbox:
                self._loop.add_writer(self._sock.fileno(), self._writable)

    def _writable(self) -> None:
        self._flush()
        if not self._outbox:
            self._loop.remove_writer(self._sock.fileno())

    def _flush(self) -> None:
        while self._outbox:
            try:
                self._sock.send(self._outbox[0])
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._outbox.clear()  # it is dead or dying, and we will hear of it
                return
            self._outbox.popleft()

    def _readable(self) -> None:
        for _ in range(_MESSAGES_A_TURN):
            if not self._read():
                return

    def _read(self) -> bool:
        """One datagram. False: there is none now, or never again."""
        try:
            datagram = self._sock.recv(_DATAGRAM_MAX)
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionResetError:
            # It has died before it had read all of ours. The kernel says so once, before what it said itself
            # (Linux, `unix_release_sock` and `__skb_try_recv_datagram`).
            return True
        except OSError:
            datagram = b""
        if not datagram:
            self._loop.remove_reader(self._sock.fileno())
            return False
        if (whole := self._joiner.whole(datagram)) is not None:
            try:
                message = unpack_for_host(whole)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self.kill("spoke gibberish")
                return False
            if isinstance(message, Facts):
                self.facts = message
            self._owner.heard(self, message)
        return True

    def _line(self, stream_name: str, line: str) -> None:
        self.tail.add(line)
        self._owner.printed(self, stream_name, line)

    def read_output(self) -> None:
        """Everything printed so far, now rather than when the loop comes to it."""
        for reader in self._readers:
            reader.read_all()

    @property
    def mid_line(self) -> bool:
        return any(reader.mid_line for reader in self._readers)

    # -- time ----------------------------------------------------------------------------

    def due_in(self, seconds: float) -> float:
        """When so much time has passed for it, on the clock of `awake_s`; never too early."""
        return self.awake_s + seconds + LOOK_EVERY_S

    def resume(self) -> None:
        """Nobody means to stop a worker."""
        if not self.dead.is_set():
            os.kill(self.pid, signal.SIGCONT)

    # -- dying ---------------------------------------------------------------------------

    def kill(self, why: Doom) -> None:
        """End the process and its group. What it marked until then stays readable until `died`."""
        if self.doomed is None:
            self.doomed = why
        self._kill_group()

    def kill_with_stack(self, why: Doom, show: Sequence[Show] = ()) -> None:
        """Have it write its stack and die of that, which works while the interpreter is held; else kill it.

        `show`: coroutines that its event loop is asked to write the stacks of, if it still turns.
        """
        if self.doomed is not None or self.dead.is_set():
            return
        self.doomed, self.state = why, self.status.state
        if show and self.facts is not None and self.facts.mode == "async":
            for message in show:
                self.send(message)
            self._loop.call_later(_SHOW_S, self._ask_for_stack)
        else:
            self._ask_for_stack()

    def _ask_for_stack(self) -> None:
        if not self.dead.is_set():
            os.kill(self.pid, platform.DUMP_SIGNAL)
            self._loop.call_later(_DUMP_WAIT_S if self.grew is None else _DUMP_GROWING_WAIT_S, self._kill_group)

    def _kill_group(self) -> None:
        # Not once it is reaped: its number may be another's by then.
        if not self.dead.is_set():
            try:
                os.kill(self.pid, signal.SIGKILL)  # it may have left its group
                os.killpg(self.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass

    def _died(self) -> None:
        self._kill_group()  # what it started goes with it
        self._child.wait()
        if not self.dead.is_set():
            self.bury()

    def bury(self) -> None:
        """First what it said, then that it is dead: its last reports still lie in the socket.

        One that was killed and does not die is buried all the same: it never comes back to its own code.
        """
        while self._read():
            pass
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        for reader in self._readers:
            reader.close()
        self._stack = self._read_stack()
        self.dead.set()
        self._sock.close()
        self.status.close()
        os.close(self._dump)
        self._owner.died(self)
        self.journal.close()

    def _read_stack(self) -> str:
        size = min(os.fstat(self._dump).st_size, _DUMP_BYTES)
        return os.pread(self._dump, size, 0).decode("utf-8", "replace")

    @property
    def stack(self) -> str | None:
        """Where it was, as faulthandler wrote it."""
        return cut(self._stack, TRACEBACK_BYTES_MAX) if self._stack else None

    @property
    def signal_name(self) -> str | None:
        code = self._child.returncode
        if code is None or code >= 0 or -code == platform.DUMP_SIGNAL:
            return None
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"

    @property
    def exit_code(self) -> int | None:
        code = self._child.returncode
        return code if code is not None and code >= 0 else None
