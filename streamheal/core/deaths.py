"""What a worker's death means for the records that were in it.

Whoever ran in a process that died, or was stopped for a deadline, runs alone from then on.
That bounds what a killer costs its neighbours: one shared death each. It is the same rule for
the killer, for a hang's neighbours, and for a frozen event loop, in which those beyond their
deadline may all be innocent.

A batch holds several records of a key. They are suspects all of them, but each only when its turn
comes in its lane: the next worker is told to ask (`Give.ask`), as it alone knows the keys.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from streamheal.core.case import IN_WORKER, Case, Phase
from streamheal.core.ledger import Ledger, Span
from streamheal.core.messages import At, Give, WorkerDied


class Inquest(NamedTuple):
    """What a death leaves to do.

    Attributes:
        done: Known records that had ended well (True: filtered), unheard.
        suspects: They run alone from now on; new ones are in the ledger already.
        bygone: How many were marked running and are not suspect: not the worker's any more, or spared.
    """

    done: list[tuple[Case, bool]]
    suspects: list[Case]
    bygone: int


def inquire(died: WorkerDied, ledger: Ledger, spared: set[At]) -> Inquest:
    """Read a dead worker's marks against what is known.

    Whoever merely stood there when the process died is spared, and runs again as before; but only
    once, because it may have been a thread of its own. `spared` grows by those.
    """
    done = []
    for at, filtered in died.done:
        case = ledger.case(at)
        if case is not None and case.phase in IN_WORKER:
            done.append((case, filtered))
    suspects: list[Case] = []
    if died.by_us:
        return Inquest(done, suspects, len(died.running))
    settled = {case.at for case, _ in done}
    stood = set() if died.overran else set(died.stood) - spared
    spared |= stood
    for record in died.running:
        if record.at in stood:
            continue
        case = ledger.case(record.at)
        if case is None and not ledger.knows(record.at):
            suspects.append(ledger.add(Case(record, Phase.QUEUED)))
        elif case is not None and case.phase in IN_WORKER and case.at not in settled:
            suspects.append(case)
        # Else the mark is an old one: the record is ours by now, or settled.
    return Inquest(done, suspects, len(died.running) - len(suspects))


def give_again(ledger: Ledger, asks: Mapping[int, Collection[int]]) -> list[Give]:
    """All that is open, in stream order, so that the next worker's lanes come out as they were.

    `asks`: by span, who is not to be run when its turn comes.
    """
    return [_give(span, asks.get(span.number, ())) for span in ledger.spans.values() if span.left or not span.reported]


def _give(span: Span, asks: Collection[int]) -> Give:
    queued, hold, skip = [], [], []
    ask = {nth for nth in asks if nth not in span.cases}
    for nth, case in sorted(span.cases.items()):
        if case is None:
            skip.append(nth)
        elif case.phase is Phase.QUEUED or case.overtakes:
            queued.append(nth)
            ask |= {nth} & set(asks)  # its turn has not come
        else:
            hold.append(nth)
    return Give(span.number, not span.reported, tuple(queued), tuple(hold), tuple(skip), tuple(sorted(ask)))
