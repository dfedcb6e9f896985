"""What a failed try and a record set aside leave behind, as a worker and the runtime would write it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from streamheal.attempts import Attempt, utc_text
from streamheal.core.messages import Cause, Quarantine
from streamheal.quarantine.envelope import Code, Envelope
from streamheal.quarantine.seal import seal
from streamheal.records import Record
from streamheal.testing.subject import Subject
from streamheal.workers.child.failures import Kind, describe, kind_of, refused

# Made-up time begins here.
_EPOCH = datetime(2025, 1, 1, tzinfo=UTC)
_HERE = "this process"


class Told(NamedTuple):
    cause: Cause
    retry_after_s: float
    attempt: Attempt


def throttled(error: BaseException, subject: Subject) -> bool:
    return _kind(error, subject).cause == Cause.THROTTLED.name


def told(
    error: BaseException | None, subject: Subject, *, number: int, began: float, ended: float, alone: bool
) -> Told:
    """`error` None: `process_records` has returned the record as failed."""
    cause, retry_after_s, raised = Cause.RAISED, 0.0, refused(None)
    if error is not None:
        kind = _kind(error, subject)
        cause, retry_after_s = Cause[kind.cause], kind.retry_after_s
        raised = describe(error, kind.outcome, mask_text=subject.mask_text)
    attempt = Attempt(
        number=number,
        started_at=utc_text(_EPOCH + timedelta(seconds=began)),
        duration_s=ended - began,
        outcome="exception",
        worker=_HERE,
        alone=alone,
    )
    for name in ("outcome", "exception_type", "message", "traceback", "frames", "where"):
        setattr(attempt, name, getattr(raised, name))
    return Told(cause, retry_after_s, attempt)


def _kind(error: BaseException, subject: Subject) -> Kind:
    return kind_of(error, subject.poison, subject.throttled)


def sealed(
    record: Record,
    decision: Quarantine,
    subject: Subject,
    *,
    attempts: Sequence[Attempt],
    masked: bytes | None,
    stream: str,
    now: float,
) -> Envelope:
    code = Code(
        processor=subject.name, version=None, python=platform.python_version(), packages={}, config_hash="in a test"
    )
    return seal(
        record,
        application=subject.name,
        stream=stream,
        decision=decision,
        attempts=attempts,
        code=code,
        host=_HERE,
        now=_EPOCH + timedelta(seconds=now),
        masked=masked,
    )
