"""How far it is safe to checkpoint, over spans with holes."""

from __future__ import annotations

from functools import reduce
from operator import attrgetter

from streamheal.core.case import Case
from streamheal.core.messages import At, Named, RunsAgain
from streamheal.core.statements import least
from streamheal.records import Position

_place = attrgetter("at")


class Span:
    """One batch. Its records have no objects, but for those that are known by themselves.

    Attributes:
        records: How many it holds; None until the worker has counted.
        left: How many of them are open.
        reported: Every record not in `cases` is settled.
        cases: Records known by themselves, by their place; None: settled.
        again: Its records come from other spans, to run again: `last` is where the ledger stood without it.
        first_open: Before this record all but cases is settled, although the span is not reported.
        first_found: What `first` has found, until a record is known or settled here; None: to be looked for.
    """

    __slots__ = (
        "again", "cases", "first_found", "first_open", "last", "left", "number", "records", "reported", "size",
    )  # fmt: skip

    def __init__(self, number: int, size: int) -> None:
        self.number, self.size = number, size
        self.records: int | None = None
        self.last: Position | None = None
        self.left = 0
        self.reported = self.again = False
        self.cases: dict[int, Case | None] = {}
        self.first_open: Named | None = None
        self.first_found: Case | Named | None = None

    def first(self) -> Case | Named:
        """The first open record, where that is known: everything before it is settled."""
        if self.first_found is None:
            opens: list[Case | Named] = [case for case in self.cases.values() if case is not None]
            if self.first_open is not None:
                opens.append(self.first_open)
            self.first_found = min(opens, key=_place)
        return self.first_found


class Ledger:
    """What was read of one shard and is not settled, and the watermark behind it.

    read = done + quarantined + filtered + in flight, always. A span is read when the worker
    has counted it; until then nobody knows what it holds. `balance.py` holds us to it.

        span 1          span 2          span 3
        x x . x x       x x x x x       (not reported)     watermark: before the first dot
              └ a case    settled, but passed only after span 1

    Attributes:
        again: Records that were opened again; they were read once.
        unmarked: Records reported as settled by a worker whose marks do not say so.
        arrived: Spans there ever were.
        passed, passed_spans, passed_upto: Records and spans that are settled with all before them, and
            the number of the last such span.
        behind: The end of that span.
    """

    def __init__(self) -> None:
        self.spans: dict[int, Span] = {}  # in stream order
        self.read = self.done = self.quarantined = self.filtered = self.in_flight = 0
        self.size = 0  # bytes of spans not reported, and of known records in the others
        self.uncounted = self.unreported = 0
        self.newest = -1  # number of the latest span
        self.arrived = self.again = self.unmarked = 0
        self.passed = self.passed_spans = 0
        self.passed_upto = -1
        self.behind: Position | None = None

    def open(self, number: int, size: int) -> None:
        self.spans[number] = Span(number, size)
        self.newest = number
        self.arrived += 1
        self.size += size
        self.uncounted += 1
        self.unreported += 1

    def open_again(self, again: RunsAgain, behind: Position | None) -> None:
        """Records settled as done are open again, before all others. Up to `behind` nothing is open, with them."""
        span = Span(again.span, again.size)
        span.records = span.left = again.records
        span.again, span.last, self.behind = True, self.behind, behind
        self.spans = {again.span: span, **self.spans}
        self.size += again.size
        self.unreported += 1
        self.arrived += 1
        self.again += again.records
        self.done -= again.records
        self.in_flight += again.records

    def count(self, number: int, records: int) -> Span:
        """The span holds so many records. Said again after a death, by the next worker."""
        span = self.spans[number]
        if span.records is None:
            span.records = span.left = records
            self.uncounted -= 1
            self.read += records
            self.in_flight += records
        assert span.records == records, f"span {number} held {span.records} records, now {records}"
        return span

    def report(self, number: int, records: int, last: Position | None, filtered: int) -> int:
        """Everything but the known records is settled. Returns how many of those succeeded."""
        span = self.count(number, records)
        assert not span.reported, f"span {number} reported twice"
        bulk = records - len(span.cases)
        span.reported = True
        if not span.again:
            span.last = last
        span.left -= bulk
        self.unreported -= 1
        self.filtered += filtered
        self.done += bulk - filtered
        self.in_flight -= bulk
        size = sum(case.size for case in span.cases.values() if case is not None)
        self.size -= span.size - size
        self._advance()
        return bulk - filtered

    def halted(self, first_open: Named) -> None:
        """Nothing runs any more, and nothing before this record is open, but for cases."""
        span = self.spans[first_open.at.span]
        span.first_open, span.first_found = first_open, None

    def case(self, at: At) -> Case | None:
        span = self.spans.get(at.span)
        return span.cases.get(at.nth) if span is not None else None

    def knows(self, at: At) -> bool:
        """The record is known by itself, or settled."""
        span = self.spans.get(at.span)
        return span is None or at.nth in span.cases

    def settled(self, at: At) -> bool:
        """It was known by itself, and is settled."""
        return self.knows(at) and self.case(at) is None

    def add(self, case: Case) -> Case:
        span = self.spans[case.at.span]
        assert span.records is not None, f"{case.at} named before its span was counted"
        assert case.at.nth < span.records, f"{case.at} named, of {span.records} records"
        assert case.at.nth not in span.cases, f"{case.at} is known already"
        span.cases[case.at.nth], span.first_found = case, None
        return case

    def settle_done(self, case: Case) -> None:
        self.done += 1
        self._settle(case)

    def settle_filtered(self, case: Case) -> None:
        self.filtered += 1
        self._settle(case)

    def settle_quarantined(self, case: Case) -> None:
        self.quarantined += 1
        self._settle(case)

    def _settle(self, case: Case) -> None:
        span = self.spans[case.at.span]
        assert span.cases[case.at.nth] is case, f"{case.at} settled twice"
        span.cases[case.at.nth] = span.first_found = None
        span.left -= 1
        self.in_flight -= 1
        if span.reported:
            self.size -= case.size
        self._advance()

    def _advance(self) -> None:
        while self.spans:
            span = next(iter(self.spans.values()))
            if span.left or not span.reported:
                return
            if span.last is not None:
                self.behind = span.last
            self.passed += span.records or 0
            self.passed_spans += 1
            if not span.again:
                self.passed_upto = span.number
            del self.spans[span.number]

    def first_open(self) -> int | None:
        """The span before which everything is settled; None: nothing is open."""
        return next(iter(self.spans), None)

    def first_open_known(self) -> At | None:
        """The oldest open record, where the ledger can tell: of a span under way only marks can."""
        span = next(iter(self.spans.values()), None)
        if span is None or not (span.reported or span.first_open):
            return None
        return span.first().at

    def first_unreported(self) -> int | None:
        if self.unreported:
            for span in self.spans.values():
                if not span.reported:
                    return span.number
        return None

    def watermark(self) -> Position | None:
        """The last position before the first open record. Costs the cases of one span.

        What runs again does so before all others, and need not lie before them in the stream.
        """
        marks: list[Position | None] = []
        behind = self.behind
        for span in self.spans.values():
            if span.left or not span.reported:
                before = span.first().before if span.reported or span.first_open else None
                marks.append(behind if before is None else before)
                if not span.again:
                    break
            if span.last is not None:
                behind = span.last
        return reduce(least, marks) if marks else behind
