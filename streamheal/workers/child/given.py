"""The spans of one shard that this process was given: decoded where they lie, lined up, marked, reported.

    given ──► lined up ──► records run, in lanes ──► nothing more of it can run: reported
                                                     what is open of it goes on under tickets

After its report a span's bytes and marks may be another's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from streamheal.records import Dialect, Position, Record
from streamheal.workers import wire
from streamheal.workers.arena import SLOT_BYTES
from streamheal.workers.child.spans import Key, Lane, Span, Tickets
from streamheal.workers.decode import Decode
from streamheal.workers.journal import (
    COUNT,
    CURRENT,
    DONE,
    FILTERED,
    HEAD,
    PAGE,
    PAGE_WORDS,
    PAUSED,
    RECORDS_MAX,
    RUNNING,
    SERIAL,
    STATES,
    Journal,
)

# `able` of a span that was reported: it is never reported again.
_REPORTED = 1 << 60


class Means(NamedTuple):
    """What a shard's lanes work with: how its batches are read, and what all of the process share."""

    decode: Decode
    arena: memoryview
    journal: Journal
    tickets: Tickets
    send: Callable[[wire.Message], None]


class GivenSpans:
    """What of `Lanes` is about whole spans."""

    def __init__(self, seat: int, means: Means) -> None:
        self.seat = seat
        self.journal = means.journal
        self.spans: deque[Span] = deque()  # with records not yet come to
        self.heads: dict[tuple[int, int], tuple[Key, Lane]] = {}  # blocked, by span and place
        self._known: dict[int, Span] = {}  # with open records
        self._decode = means.decode
        self._arena = means.arena
        self._tickets = means.tickets
        self._send = means.send

    def give(self, give: wire.Give) -> None:
        """Line up what of a span is open. It is decoded in place: at once, to count it, or when its turn comes."""
        span = Span(give.span, lambda: self._read(give))
        n = span.n = len(span.records) if give.records is None else give.records
        assert n <= RECORDS_MAX, f"{n} records in one batch"
        span.base, span.words = give.slot * PAGE + HEAD, give.slot * PAGE_WORDS
        span.able = n
        span.keyless.update(give.keyless)
        if give.taken:
            self._line_up(span, give)
        else:
            words = self.journal.words
            words[span.words + COUNT], words[span.words + CURRENT], words[span.words + STATES] = n, PAUSED, 0
            words[span.words + SERIAL] = give.serial  # last: from here on the marks are this span's
            if give.ask:
                span.ask, span.named = set(give.ask), True
                self.slow_down(span, 0)
        self._known[span.number] = span
        if span.able:
            self.spans.append(span)
        else:
            self.report(span)

    def _read(self, give: wire.Give) -> list[Record]:
        start = give.slot * SLOT_BYTES
        after = None if give.after is None else Position(int(give.after[0]), give.after[1])
        return self._decode(Dialect(give.dialect), self._arena[start : start + give.length], after)

    def _line_up(self, span: Span, give: wire.Give) -> None:
        """What a worker that died has left of it."""
        span.slow = True
        states = bytes(self.journal.marks[span.base : span.base + span.n])
        span.known = {*give.hold, *give.skip, *give.queued}
        span.hold, span.ask = set(give.hold), set(give.ask)
        span.named = bool(span.hold or span.ask)
        skip = set(give.skip)
        todo = [
            (nth, record)
            for nth, record in enumerate(span.records)
            if nth not in skip and (nth in span.hold or states[nth] not in (DONE, FILTERED))
        ]
        span.todo, span.able = iter(todo), len(todo)

    def regive(self, regive: wire.Regive) -> None:
        """Line up known records of a span that was reported before."""
        span = Span(regive.span, list)
        span.tickets = {kept.nth: kept.ticket for kept in regive.records}
        span.known = set(span.tickets)
        span.hold = {kept.nth for kept in regive.records if kept.held}
        span.ask = {kept.nth for kept in regive.records if kept.ask}
        span.keyless = {kept.nth for kept in regive.records if kept.keyless}
        span.todo = iter([(kept.nth, kept.record) for kept in regive.records])
        span.slow, span.named, span.able = True, bool(span.hold or span.ask), _REPORTED
        self._known[span.number] = span
        self.spans.append(span)

    def slow_down(self, span: Span, upto: int, *, running: bool = False) -> None:
        """From here on each record of the span has a state byte. Those before `upto` are done."""
        start, left = span.base, span.n - upto
        states = bytes([DONE]) * upto + (bytes([RUNNING]) + bytes(left - 1) if running else bytes(left))
        self.journal.marks[start : start + span.n] = states
        self.journal.words[span.words + STATES] = 1
        span.slow, span.able = True, left
        span.todo = enumerate(span.records[upto + running :], upto + running)

    # -- spans that are over -------------------------------------------------------------

    def _dropped(self, span: Span, nth: int) -> None:
        """Settled by the host before its turn came."""
        self._drop_ticket(span, nth)
        self._unable(span, 1)

    def _unable(self, span: Span, records: int) -> None:
        span.able -= records
        if not span.able:
            self.report(span)

    def report(self, span: Span) -> None:
        """Nothing of the span can run now. What is open of it gets tickets: the slot may be reused."""
        tickets: dict[int, int] = {}
        for _, lane in self.heads.values():
            if lane.head is not None and lane.head[0] is span:
                self._ticket(span, lane.head[1], tickets)
            if lane.pending.pop(span, 0):
                for other, nth, _ in lane.queue:
                    if other is span:
                        self._ticket(span, nth, tickets)
        self.report_clean(span, self._filtered(span), tuple(sorted(tickets.items())))
        span.tickets, span.able = tickets, _REPORTED
        span.forget_records()
        span.known.update(tickets)
        if not tickets:
            del self._known[span.number]

    def report_clean(self, span: Span, filtered: int = 0, tickets: tuple[tuple[int, int], ...] = ()) -> None:
        last = span.records[-1] if span.n else None
        self._send(
            wire.Finished(
                self.seat,
                span.number,
                span.n,
                last.sequence_number if last else None,
                last.sub_sequence_number if last else 0,
                filtered,
                tickets,
            )
        )

    def finish_fast(self, span: Span) -> None:
        """The span ran through without a failure, marked by one word."""
        self.spans.popleft()
        self.report_clean(span)
        del self._known[span.number]

    def _ticket(self, span: Span, nth: int, tickets: dict[int, int]) -> None:
        ticket = tickets[nth] = self._tickets.take()
        self.journal.set_ticket(ticket, self.journal.marks[span.base + nth])

    def _filtered(self, span: Span) -> int:
        """Records of this span that were filtered and never known by themselves."""
        if not span.n:
            return 0
        states = bytes(self.journal.marks[span.base : span.base + span.n])
        found = states.count(FILTERED)
        return found - sum(states[nth] == FILTERED for nth in span.known) if found else 0

    def _drop_ticket(self, span: Span, nth: int) -> None:
        if span.tickets is None:
            return
        span.known.discard(nth)
        self._tickets.give_back(span.tickets.pop(nth))
        if not span.tickets:
            self._known.pop(span.number, None)
