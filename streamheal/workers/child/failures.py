"""Exceptions as data: no object of user code leaves its process, only what it says.

Everything here runs on exceptions that user code made: their `__str__` may raise, their causes
may go in circles, their messages may be gigabytes. Describing a failure never fails.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

import msgspec

from streamheal.attempts import LOG_BYTES_MAX, MESSAGE_BYTES_MAX, TRACEBACK_BYTES_MAX, Outcome, cut
from streamheal.errors import DecodeError, Poison, Throttled
from streamheal.records import Position, Record
from streamheal.workers.frames import Frame, dumped, told
from streamheal.workers.wire import Raised

# What botocore itself takes for throttling (botocore.retries.standard.ThrottledRetryableChecker).
_THROTTLING_CODES = frozenset({
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
})  # fmt: skip

# Characters, before texts are cut to their documented sizes: a message of a gigabyte is not
# worth encoding first.
_CHARS_MAX = 1 << 20


class Kind(NamedTuple):
    """What class of failure an exception is. `cause` is the name of a `core.messages.Cause`."""

    outcome: Outcome
    cause: str
    retry_after_s: float = 0.0


def kind_of(error: BaseException, poison: tuple[type, ...], throttled: tuple[type, ...]) -> Kind:
    if isinstance(error, DecodeError):
        return Kind("decode", "POISON")
    if isinstance(error, Poison):
        return Kind("rejected", "POISON")
    if isinstance(error, poison):
        return Kind("exception", "POISON")
    if isinstance(error, Throttled):
        return Kind("throttled", "THROTTLED", _seconds(error.retry_after_s))
    if isinstance(error, throttled) or _botocore_throttled(error):
        return Kind("throttled", "THROTTLED")
    return Kind("exception", "RAISED")


def _seconds(value: Any) -> float:
    try:
        return max(0.0, float(value))
    except (TypeError, ValueError):
        return 0.0


def _botocore_throttled(error: BaseException) -> bool:
    """Known by its looks, because importing botocore to ask would cost more than most processors."""
    if not any(kind.__module__.startswith("botocore.") for kind in type(error).__mro__):
        return False
    response = getattr(error, "response", None)
    if not isinstance(response, dict) or not isinstance(response.get("Error"), dict):
        return False
    return response["Error"].get("Code") in _THROTTLING_CODES


def describe(
    error: BaseException, outcome: Outcome, *, log: str | None = None, mask_text: Callable[[str], str] | None = None
) -> Raised:
    """The exception in words, masked if the processor knows how."""
    stack = _frames(error.__traceback__)
    frames, where = told(stack)
    message, text = _message(error), _traceback(error)
    if mask_text is not None:
        message, text = _masked(mask_text, message), _masked(mask_text, text)
        log = None if log is None else _masked(mask_text, log)
    return Raised(
        outcome=outcome,
        exception_type=type_name(type(error)),
        message=cut(message, MESSAGE_BYTES_MAX),
        traceback=cut(text, TRACEBACK_BYTES_MAX),
        log=None if log is None else cut(log, LOG_BYTES_MAX),
        frames=frames,
        where=where,
    )


def overran(
    error: BaseException, stack: str, took_s: float, *, log: str | None, mask_text: Callable[[str], str] | None
) -> Raised:
    """A coroutine that was cancelled at its deadline, and ended: where it hung tells more than how it ended."""
    frames, where = told(dumped(stack, crashed=False))
    return msgspec.structs.replace(
        describe(error, "deadline", log=log, mask_text=mask_text),
        exception_type=None,
        message=f"still running after {took_s:.1f} s",
        frames=frames,
        where=where,
        stack=cut(stack, TRACEBACK_BYTES_MAX),
    )


def refused(log: str | None) -> Raised:
    """A batch processor returned the record as failed, and said no more."""
    return Raised(
        outcome="exception",
        exception_type=None,
        message="process_records returned it as failed",
        traceback=None,
        log=log,
        frames=(),
        where=None,
    )


def positions(returned: Any) -> set[Position]:
    """Which records `process_records` returned as failed."""
    if returned is None:
        return set()
    records = list(returned) if hasattr(returned, "__iter__") else [returned]
    for record in records:
        if not isinstance(record, Record):
            raise TypeError(f"process_records returned {type(record).__name__}; it may return the records that failed")
    return {record.position for record in records}


def type_name(kind: type[BaseException]) -> str:
    """As Python prints it."""
    try:
        module, name = str(kind.__module__), str(kind.__qualname__)
    except BaseException:  # its metaclass is user code too
        return "<an exception that does not tell its name>"
    return name if module in ("builtins", "__main__") else f"{module}.{name}"


def _frames(tb: TracebackType | None) -> list[Frame]:
    found = []
    while tb is not None:
        code = tb.tb_frame.f_code
        found.append(Frame(code.co_filename, tb.tb_lineno, code.co_name))
        tb = tb.tb_next
    return found


def _message(error: BaseException) -> str:
    try:
        return str(error)[:_CHARS_MAX]
    except BaseException as again:
        return f"<its __str__ raised {type_name(type(again))}>"


def _traceback(error: BaseException) -> str:
    """As Python prints it, without our own frames around the user's."""
    tb = error.__traceback__
    while tb is not None and Frame(tb.tb_frame.f_code.co_filename, 0, "").ours:
        tb = tb.tb_next
    try:
        lines = traceback.TracebackException(type(error), error, tb, compact=True).format()
        return "".join(lines)[-_CHARS_MAX:]
    except BaseException as again:
        # Out of memory, out of stack, or a source file that cannot be read as text.
        return f"{type_name(type(error))}: {_message(error)[:1000]}\n<no traceback: {type_name(type(again))}>\n"


def _masked(mask_text: Callable[[str], str], text: str) -> str:
    try:
        return str(mask_text(text))
    except BaseException as error:
        return f"<not shown: mask_text raised {type_name(type(error))}>"
