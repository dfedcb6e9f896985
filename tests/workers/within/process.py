"""A process that is none: what a seat sees of it, and its worker of the host."""

from __future__ import annotations

from collections import deque
from typing import Any

from streamheal.workers import wire
from streamheal.workers.journal import CALLS_WORD, HEAD, HOST_TICKETS_FROM, PAGE, TICKETS_AT, Journal

_TICKETS = 256  # of each half; so many are watched


class Dead(BaseException):
    """The process has died: nothing that follows is seen by anybody."""


class Sick(Exception):
    pass


class Link:
    """The worker's end, as far as its code uses it."""

    def __init__(self) -> None:
        self.dead = False
        self.said: deque[wire.Message] = deque()

    def fileno(self) -> int:
        return -1

    def send(self, message: wire.Message) -> None:
        self.check_not_forked()
        self.said.append(wire.unpack_for_host(wire.pack(message)))

    def check_not_forked(self) -> None:
        if self.dead:
            raise Dead


class Corpse:
    """What of a journal may be written: as it was when the process died."""

    def __init__(self, journal: Journal, slots: list[int]) -> None:
        spots = [(slot * PAGE, HEAD + 64) for slot in slots]
        spots += [(CALLS_WORD * 8, 64), (TICKETS_AT, _TICKETS), (TICKETS_AT + HOST_TICKETS_FROM, _TICKETS)]
        self._journal, self._kept = journal, [(at, bytes(journal.marks[at : at + size])) for at, size in spots]

    def restore(self) -> None:
        for at, raw in self._kept:
            self._journal.marks[at : at + len(raw)] = raw


class Process:
    """What a seat sees of a process."""

    facts = None
    grew = stack = signal_name = None
    exit_code = 1
    name, stood_still, overran = "worker", False, None

    def __init__(self) -> None:
        self.journal = Journal()
        self.inbox: deque[wire.Message] = deque()
        self.link = Link()
        self.doomed: Any = None
        self.draining: set[int] | None = None
        self.tickets_given = 0
        self.awake_s = 0.0
        self.tail = self

    def text(self) -> None:
        return None

    def due_in(self, seconds: float) -> float:
        return seconds

    def send(self, message: wire.Message) -> None:
        if self.draining is not None and isinstance(message, wire.Limit | wire.Again):
            return
        self.inbox.append(wire.unpack_for_worker(wire.pack(message)))

    def kill(self, why: str) -> None:
        self.doomed = self.doomed or why
