"""What a host does where hosts have died before it.

    marked ──► blocked at its turn ──► alone in the host ──► done: it stood beside the killer
                                             │
                                             └─► the host dies: marked alone, in the next life once more;
                                                 after two such deaths it is not run again

A process leaves its marks behind when it dies, a host does not: its marks lie in its own memory.
So in cautious mode nothing begins before its position is durable.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from streamheal.core.ledger import Ledger
from streamheal.core.policy import Policy
from streamheal.records import Position

# The starts from one checkpoint without progress, this one included, from which on a host is cautious.
_STARTS = 2

# What the largest answer of GetRecords holds.
_BATCH_RECORDS_MAX = 10_000


class Spot:
    """Where hosts have died in a shard, as far as it is known, and whether we are past it.

    With marks, the spot is where they are: past it, a checkpoint lies behind the last, so that all of them are
    settled, or never came again. Before that the next life would come to them again, and have forgotten what
    became of them: two records that kill hosts, with no checkpoint between them, would do so in turns for ever.
    Without, it may be anywhere among the records that the life before can have had open. So it may where
    the last host to die has made no marks, because it was past its own spot, or where more have died
    than one record explains. Where all that there is has been read and settled, whatever was open then
    has been, too.

    Attributes:
        past: Nothing speaks for caution any more; it does not come back.
    """

    def __init__(self, policy: Policy, starts: int, marks: Iterable[Position], explained: bool) -> None:
        self._last = max(marks, default=None)  # the last mark, until a checkpoint lies behind it
        open_max = policy.open_records_max + (policy.uncounted_max + 1) * _BATCH_RECORDS_MAX
        # Unmarked, marked, alone as often as it takes; and this life.
        starts_of_one = _STARTS + policy.crashes_alone_min + 1
        explained = self._last is not None and explained and starts <= starts_of_one
        self._records = open_max if starts >= _STARTS and not explained else 0
        self.past = self._last is None and not self._records

    def look(self, ledger: Ledger, *, safe: Position | None, kept: Position | None, at_tip: bool = False) -> None:
        """
        Args:
            safe: How far the shard may be checkpointed; of use only at the tip, and dear to work out.
            kept: How far it was, in this life.
        """
        if ledger.done + ledger.quarantined + ledger.filtered >= self._records:
            self._records = 0
        if at_tip and not ledger.in_flight and not ledger.unreported:
            self._records = 0
            if safe == kept:
                self._last = None  # there is no such record any more
        if self._last is not None and kept is not None and kept >= self._last:
            self._last = None
        self.past = self._last is None and not self._records


class Solitude:
    """Who runs in the whole host: any number of records together, or one by itself.

    A host's death says something of a record only if nothing else of the host ran. Whoever waits
    for that is not kept waiting by newcomers.
    """

    def __init__(self) -> None:
        self._together: set[Hashable] = set()
        self._line: list[Hashable] = []  # the first has the host for itself once nobody is left

    def join(self, who: Hashable) -> bool:
        """Whether it may run beside others now."""
        if self._line:
            return False
        self._together.add(who)
        return True

    def hold(self, who: Hashable) -> None:
        """It runs already."""
        self._together.add(who)

    def be_alone(self, who: Hashable) -> bool:
        """Whether it has the host for itself now. If not, it is in line, and asks again."""
        if who not in self._line:
            self._line.append(who)
        return self._line[0] == who and not self._together

    def leave(self, who: Hashable) -> None:
        self._together.discard(who)
        if who in self._line:
            self._line.remove(who)
