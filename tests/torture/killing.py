"""Finds the processes of a host by what they are, and strikes them."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterable
from pathlib import Path

from tests.torture.book import At, Book
from tests.torture.plan import DEADLINE_S, Blow
from tests.whole.running import processes_in, wait_until


class Victims:
    """One host's processes. Its folder is theirs as well."""

    def __init__(self, pid: int, folder: Path, log_read: int, book: Book, dice: random.Random) -> None:
        """`log_read`: how long the folder's log was when this host was started."""
        self.host = pid
        self._folder, self._log, self._book, self._dice = folder, folder / "log", book, dice
        self._log_from, self.log_read = log_read, 0
        self.workers: set[int] = set()

    def look(self) -> None:
        """Learn from the host's log who was made a worker."""
        with self._log.open("rb") as log:
            log.seek(self._log_from + self.log_read)
            found = log.read()
        whole = found[: found.rfind(b"\n") + 1]
        self.log_read += len(whole)
        for line in whole.splitlines():
            if b'"worker_started"' in line:
                self.workers.add(json.loads(line)["pid"])
        self._book.look()

    def struck_unknowing(self, code: int) -> bool:
        """Whether its host ended with this code because its first process of all was killed: by that one it learns
        whether the processor can be imported."""
        self.look()
        return code == 2 and not self.workers and self._book.lines[-1].event == "struck"

    def of_kind(self, whom: str) -> list[int]:
        self.look()
        if whom == "host":
            return [self.host]
        everybody = [pid for pid in processes_in(self._folder) if pid != self.host]
        match whom:
            case "daemon":
                return [pid for pid in everybody if b"java" in command(pid).partition(b"\0")[0]]
            case "stub":
                return [pid for pid in everybody if command(pid).startswith(b"sh\0-c\0read")]
        python = [pid for pid in everybody if b"\0-P\0-c\0" in command(pid)]
        if whom == "all":
            return [self.host, *everybody]
        if whom == "ours":
            return [self.host, *python]
        return [pid for pid in python if self._what(pid) == whom]

    def strike(self, blow: Blow) -> bool:
        """Whether it found anybody."""
        pids = self.of_kind(blow.whom)
        if not pids:
            return False
        chosen = pids if blow.whom == "all" else [self._dice.choice(pids)]
        if blow.how == "stop":
            return self._freeze(chosen, blow)
        (pid,) = chosen
        if blow.how == "kill" and blow.whom == "host":
            return self._kill_host()
        if blow.whom in ("stub", "daemon"):
            self._book.write("struck", pid, how=blow.how, whom=blow.whom)
            return sent(pid, signal.SIGKILL)
        return self._kill(pid)

    def _kill_host(self) -> bool:
        """What ran when a host died is as suspect as what ran in a cell that died, if nothing else ran."""
        pids = self._stop(self.of_kind("ours"))
        running = {at for pid in pids for at in self._book.running.get(pid, ())}
        alone = running if len(running) == 1 else {at for pid in pids for at in self._alone(pid)} & running
        spared = self._spared(alone)
        if not spared:
            self._book.struck_alone.update(alone)
            self._book.write("struck", self.host, how="kill", whom="host")
            sent(self.host, signal.SIGKILL)
            wait_until(lambda: state(self.host) in "ZX")
        for pid in pids:
            # One that only just began has not come to where it asks to die with its host.
            sent(pid, signal.SIGCONT)
        return not spared

    def _stop(self, pids: list[int]) -> list[int]:
        """Their host lets them go on as soon as it sees them so: until they are stopped, they are told again."""
        stopped = [pid for pid in pids if sent(pid, signal.SIGSTOP)]
        for pid in stopped:
            # In D the kernel has it, and stops it before it runs on: as a parent until its child, stopped, has begun.
            wait_until(lambda pid=pid: not sent(pid, signal.SIGSTOP) or state(pid) in "DTZX")  # type: ignore[misc]
        self.look()
        return stopped

    def _kill(self, pid: int) -> bool:
        """Stopped first, so that what it is at is known and stays so."""
        if not self._stop([pid]):
            return False
        alone = self._alone(pid)
        if alone and (len(alone) > 1 or self._spared(alone)):
            sent(pid, signal.SIGCONT)
            return False
        self._book.struck_alone.update(alone)
        self._book.write("struck", pid, how="kill", whom=self._what(pid))
        return sent(pid, signal.SIGKILL)

    def _alone(self, pid: int) -> list[At]:
        """The record that this process runs alone. Two that are one: it may be about to, and we do not see which."""
        if pid in self.workers or pid not in self._book.initialized:
            return []
        running = list(self._book.running.get(pid, ()))
        return running if self._book.begun_in(pid) else [(0, 0), (0, 0)]

    def _what(self, pid: int) -> str:
        if called(pid) == "nursery":
            return "nursery"
        if pid in self.workers:
            return "worker"
        return "cell" if pid in self._book.initialized else "spare"

    def _spared(self, alone: Iterable[At]) -> bool:
        return any(self._book.struck_alone[at] for at in alone)

    def _freeze(self, pids: list[int], blow: Blow) -> bool:
        stopped = self._stop(pids)
        long = blow.for_s > DEADLINE_S / 2
        alone = [self._alone(pid) for pid in stopped if pid != self.host]
        spared = long and any(len(one) > 1 or self._spared(one) for one in alone)
        if not spared:
            if long:
                for one in alone:
                    self._book.struck_alone.update(one)
            self._book.write("struck", stopped[0] if stopped else 0, how="stop", whom=blow.whom, for_s=blow.for_s)
            signal.sigtimedwait([], blow.for_s)
        for pid in stopped:
            sent(pid, signal.SIGCONT)
        return bool(stopped) and not spared


def sent(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def state(pid: int) -> str:
    """R, S, D, T, Z as in /proc; X: gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return "X"


def called(pid: int) -> str:
    """What `ps` calls it."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
