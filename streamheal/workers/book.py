"""One span as the host keeps it, and what a process's marks say of it.

A process that ran wild may have marked anything: what is read here is clamped to what can be.
"""

from __future__ import annotations

import re

from streamheal.core.messages import At, Named
from streamheal.records import Dialect, Position, Record
from streamheal.workers import wire
from streamheal.workers.arena import Slot
from streamheal.workers.journal import DONE, FILTERED, OPEN, RUNNING, TICKETS_AT, Journal, state_mark

_ARRIVAL = re.compile(rb'pproximateArrivalTimestamp"\s*:\s*([0-9.eE+]+)')
_MILLISECONDS_FROM = 1e11

_OPEN_AGAIN = bytes(state if state in (DONE, FILTERED) else OPEN for state in range(256))


class Known:
    """A record that the core knows by itself.

    `in_hand`: the core's to decide about; its lane is blocked, and old marks of it say nothing.
    `ticket`: where it is marked once its span is reported. `yields`: how often it was ended alone
    to make room for others.
    """

    __slots__ = ("done", "in_hand", "named", "record", "ticket", "yields")

    def __init__(self, named: Named, record: Record) -> None:
        self.named, self.record = named, record
        self.ticket: int | None = None
        self.in_hand = False
        self.done = False
        self.yields = 0


class Book:
    """One span, until nothing of it is open.

    Attributes:
        serial: Names this use of its slot in journals.
        slot: None once the span has been reported.
        records: Decoded here, which only trouble makes necessary.
        states: What a dead worker left; None where none has begun it.
        before: What of it the last one to die had been given as done by others.
        given: To the process that the shard is in now.
        keyless: Places of records whose process died or hung while they were asked for their key: they go by
            their partition key from then on.
    """

    __slots__ = (
        "after", "arrived", "before", "counted", "dialect", "given", "keyless", "known", "length", "number", "records",
        "serial", "slot", "states",
    )  # fmt: skip

    def __init__(
        self, number: int, *, serial: int, slot: Slot, length: int, dialect: Dialect, after: Position | None
    ) -> None:
        self.number, self.serial = number, serial
        self.slot: Slot | None = slot
        self.length, self.dialect, self.after = length, dialect, after
        self.records: list[Record] | None = None
        self.states: bytes | None = None
        self.before = b""
        self.counted = self.given = False
        self.known: dict[int, Known] = {}
        self.keyless: set[int] = set()
        self.arrived: float | None = None

    def when_arrived(self) -> float | None:
        """The first record's arrival stands for its span's: it is read from the bytes, without decoding them."""
        if self.arrived is None and self.slot is not None:
            found = _ARRIVAL.search(self.slot.view[: self.length])
            if found is not None:
                value = float(found[1])
                self.arrived = value / 1000 if value > _MILLISECONDS_FROM else value
        return self.arrived

    # -- what marks say ------------------------------------------------------------------

    def running(self, journal: Journal) -> list[int]:
        """Places of records that are marked running."""
        if not self.given:
            return []
        if self.slot is not None:
            marked = journal.running_now(self.slot.index, self.serial)
            return [
                nth for nth in marked if (known := self.known.get(nth)) is None or not (known.in_hand or known.done)
            ]
        return [
            nth
            for nth, known in self.known.items()
            if known.ticket is not None and not known.in_hand and journal.ticket(known.ticket) == RUNNING
        ]

    def mark(self, nth: int) -> int | None:
        """Where in the journal the record is marked."""
        if self.slot is not None:
            return state_mark(self.slot.index, nth)
        ticket = self.known[nth].ticket
        return None if ticket is None else TICKETS_AT + ticket

    def marked_done(self, journal: Journal) -> int:
        """How many of its records are marked done that nobody has heard of."""
        if self.slot is None or not (self.given and self.counted):
            return 0
        page = journal.page(self.slot.index, self.serial)
        if page is None:
            return 0
        return page.states.count(DONE) - sum(page.states[nth] == DONE for nth in self.known if nth < page.records)

    def unmarked(self, journal: Journal, done: wire.Finished) -> int:
        """How many records this report settles that are not marked so."""
        assert self.slot is not None
        if not done.records or journal.all_done(self.slot.index, self.serial, done.records):
            return 0
        page = journal.page(self.slot.index, self.serial)
        states = b"" if page is None else page.states
        by_themselves = {*self.known, *(nth for nth, _ in done.tickets)}
        settled = states.count(DONE) + states.count(FILTERED)
        of_known = sum(states[nth] in (DONE, FILTERED) for nth in by_themselves if nth < len(states))
        return max(0, done.records - len(by_themselves) - (settled - of_known))

    def keep_marks(self, journal: Journal) -> list[tuple[At, bool]]:
        """Keep what a dead process has marked. Returns known records that are marked done, though it did not come to
        say so."""
        states: bytes | None = None
        if self.slot is not None:
            page = journal.page(self.slot.index, self.serial)
            if page is None:
                return []
            states = page.states
            self.before, self.states = self.states or b"", states.translate(_OPEN_AGAIN)
            if page.keying >= 0:
                self.keyless.add(page.keying)
        done = []
        for nth, known in self.known.items():
            if not (known.in_hand or known.done):
                state = self._state(journal, nth, known, states)
                if state in (DONE, FILTERED):
                    known.done = True
                    done.append((At(self.number, nth), state == FILTERED))
            if states is None and known.ticket is not None and journal.keying(known.ticket):
                self.keyless.add(nth)
            known.ticket = None
        return done

    def _state(self, journal: Journal, nth: int, known: Known, states: bytes | None) -> int:
        if states is not None:
            return states[nth] if nth < len(states) else OPEN
        return OPEN if known.ticket is None else journal.ticket(known.ticket)
