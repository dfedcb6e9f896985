"""What each troubled record's tries looked like, until the record is settled."""

from __future__ import annotations

from streamheal.attempts import Attempt
from streamheal.core.messages import At

# Somebody throttled for hours has thousands of tries, all alike: the first and the last tell the story.
_FIRST_KEPT = 5
_KEPT_MAX = 25


class Casebook:
    """The attempts of one shard's known records."""

    def __init__(self) -> None:
        self._attempts: dict[At, list[Attempt]] = {}
        self._tries: dict[At, int] = {}
        self._masked: dict[At, bytes] = {}

    def add(self, at: At, attempt: Attempt, masked: bytes | None = None) -> None:
        self._tries[at] = attempt.number = self._tries.get(at, 0) + 1
        kept = self._attempts.setdefault(at, [])
        kept.append(attempt)
        if len(kept) > _KEPT_MAX:
            del kept[_FIRST_KEPT]
        if masked is not None:
            self._masked[at] = masked

    def tries(self, at: At) -> int:
        return self._tries.get(at, 0)

    def attempts(self, at: At) -> list[Attempt]:
        return self._attempts.get(at, [])

    def masked(self, at: At) -> bytes | None:
        return self._masked.get(at)

    def close(self, at: At) -> None:
        self._attempts.pop(at, None)
        self._tries.pop(at, None)
        self._masked.pop(at, None)


def short(attempt: Attempt) -> str:
    """What happened, in one line of a log."""
    return f"{attempt.exception_type or attempt.signal or attempt.outcome}: {attempt.message or ''}".rstrip(": ")
