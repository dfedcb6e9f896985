"""What an open record waits for: a question that changes nothing."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from streamheal.core.case import Case, Phase


class Waits(Enum):
    WORKER = auto()  # it runs, or will when its lane comes to it
    NEXT_TRY = auto()  # until a time
    PROBE = auto()  # the shard is paused, and tries one at a time
    CELL = auto()  # to run alone
    ALONE = auto()  # runs alone
    WITNESS = auto()  # another record must succeed before it is judged
    HUMAN = auto()  # nobody is left to ask
    STORE = auto()  # the quarantine's acknowledgement
    STORE_AGAIN = auto()  # the quarantine did not take it: until the next try
    ENGINE = auto()  # all is settled, and the checkpoint is not acknowledged

    # As in `case.Phase`: asked for every shard, every second.
    __hash__ = object.__hash__


class Wait(NamedTuple):
    """Attributes:
    attempts: Tries of the record that have failed.
    until: When this will change by itself, where it is known.
    """

    what: Waits
    attempts: int = 0
    until: float | None = None


_BY_PHASE = {
    Phase.QUEUED: Waits.WORKER,
    Phase.RETRYING: Waits.WORKER,
    Phase.WAITING: Waits.NEXT_TRY,
    Phase.FOR_CELL: Waits.CELL,
    Phase.ALONE: Waits.ALONE,
    Phase.SUSPECT: Waits.WITNESS,
    Phase.TRIED: Waits.WITNESS,
    Phase.STORING: Waits.STORE,
    Phase.STORE_WAIT: Waits.STORE_AGAIN,
}
_TIMED = frozenset({Waits.NEXT_TRY, Waits.STORE_AGAIN})
_HELD_BY_A_PAUSE = frozenset({Waits.WORKER, Waits.NEXT_TRY, Waits.CELL, Waits.WITNESS})


def waits(case: Case | None, *, probe_at: float | None, human_called: bool) -> Wait:
    """`case` is None for a record that is not in trouble. `probe_at`: the shard is paused until then."""
    what = Waits.WORKER if case is None else _BY_PHASE[case.phase]
    attempts = 0 if case is None else case.attempts + case.throttles
    if probe_at is not None and what in _HELD_BY_A_PAUSE:
        return Wait(Waits.PROBE, attempts, probe_at)
    if human_called and what is Waits.WITNESS:
        return Wait(Waits.HUMAN, attempts)
    return Wait(what, attempts, case.due if case is not None and what in _TIMED else None)
