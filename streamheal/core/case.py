"""A record in trouble, and all the records in trouble of one shard.

Only these are objects. Clean records are numbers in a span, whatever happens to their
neighbours.

    in the worker: QUEUED ─► (its lane comes to it)        RETRYING ─► done, or Failed
    ours:          WAITING ─► Retry          until its next try
                   SUSPECT ─► FOR_CELL       a witness clears the world's name
                   FOR_CELL ─► ALONE ─► TRIED ─► judged, or SUSPECT again
                   STORING ◄─► STORE_WAIT ─► settled
"""

from __future__ import annotations

from enum import Enum, auto
from heapq import heappop, heappush
from itertools import count
from math import inf, isnan, nan

from streamheal.core.messages import At, Cause, Named, Quarantine
from streamheal.records import Position

Kind = tuple[Cause, str]


class Phase(Enum):
    """Where a known record is. The first two are the worker's, the rest are ours."""

    QUEUED = auto()  # behind another of its key; the lane will come to it
    RETRYING = auto()  # told to run again
    WAITING = auto()  # until `due`, then again
    FOR_CELL = auto()  # runs alone as soon as a cell is free
    ALONE = auto()
    SUSPECT = auto()  # needs a witness before it is tried alone
    TRIED = auto()  # failed its tries, the last one alone; needs a witness since
    STORING = auto()
    STORE_WAIT = auto()

    # Enum's own goes by the name, in Python: whether a phase is one of several is asked at every turn.
    __hash__ = object.__hash__


IN_WORKER = frozenset({Phase.QUEUED, Phase.RETRYING})
AWAITING = frozenset({Phase.SUSPECT, Phase.TRIED})
AT_IT = frozenset({Phase.RETRYING, Phase.FOR_CELL, Phase.ALONE})
UNDECIDED = AWAITING | AT_IT | {Phase.WAITING}
_TIMED = AWAITING | {Phase.WAITING, Phase.STORE_WAIT}
_WAITING, _STORE_WAIT = frozenset({Phase.WAITING}), frozenset({Phase.STORE_WAIT})


class Case:
    """One record in trouble: what happened to it so far.

    Attributes:
        lonely: It ran in a process that died or was stopped: only in cells from now on.
        solitary: It ran in a host that died: nothing else of the host runs beside it.
        spent: Hosts have died of it as often as it takes: it is not run again.
        preceded: Something had succeeded before its last try alone began, and since the last gap that counted.
        loose: Times that it failed alone between one success and the next, these being too far
            apart for a bracket. An innocent record needs an outage for each.
        began: When its last failed try began.
        failed_at: When that ended; of a death shared with others, when we heard of it.
        first_failed_at: When its first counted try ended in failure of its own; infinite before.
        tried_at: When we last sent it on its way, alone or not.
        kind: What its last failure was like.
        uniform: Every counted try failed in one way.
        unweighed: It has had its tries, and no witness has come since the last of them. It may
            be on its way to another by now.
        overtakes: It runs alone, and records before it are open again in the worker: it waits for its turn then.
        death: The death it is suspected of, until it has run alone.
        aside: How it is set aside, once that is decided.
    """

    __slots__ = (
        "_tries_kind", "aside", "asked", "at", "attempts", "before", "began", "crashes_alone", "death", "due",
        "failed_at", "first_failed_at", "kind", "lonely", "loose", "overtakes", "phase", "position", "preceded", "size",
        "solitary", "spent", "store_failures", "throttles", "tried_at", "uniform", "unweighed",
    )  # fmt: skip

    def __init__(self, record: Named, phase: Phase) -> None:
        self.at, self.position, self.before, self.size = record
        self.phase = phase
        self.attempts = self.crashes_alone = self.throttles = self.store_failures = self.loose = self.asked = 0
        self.due = nan  # equals nothing: in no heap is anything of it
        self.began = self.failed_at = self.tried_at = -inf
        self.first_failed_at = inf
        self.lonely = self.preceded = self.unweighed = self.solitary = self.spent = self.overtakes = False
        self.uniform = True
        self.kind: Kind | None = None
        self._tries_kind: Kind | None = None
        self.death: int | None = None
        self.aside: Quarantine | None = None

    @property
    def needs_fresh(self) -> bool:
        """Whether its next run alone must be able to convict it. Of whom no more is known than that it ran in a
        process that died, most are innocent: they need to succeed somewhere, and no more."""
        return not self.lonely or self.solitary or self.attempts > 0 or self.throttles > 0

    def failed(self, kind: Kind, began: float, ended: float, *, own: bool) -> None:
        """`own`: nothing else that runs in the process, or ran there before, can have done it."""
        self.kind, self.began, self.failed_at, self.unweighed = kind, began, ended, False
        if kind[0] is Cause.THROTTLED:
            self.throttles += 1
            return
        self.attempts += 1
        if own:
            self.first_failed_at = min(self.first_failed_at, ended)
        if self._tries_kind is not None and not _alike(kind, self._tries_kind):
            self.uniform = False
            # What several outages do to a record, and what it does itself, do not add up to one guilt.
            self.loose = 0
        if kind[1] or self._tries_kind is None or kind[0] is not self._tries_kind[0]:
            self._tries_kind = kind


