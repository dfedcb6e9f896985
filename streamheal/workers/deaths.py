"""What a process's death looked like to a record that ran in it, as an attempt."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import NamedTuple

from streamheal.attempts import Attempt, utc_text
from streamheal.workers.frames import dumped, told
from streamheal.workers.process import Doom, Process
from streamheal.workers.wire import Raised

_OUTPUT_WITHHELD = "(not kept: the process died before its output could be masked)\n"
# Ended for our own reasons: said quietly, and not counted.
OURS: tuple[Doom, ...] = ("by_us", "recycled")
# Ended for no record's sake: whatever ran in it runs again as before.
NOBODYS: tuple[Doom, ...] = (*OURS, "hook", "initialize", "stopped")
# If a shard was being initialized there, that may have ended it, or held whoever was late.
BEGINNERS: tuple[Doom | None, ...] = (None, "initialize", "memory", "deadline")
_OVERRAN: tuple[Doom, ...] = ("deadline", "initialize", "hook", "deaf")
_STOPPED: tuple[Doom, ...] = ("stopped", "stopped again")


class Death(NamedTuple):
    """One death, as all shards of the process are told of it.

    Attributes:
        running: How many may have done it: records that ran in it, of all shards, and shards that initialized there.
        stepping: The coroutine of one of these was being resumed.
    """

    number: int
    running: int
    stepping: bool


def wall_time(monotonic: float) -> str:
    """ISO 8601 of a time on the monotonic clock, which is one for the whole machine."""
    return utc_text(datetime.fromtimestamp(time.time() - (time.monotonic() - monotonic), UTC))


def raised_attempt(raised: Raised, began: float, ended: float, process: Process, *, alone: bool = False) -> Attempt:
    """An exception that the worker told of. The number is filled in by whoever counts."""
    return Attempt(
        number=0,
        started_at=wall_time(began),
        duration_s=ended - began,
        outcome=raised.outcome,
        exception_type=raised.exception_type,
        message=raised.message,
        traceback=raised.traceback,
        stack=raised.stack,
        log=raised.log,
        worker=process.name,
        alone=alone,
        frames=raised.frames,
        where=raised.where,
    )


def death_attempt(
    process: Process,
    began: float,
    *,
    overran: bool,
    alone: bool = False,
    message: str | None = None,
    title: str | None = None,
) -> Attempt:
    """One that did not come back: it overran and was stopped, or the process died around it."""
    now = time.monotonic()
    masks = process.facts is not None and process.facts.masks_texts
    log = process.tail.text()
    stack = process.stack
    frames, where = (
        told(dumped(stack, crashed=not overran and process.grew is None, title=title)) if stack else ((), None)
    )
    return Attempt(
        number=0,
        started_at=wall_time(began),
        duration_s=now - began,
        outcome="deadline" if overran else "crash",
        message=message or (f"still running after {now - began:.1f} s" if overran else how_it_died(process)),
        stack=stack,
        log=_OUTPUT_WITHHELD if masks and log else log,
        worker=process.name,
        alone=alone,
        signal=None if overran else process.signal_name,
        exit_code=None if overran else process.exit_code,
        frames=frames,
        where=where,
    )


def cause_of(process: Process, *, in_cell: bool = False) -> str:
    """Why a worker died, in a word for logs and metrics."""
    if process.grew is not None:
        return "memory"
    if in_cell:
        return "cell"
    if process.doomed in _OVERRAN:
        return "deadline"
    if process.doomed in _STOPPED:
        return "stopped"
    return "signal" if process.signal_name else "exit"


def how_it_died(process: Process) -> str:
    if process.grew is not None:
        return process.grew
    if process.doomed in _STOPPED:
        return "the process was stopped again and again (SIGSTOP)"
    if process.signal_name is not None:
        return f"the process died of {process.signal_name}"
    return f"the process exited with code {process.exit_code}"
