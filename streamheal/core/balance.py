"""Whether a shard's books add up, asked before each checkpoint.

The ledger keeps sums, so that a clean span costs nothing. Sums that are raised and lowered side by
side agree even where a record has slipped through both of them. So what they say is compared here
with what they were not made from:

    records in flight      counted once more, in the spans that are there
    records read           those in the spans that are there, and in those that were passed
    spans that arrived     the same; and none that is there lies before one that was passed
    the checkpoint         lies before every record that is open
    what a worker reports  the marks that it made while the records ran

A checkpoint past a hole is the one loss that cannot be undone: where anything differs there is none,
the shard stops, and a human is called. Nothing here is an `assert`, which `python -O` leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamheal.core.ledger import Ledger, Span
from streamheal.core.messages import LedgerBroken
from streamheal.records import Position


def weigh(ledger: Ledger, mark: Position) -> LedgerBroken | None:
    """What does not add up, if anything; `mark` is what is about to be checkpointed.

    Costs the spans that are open and the records known in them, not what was read.
    """
    spans = list(ledger.spans.values())
    counted = sum(_open(span) for span in spans)
    why = next(_discrepancies(ledger, spans, counted, mark), None)
    if why is None:
        return None
    return LedgerBroken(
        why, mark, ledger.read, ledger.done, ledger.quarantined, ledger.filtered, ledger.in_flight, counted
    )


def _discrepancies(ledger: Ledger, spans: list[Span], counted: int, mark: Position) -> Iterator[str]:
    settled = ledger.done + ledger.quarantined + ledger.filtered
    if ledger.read != settled + ledger.in_flight:
        yield f"{ledger.read} records were read, and {settled} settled + {ledger.in_flight} in flight are accounted for"
    if ledger.in_flight != counted:
        yield f"{ledger.in_flight} records are in flight, and {counted} are open in the spans"
    held = sum(span.records or 0 for span in spans)
    if ledger.read + ledger.again != ledger.passed + held:
        yield f"{ledger.read + ledger.again} records came, and {ledger.passed} passed + {held} held are there"
    if ledger.arrived != ledger.passed_spans + len(spans):
        yield f"{ledger.arrived} spans arrived, and {ledger.passed_spans} passed + {len(spans)} open are there"
    if ledger.unmarked:
        yield f"{ledger.unmarked} records were reported as settled that are not marked so"
    for span in spans:
        if not span.again and span.number <= ledger.passed_upto:
            yield f"span {span.number} is open, and span {ledger.passed_upto} behind it was passed"
        for case in span.cases.values():
            if case is not None and case.position <= mark:
                yield f"the record at {case.position} is open, and the checkpoint would pass it"
    if spans and not (spans[0].reported or spans[0].first_open) and (ledger.behind is None or ledger.behind < mark):
        yield f"span {spans[0].number} is under way, and the checkpoint would pass into it"


def _open(span: Span) -> int:
    """How many of its records are open, by looking at them."""
    known = sum(case is not None for case in span.cases.values())
    if span.reported:
        return known
    return 0 if span.records is None else span.records - (len(span.cases) - known)