def _alike(one: Kind, other: Kind) -> bool:
    """The worker cannot say what a death was like, only the cell can: an empty likeness is like any."""
    return one[0] is other[0] and (one[1] == other[1] or not one[1] or not other[1])


class Caseload:
    """The open cases of one shard that have ever been ours, found by what they wait for.

    Heaps and counts, because a flood of poison must not cost its square.
    """

    def __init__(self) -> None:
        self.by_at: dict[At, Case] = {}
        self.awaiting: dict[At, Case] = {}  # a witness may decide about them
        self.undecided: dict[At, Case] = {}
        self.retrying = self.at_it = 0
        self._tries: list[tuple[float, int, Case]] = []
        self._asks: list[tuple[float, int, Case]] = []
        self._stores: list[tuple[float, int, Case]] = []
        self._for_cell: list[tuple[float, Position, int, Case]] = []
        self._nth = count()  # so that heaps never compare cases

    def move(self, case: Case, phase: Phase, due: float = nan) -> None:
        """Put a case in a phase; `due` is when its wait is over, where it waits for a time."""
        assert isnan(due) is not (phase in _TIMED), f"{phase} until {due}"
        if case.at in self.by_at:
            self._leave(case)
        else:
            self.by_at[case.at] = case
        case.phase, case.due = phase, due
        self.retrying += phase is Phase.RETRYING
        self.at_it += phase in AT_IT
        if phase in UNDECIDED:
            self.undecided[case.at] = case
        case.unweighed |= phase is Phase.TRIED
        if phase in AWAITING or (case.unweighed and phase in AT_IT):
            self.awaiting[case.at] = case
        if phase is Phase.WAITING:
            heappush(self._tries, (due, next(self._nth), case))
        elif phase in AWAITING:
            heappush(self._asks, (due, next(self._nth), case))
        elif phase is Phase.STORE_WAIT:
            heappush(self._stores, (due, next(self._nth), case))
        elif phase is Phase.FOR_CELL:
            # Whoever was never tried comes first: records that hang again and again would
            # else keep an innocent neighbour waiting for ever.
            heappush(self._for_cell, (case.tried_at, case.position, next(self._nth), case))

    def close(self, case: Case) -> None:
        """The record is settled. It may be one that never was ours."""
        if self.by_at.pop(case.at, None) is not None:
            self._leave(case)
            case.due = nan  # what is left of it in a heap is void

    def _leave(self, case: Case) -> None:
        self.retrying -= case.phase is Phase.RETRYING
        self.at_it -= case.phase in AT_IT
        self.undecided.pop(case.at, None)
        self.awaiting.pop(case.at, None)

    def next_try_at(self) -> float:
        return self._first(self._tries, _WAITING)

    def next_ask_at(self) -> float:
        """When somebody whom no witness has come to is to be tried again all the same, if nobody else will tell."""
        return self._first(self._asks, AWAITING)

    def next_store_at(self) -> float:
        return self._first(self._stores, _STORE_WAIT)

    @staticmethod
    def _first(heap: list[tuple[float, int, Case]], phases: frozenset[Phase]) -> float:
        while heap:
            due, _, case = heap[0]
            if case.due == due and case.phase in phases:
                return due
            heappop(heap)
        return inf

    def try_due(self, now: float) -> Case | None:
        """A case whose time has come; it stays so until moved."""
        return self._tries[0][2] if self.next_try_at() <= now else None

    def ask_due(self, now: float) -> Case | None:
        return self._asks[0][2] if self.next_ask_at() <= now else None

    def store_due(self, now: float) -> Case | None:
        return self._stores[0][2] if self.next_store_at() <= now else None

    def first_for_cell(self) -> Case | None:
        """Whose turn it is to run alone; it stays so until moved."""
        heap = self._for_cell
        while heap:
            case = heap[0][3]
            if case.phase is Phase.FOR_CELL and case.at in self.by_at:
                return case
            heappop(heap)
        return None

    def undecided_in_order(self) -> list[Case]:
        undecided = self.undecided
        return [undecided[at] for at in sorted(undecided)]
