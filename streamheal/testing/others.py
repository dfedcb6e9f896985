"""Whether the rest of the stream, of which a test gives no record, is taken to succeed meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from streamheal.core.messages import At


class Others:
    """Healthy records of the stream beside those given: without them nobody could be judged by witnesses.

    Not where it looks like an outage: different records fail, and nothing ever succeeded; or different
    records fail alike, none that began after them has succeeded, and none was ever convicted of failing
    so. The core blames nobody there either (`core.blame.left_over`).
    """

    def __init__(self) -> None:
        self._first_failed: dict[At, float] = {}  # when its first try that failed began
        self._likeness: dict[At, str] = {}
        self._convicted_of: set[str] = set()
        self._succeeded_at = float("-inf")  # when the last of the given records that succeeded began

    def succeeded(self, began: float) -> None:
        self._succeeded_at = began

    def failed(self, at: At, began: float, likeness: str) -> None:
        self._likeness[at] = likeness
        self._first_failed.setdefault(at, began)

    def convicted(self, at: At) -> None:
        self._convicted_of.add(self._likeness[at])

    def succeed(self, undecided: Collection[At], *, any_done: bool) -> bool:
        """Whether one of them is taken to succeed now. `any_done`: so has one of the given records, at any time."""
        if len(undecided) > 1 and not any_done:
            return False
        unfollowed = Counter(self._likeness[at] for at in undecided if self._first_failed[at] > self._succeeded_at)
        return all(records < 2 or likeness in self._convicted_of for likeness, records in unfollowed.items())
