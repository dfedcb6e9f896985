"""What lanes are made of: spans in this process, queues behind blocked records, tickets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from streamheal.records import Record
from streamheal.workers.journal import HOST_TICKETS_FROM, TICKETS_AT

Key = object
# A record to run, and the lane it runs in.
Item = tuple["Span", int, Record, Key]


class Span:
    """A batch in this process.

    Attributes:
        base: Where its page's state bytes begin in the journal.
        words: Where its page's header words begin.
        able: Records that can still run: not yet come to, or in a lane that is not blocked.
        known: Places of records that the host knows by themselves.
        tickets: Marks of open records after the report; None before it.
        hold, ask: Places of records that block their lane when it comes to them.
        skip: Places of records that are settled, and only passed.
        again: Records that were told to run again before their lane came to them, as they were told.
    """

    __slots__ = (
        "_read", "_records", "able", "again", "ask", "base", "began", "hold", "keyless", "known", "n", "named",
        "number", "skip", "slow", "start", "tickets", "todo", "words",
    )  # fmt: skip

    def __init__(self, number: int, read: Callable[[], list[Record]]) -> None:
        """`read`: decodes its records, as long as its slot is not another's."""
        self.number, self._read = number, read
        self.base = self.words = self.n = self.able = self.start = 0
        self.began = 0.0
        self._records: list[Record] | None = None
        self.todo: Iterator[tuple[int, Record]] = iter(())
        self.known: set[int] = set()
        self.hold: set[int] = set()
        self.ask: set[int] = set()
        self.skip: set[int] = set()
        self.keyless: set[int] = set()
        self.again: dict[int, Record] = {}
        self.tickets: dict[int, int] | None = None
        self.slow = False  # state bytes count, not CURRENT
        self.named = False  # some of `hold`, `ask` or `skip` may still be to come

    @property
    def records(self) -> list[Record]:
        """All of them, decoded when first asked for: after a death dozens of spans may wait here, and one is needed."""
        if self._records is None:
            self._records = self._read()
        return self._records

    def forget_records(self) -> None:
        """Its slot may be another's from now on."""
        self._records = []

    def as_told(self, nth: int, record: Record) -> Record:
        """The record as it is to run: what was told of it before its turn names the attempt."""
        return self.again.pop(nth, record) if self.again else record

    def mark(self, nth: int) -> int:
        """Where this record's state byte is."""
        if self.tickets is None:
            return self.base + nth
        return TICKETS_AT + self.tickets[nth]


class Lane:
    """A key with a queue, or with a blocked head. `pending` counts the queue by unreported span.

    While it is blocked, `waiting` counts those that wait behind its head, and `since` is the sum of
    the times from which each of them has.
    """

    __slots__ = ("blocked", "head", "pending", "queue", "since", "waiting")

    def __init__(self) -> None:
        self.blocked = False
        self.head: tuple[Span, int] | None = None
        self.queue: deque[tuple[Span, int, Record]] = deque()
        self.pending: dict[Span, int] = {}
        self.waiting = 0
        self.since = 0.0

    def unqueued(self, span: Span) -> None:
        """A record of the span has left the queue."""
        if (left := self.pending.get(span)) is not None:
            if left > 1:
                self.pending[span] = left - 1
            else:
                del self.pending[span]

    def block(self, head: tuple[Span, int], now: float) -> None:
        self.blocked, self.head = True, head
        self.waiting = len(self.queue)
        self.since = self.waiting * now

    def unblock(self, now: float) -> float:
        """Returns how long records have waited behind its head, all of them together."""
        self.blocked = False
        return self.waiting * now - self.since


class Tickets:
    """Which tickets of this process's journal are free. Shared by all its shards."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._next = 0

    def take(self) -> int:
        if self._free:
            return self._free.pop()
        self._next += 1
        assert self._next <= HOST_TICKETS_FROM, "more records wait behind blocked ones than there are tickets"
        return self._next - 1

    def give_back(self, ticket: int) -> None:
        if ticket < HOST_TICKETS_FROM:
            self._free.append(ticket)
