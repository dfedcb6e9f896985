"""Who is to blame: pure functions of a case, the witnesses, and what else is undecided.

A try that fails says something about the record or about the world. Only successes of other
records of the same shard tell which, and only if they lie close enough around the try:

    successes    ✓   ✓  ✓      ✓   ✓         at most `bracket_s` apart, so that no longer
    the try            [ alone ]             outage has room between two of them: a bracket

Wider apart they count for something too (`brackets_loose`). Where nobody is left to ask,
`left_over` says what patience alone can decide. docs/judging.md tells it to users.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum, auto
from math import inf

from streamheal.core.case import Case, Kind, Phase
from streamheal.core.messages import Verdict


class Chain:
    """The successes of one shard, as far as they are no more than `bracket_s` apart.

    A witness is bounds: one success began at or after `since` and had ended by `until`. The
    bounds are taken at their worst, so a loose one can break a chain but never mend it.

    Attributes:
        began: By then the chain's first success had ended.
        ends: Then or later its last success began.
        latest: Then or later the last of all successes began.
        last_until: By then the last of all successes had ended.
    """

    __slots__ = ("_bracket_s", "began", "ends", "last_until", "latest")

    def __init__(self, bracket_s: float) -> None:
        self._bracket_s = bracket_s
        self.began = self.ends = self.latest = self.last_until = -inf

    def add(self, since: float, until: float) -> None:
        if until - self.ends > self._bracket_s:
            self.began, self.ends = until, since
        self.ends = max(self.ends, since)
        self.latest = max(self.latest, since)
        self.last_until = max(self.last_until, until)


class Bracket(Enum):
    NONE = auto()  # nobody has succeeded since the try
    LOOSE = auto()
    TIGHT = auto()  # no outage longer than `bracket_s` has room


def bracket(case: Case, chain: Chain) -> Bracket:
    """What the witnesses say of the case's last failed try."""
    if chain.latest < case.failed_at:
        return Bracket.NONE
    # "A success after the failure" alone is not enough: the outage may just have ended.
    tight = chain.began <= case.began and chain.ends >= case.failed_at
    return Bracket.TIGHT if tight else Bracket.LOOSE


def followed(case: Case, chain: Chain) -> bool:
    """Another record began after one of its failures, and succeeded."""
    return chain.latest >= case.first_failed_at


def left_over(undecided: Sequence[Case], chain: Chain, quiet_at: float, doubt: bool) -> list[tuple[Case, Verdict]]:
    """Decide what can be decided where nobody is left to ask and patience is over.

    A record can be convicted if it was tried alone once more after `quiet_at` (or has killed too
    many hosts to be tried again), and either is the only one undecided, or failed in one way
    every time although another record followed it and succeeded. The second does not hold while
    two records that nobody followed fail alike: that is what the beginning of an outage looks
    like, and it would explain the first.

    Args:
        doubt: The last verdict was NOBODY_ELSE, and nothing has succeeded since: two records
            failing one after the other, and nothing in between, may be an outage. Or processes
            die without a culprit: the program may be broken.
    """
    found: list[tuple[Case, Verdict]] = []
    rest = list(undecided)
    if len(rest) > 1 or doubt:
        unfollowed: Counter[Kind | None] = Counter(case.kind for case in rest if not followed(case, chain))
        if all(alike < 2 for alike in unfollowed.values()):
            found = [(case, Verdict.LEFT_OVER) for case in rest if _guilty_of_itself(case, chain, quiet_at)]
            rest = [case for case in rest if not _guilty_of_itself(case, chain, quiet_at)]
    if len(rest) == 1 and not doubt and _tried_since(rest[0], quiet_at):
        found.append((rest[0], Verdict.NOBODY_ELSE))
    return found


def _guilty_of_itself(case: Case, chain: Chain, quiet_at: float) -> bool:
    return _tried_since(case, quiet_at) and case.uniform and followed(case, chain)


def _tried_since(case: Case, quiet_at: float) -> bool:
    return case.phase is Phase.TRIED and (case.spent or case.tried_at >= quiet_at)
