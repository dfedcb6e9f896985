"""How a span, or what is left of it, goes to a shard's process: in its slot, or record by record.

not reported yet   its bytes lie in a slot; what another process left of it goes into the new journal first
reported           its slot is another's by now: the records still known travel by themselves, each with a
                   ticket of its own to be marked at
"""

from __future__ import annotations

from streamheal.core.messages import At, Give
from streamheal.workers import wire
from streamheal.workers.book import Book
from streamheal.workers.books import Books
from streamheal.workers.journal import FAILED, HOST_TICKETS_FROM, OPEN
from streamheal.workers.process import Process


def given(give: Give, books: Books, process: Process, seat: int) -> wire.Give | wire.Regive | None:
    """What to tell the process that the shard is in; None: nothing of the span is open."""
    book = books.spans.get(give.span)
    if book is None:
        return None
    book.given = True
    for nth in give.hold:
        books.known(At(give.span, nth)).in_hand = True
    for nth in give.queued:
        books.known(At(give.span, nth)).in_hand = False
    if book.slot is None:
        return _by_themselves(give, book, process, seat)
    return _in_its_slot(give, books, book, process, seat)


def _in_its_slot(give: Give, books: Books, book: Book, process: Process, seat: int) -> wire.Give:
    slot = book.slot
    assert slot is not None, f"span {book.number} has given its slot back"
    states = book.states
    taken = (states is not None and any(states)) or bool(give.hold or give.skip or give.queued)
    if taken:
        states = states if states is not None else bytes(len(books.records(book)))
        process.journal.take_over(slot.index, book.serial, states)
    return wire.Give(
        seat,
        give.span,
        book.serial,
        slot.index,
        book.length,
        int(book.dialect),
        None if book.after is None else (str(book.after.sequence), book.after.sub_sequence),
        taken,
        give.queued,
        give.hold,
        give.skip,
        give.ask,
        tuple(sorted(book.keyless)),
        None if taken or states is None else len(states),
    )


def _by_themselves(give: Give, book: Book, process: Process, seat: int) -> wire.Regive | None:
    kept = []
    for nth in sorted({*give.hold, *give.queued}):
        known, held = book.known[nth], nth in give.hold
        known.ticket = HOST_TICKETS_FROM + process.tickets_given
        process.tickets_given += 1
        process.journal.set_ticket(known.ticket, FAILED if held else OPEN)
        kept.append(wire.Kept(nth, known.ticket, held, known.record, nth in book.keyless, nth in give.ask))
    return wire.Regive(seat, book.number, tuple(kept)) if kept else None
