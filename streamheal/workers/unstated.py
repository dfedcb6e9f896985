"""What a processor has returned from and not stated, kept on the host's side in case its process dies.

    reported, unstated     ─┐
    done in its lane, late ─┼─► one span in a fresh slot, given to the next worker before all else
    marked done before them ┘
    (marked done behind them, unreported: its own span is still here, and it is open there again)

The window of open records knows nothing of it: a processor that states once a minute must not
be waited for. So it is bounded by itself, and beyond that the oldest are let go; the core then
keeps the shard's checkpoint before them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from streamheal.records import Dialect, Position, Record
from streamheal.workers.arena import SLOT_BYTES
from streamheal.workers.book import Book
from streamheal.workers.decode import decoder, plain
from streamheal.workers.journal import DONE, RECORDS_MAX

# Of one shard. Written anew they must fit into a slot, in which an escaped key takes more room than it did.
BYTES_MAX = SLOT_BYTES // 2


class _Span(NamedTuple):
    """A span that was reported: its bytes, the places of records that have a fate of their own, and how far it was
    stated once all of it had been returned from."""

    raw: bytes
    dialect: Dialect
    after: Position | None
    last: Position
    known: frozenset[int]
    upto: Position | None


class _Line(msgspec.Struct):
    records: list[Record]
    action: str = "processRecords"


class Unstated:
    """One shard's, in the process it is in now.

    Attributes:
        owes: There is something that the processor has returned from and not stated.
        upto: Nothing up to here is owed; None: not known, so that all that is kept runs again.
        let_go: The last of what was too much to keep; None: all that is owed is here.
    """

    def __init__(self, shard_id: str, bytes_max: int = BYTES_MAX) -> None:
        self._decode = decoder(shard_id)
        self._bytes_max = bytes_max
        self.clear()

    def clear(self) -> None:
        self.owes = False
        self.let_go: Position | None = None
        self.upto: Position | None = None
        self._spans: deque[_Span] = deque()
        self._alone: dict[Position, Record] = {}
        self._bytes = 0

    def stated(self, position: Position | None, owes: bool) -> None:
        """As `core.messages.Stated`."""
        if not owes:
            self.clear()
            return
        self.owes, self.upto = True, position
        if position is None:
            return
        if self.let_go is not None and self.let_go <= position:
            self.let_go = None
        while self._spans and self._spans[0].last <= position:
            self._bytes -= len(self._spans.popleft().raw)
        # Who comes out of turn later makes it unknown how far all is stated, but not of these.
        self._spans = deque(span._replace(upto=position) for span in self._spans)
        for place in [place for place in self._alone if place <= position]:
            del self._alone[place]

    def reported(self, book: Book, last: Position | None, held: Iterable[int] = ()) -> None:
        """A span is over, but for those `held` in lanes. Called while its bytes are still in its slot."""
        if not self.owes or last is None or book.slot is None:
            return
        raw = bytes(book.slot.view[: book.length])
        earlier = (nth for nth, state in enumerate(book.states or b"") if state == DONE)  # not by this process
        known = frozenset({*book.known, *held, *earlier})
        self._spans.append(_Span(raw, book.dialect, book.after, last, known, self.upto))
        self._bytes += book.length
        while self._bytes > self._bytes_max:
            oldest = self._spans.popleft()
            self._bytes -= len(oldest.raw)
            self.let_go = oldest.last

    def succeeded(self, record: Record) -> None:
        """A record is done, and not with its span; said only while something is owed."""
        if self.beyond(record.position):
            self._alone[record.position] = record

    @property
    def last(self) -> Position | None:
        """All that is kept here lies before it, or is it."""
        return max((*(span.last for span in self._spans), *self._alone), default=None)

    def beyond(self, position: Position) -> bool:
        """Whether a record that is done here may be owed."""
        return self.owes and (self.upto is None or position > self.upto)

    def line(self) -> tuple[int, bytes] | None:
        """How many records are to run again, and they themselves as a daemon's line; None: it cannot be done."""
        if self.let_go is not None:
            return None
        found = dict(self._alone)
        for span in self._spans:
            records = self._decode(span.dialect, memoryview(span.raw), span.after)
            for nth, record in enumerate(records):
                if nth not in span.known and (span.upto is None or record.position > span.upto):
                    found[record.position] = record
        records = [plain(found[position]) for position in sorted(found) if self.beyond(position)]
        raw = msgspec.json.encode(_Line(records))
        return (len(records), raw) if len(raw) <= SLOT_BYTES and len(records) <= RECORDS_MAX else None
