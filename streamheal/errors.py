"""Every error streamheal raises, split by what its catcher should do.

StreamhealError
├─ Poison                    raised by processors: set this record aside now
│  └─ DecodeError            the payload is not what the processor reads
├─ Retry                     raised by processors: try this record again
├─ Throttled                 raised by processors: the world is busy; slow down
├─ UsageError                say it in one plain message, exit 2: nothing was read
│  ├─ TargetError            the processor cannot be imported, or is none
│  ├─ AlreadyRunning         another process owns this application's state
│  └─ NotFound, Ambiguous    no such quarantined record, or more than one
├─ Unavailable               the world may answer later: try again
│  ├─ StoreUnavailable
│  └─ StateUnavailable
└─ StoreError, StateError    trying again will not help
"""

from __future__ import annotations


class StreamhealError(Exception):
    """The root of the tree."""


class Poison(StreamhealError):
    """Raised by a processor: this record can never be handled. It is set aside at once.

    Needs no second attempt and no witness: the processor itself has said that it is the record.
    """


class DecodeError(Poison):
    """The payload is not what the processor reads. Poison: the same bytes will not decode later."""


class Retry(StreamhealError):
    """Raised by a processor: try this record again, with backoff, up to `attempts_max` tries."""


class Throttled(StreamhealError):
    """Raised by a processor: the world is busy. Not this record's fault, and not counted as a try."""

    def __init__(self, message: str = "throttled", *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UsageError(StreamhealError):
    """Wrong usage or configuration. The message says what, where, and what would be right.

    The command line prints the message alone and exits with 2, before any record was read.
    """


class TargetError(UsageError):
    """The processor cannot be imported, dies while importing, or is not a processor."""


class AlreadyRunning(UsageError):
    """Another process holds this application's state."""


class NotFound(UsageError):
    """No quarantined record has this id."""


class Ambiguous(UsageError):
    """More than one quarantined record's id begins like this."""


class Unavailable(StreamhealError):
    """Something outside did not answer, and may later. Nothing was done; safe to try again."""


class StoreUnavailable(Unavailable):
    """The quarantine store may answer later. Nothing was recorded as stored."""


class StateUnavailable(Unavailable):
    """The state may answer later. Nothing was written."""


class StoreError(StreamhealError):
    """The quarantine store did not keep, find or return a record, and will not."""


class StateError(StreamhealError):
    """The state is not what it should be, and trying again will not help."""


class Conflict(StreamhealError):
    """Somebody else wrote the row since it was read. Read it again and decide anew."""
