"""Where a worker marks what it runs, in memory that survives it.

Each worker process has a journal of its own, of one page a slot of the arena:

    page      SERIAL · COUNT · CURRENT · STATES │ one state byte a record
    tickets   one state byte each, for records whose span has been reported and whose slot
              may be another's by now

A clean sequential span costs one store a record: `CURRENT = i` says that i runs and all before
it are done. The state bytes count once `STATES` is 1. The host alone keeps time: it compares
what it sees with what it saw.

Whatever is read here was written by a process that may have run wild: it is clamped.
"""

from __future__ import annotations

import mmap
import os
from typing import Final, NamedTuple

from streamheal import platform
from streamheal.workers.arena import SLOTS

OPEN: Final = 0
RUNNING: Final = 1
DONE: Final = 2
FILTERED: Final = 3
FAILED: Final = 4
KEYING: Final = 5  # runs, but only its `key`: whoever dies or hangs so is not asked for it again

# Header words of a page.
SERIAL: Final = 0
COUNT: Final = 1
CURRENT: Final = 2
STATES: Final = 3

PAGE = 2 << 20
PAGE_WORDS = PAGE // 8
HEAD = 64
RECORDS_MAX = PAGE - HEAD

# In CURRENT: nothing runs, and all before it are done.
PAUSED: Final = 1 << 40

# The worker allots the lower half of the tickets, the host the upper.
TICKETS = 8 << 20
TICKETS_AT = SLOTS * PAGE + mmap.PAGESIZE
HOST_TICKETS_FROM = TICKETS // 2
# Counts calls of a batch processor: the same record running in another call is not the same run.
CALLS_WORD: Final = SLOTS * PAGE // 8
# In cautious mode: 1 + the mark of the coroutine that is being resumed; 0: none is.
STEP_WORD: Final = CALLS_WORD + 1
_SIZE = TICKETS_AT + TICKETS

_KNOWN_STATES = bytes(RUNNING if state == KEYING else state if state <= FAILED else OPEN for state in range(256))


def state_mark(slot: int, nth: int) -> int:
    """Where the state byte of a span's record is."""
    return slot * PAGE + HEAD + nth


class Page(NamedTuple):
    """What a page says of one span. `keying`: the record that was asked for its key, or -1; one at a time is."""

    records: int
    states: bytes
    keying: int = -1

    @property
    def running(self) -> list[int]:
        found, at = [], -1
        while (at := self.states.find(RUNNING, at + 1)) >= 0:
            found.append(at)
        return found


class Journal:
    """Both sides' view of the marks. Without a descriptor it is made new."""

    def __init__(self, fd: int | None = None) -> None:
        self.fd = platform.anonymous_file("journal", _SIZE) if fd is None else fd
        try:
            self.map = mmap.mmap(self.fd, _SIZE)
        except OSError:  # it takes a descriptor of its own
            os.close(self.fd)
            raise
        platform.keep_out_of_dumps(self.map)
        self.marks = memoryview(self.map)
        self.words = self.marks.cast("Q")

    def release(self) -> None:
        """In a forked child: whoever tries to mark anything here finds that he cannot."""
        self.words.release()
        self.marks.release()

    def close(self) -> None:
        self.release()
        self.map.close()
        os.close(self.fd)

    # -- the host's side -----------------------------------------------------------------

    def counted(self, slot: int, serial: int) -> int | None:
        """How many records the span holds; None: the worker has not come to it."""
        head = slot * PAGE_WORDS
        if self.words[head + SERIAL] != serial:
            return None
        return min(self.words[head + COUNT], RECORDS_MAX)

    def page(self, slot: int, serial: int) -> Page | None:
        """What is marked of a span; None: the worker has not come to it, nothing has started."""
        count = self.counted(slot, serial)
        if count is None:
            return None
        head = slot * PAGE_WORDS
        if self.words[head + STATES]:
            start = slot * PAGE + HEAD
            raw = bytes(self.marks[start : start + count])
            return Page(count, raw.translate(_KNOWN_STATES), raw.find(KEYING))
        current = self.words[head + CURRENT]
        at = min(current & ~PAUSED, count)
        running = at < count and not current & PAUSED
        return Page(count, bytes([DONE]) * at + bytes([RUNNING]) * running + bytes(count - at - running))

    def all_done(self, slot: int, serial: int, records: int) -> bool:
        """Whether the span ran through without trouble, as one word says; else `page` is to be asked."""
        head, words = slot * PAGE_WORDS, self.words
        return bool(
            words[head + SERIAL] == serial
            and not words[head + STATES]
            and words[head + COUNT] == records
            and words[head + CURRENT] == records | PAUSED
        )

    def running_now(self, slot: int, serial: int) -> list[int]:
        """The places of records that run; cheaper than `page` where one is read often."""
        head = slot * PAGE_WORDS
        if self.words[head + SERIAL] != serial:
            return []
        if self.words[head + STATES]:
            found = self.page(slot, serial)
            return found.running if found else []
        current = self.words[head + CURRENT]
        return [current] if current < self.words[head + COUNT] else []

    def take_over(self, slot: int, serial: int, states: bytes) -> None:
        """Write what another worker left of a span, before this one is given it."""
        start, head = slot * PAGE + HEAD, slot * PAGE_WORDS
        self.marks[start : start + len(states)] = states
        self.words[head + COUNT], self.words[head + STATES] = len(states), 1
        self.words[head + SERIAL] = serial

    @property
    def stepping(self) -> int:
        """The mark of the record whose coroutine is being resumed; -1: none is, or nobody takes note."""
        return self.words[STEP_WORD] - 1

    def ticket(self, number: int) -> int:
        return _KNOWN_STATES[self.marks[TICKETS_AT + number]]

    def keying(self, number: int) -> bool:
        """Whether the record of this ticket was asked for its key."""
        return bool(self.marks[TICKETS_AT + number] == KEYING)

    def set_ticket(self, number: int, state: int) -> None:
        self.marks[TICKETS_AT + number] = state
