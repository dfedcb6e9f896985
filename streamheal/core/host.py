"""What one shard cannot know: how the others fare, who else ran in a process that died, free cells, solitude."""

from __future__ import annotations

from collections import deque
from math import inf

from streamheal.core.caution import Solitude
from streamheal.core.policy import Policy

# So long a shard may go on in cells in which its own have just succeeded, though others are in line: to go on
# costs nothing, and a fresh process costs the application's start.
_TURN_S = 2.0

# Whoever is in line looks again after so long at least, and after a tenth of the time waited so far: a cell may hang
# until its deadline.
_LOOK_S = 0.1


class _Inquest:
    """One death: how many of its suspects have still to run alone, and which shards it hit.

    If a shard was being initialized there, one is never heard of: the death is not without an explanation.
    """

    __slots__ = ("left", "shards")

    def __init__(self, left: int) -> None:
        self.left = left
        self.shards: set[str] = set()


class Host:
    """One object for all shards of a host.

    Other shards may acquit, never convict: a success elsewhere does not vouch for this shard's
    dependency, but failures elsewhere with no success anywhere mean an outage.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self.solitude = Solitude()
        self._policy = policy or Policy()
        self._failing: dict[str, int] = {}
        self._succeeded_at = -inf
        self._inquests: dict[int, _Inquest] = {}
        self._unexplained: dict[str, list[float]] = {}
        self._dying: deque[tuple[int, float]] = deque(maxlen=self._policy.deaths_one_at_a_time)
        self._cells: dict[str, int] = {}
        self._in_line: list[str] = []
        self._turns: dict[str, float] = {}  # since when a shard has its cells
        self._left_well: tuple[str, float] | None = None  # who has left a cell well, and when

    # -- outages -----------------------------------------------------------------------

    def failing(self, shard_id: str, records: int) -> None:
        if records:
            self._failing[shard_id] = records
        else:
            self._failing.pop(shard_id, None)

    def succeeded(self, until: float) -> None:
        self._succeeded_at = max(self._succeeded_at, until)

    def suspects_an_outage(self, shard_id: str, since: float) -> bool:
        others = len(self._failing) > (shard_id in self._failing)
        return others and self._succeeded_at < since

    # -- deaths ------------------------------------------------------------------------

    def died(self, death: int, shard_id: str, suspects: int, now: float) -> None:
        """A process died; told by each of its shards, `suspects` counting those of all."""
        if suspects:
            self._inquests.setdefault(death, _Inquest(suspects)).shards.add(shard_id)
        else:
            self._stays_unexplained(death, shard_id, now)

    def heard(self, death: int, culprit: bool, now: float) -> None:
        """A suspect has been run alone. When all were and none was it, the death stays unexplained."""
        inquest = self._inquests.get(death)
        if inquest is None:
            return
        inquest.left -= 1
        if culprit:
            del self._inquests[death]
        elif inquest.left == 0:
            for shard_id in self._inquests.pop(death).shards:
                self._stays_unexplained(death, shard_id, now)

    def _stays_unexplained(self, death: int, shard_id: str, now: float) -> None:
        self._unexplained.setdefault(shard_id, []).append(now)
        if all(death != known for known, _ in self._dying):
            self._dying.append((death, now))

    def unexplained(self, shard_id: str, since: float) -> int:
        """Deaths of the shard's processes that no suspect accounts for."""
        deaths = self._unexplained.get(shard_id)
        if not deaths:
            return 0
        self._unexplained[shard_id] = deaths = [at for at in deaths if at >= since]
        return len(deaths)

    @property
    def dying_until(self) -> float:
        """Until when the last deaths without a culprit, whichever shards they hit, say that it may be the program."""
        return self._dying[0][1] + self._policy.calm_s if len(self._dying) == self._dying.maxlen else -inf

    # -- cells -------------------------------------------------------------------------

    def take_cell(self, shard_id: str, now: float, *, fresh: bool) -> bool:
        """Whether the shard may run one record alone now. If not, it is in line, and asks again."""
        free = self._policy.cells_max - sum(self._cells.values())
        ahead = self._in_line.index(shard_id) if shard_id in self._in_line else len(self._in_line)
        goes_on = not fresh and self._left_well == (shard_id, now) and now < self._turns.get(shard_id, -inf) + _TURN_S
        self._left_well = None
        if free <= (0 if goes_on else ahead):
            if shard_id not in self._in_line:
                self._in_line.append(shard_id)
            return False
        if not goes_on:
            self._turns[shard_id] = now
        self.wants_no_cell(shard_id)
        self._cells[shard_id] = self._cells.get(shard_id, 0) + 1
        return True

    def holds_all_cells(self, shard_id: str) -> bool:
        return self._cells.get(shard_id) == self._policy.cells_max

    def give_cell_back(self, shard_id: str, well_at: float | None = None) -> None:
        """`well_at`: its record has succeeded now, and another may run where it did."""
        self._cells[shard_id] -= 1
        self._left_well = None if well_at is None else (shard_id, well_at)

    def wants_no_cell(self, shard_id: str) -> None:
        """The shard has nobody to run alone just now: it must not hold up the line."""
        if shard_id in self._in_line:
            self._in_line.remove(shard_id)

    # ----------------------------------------------------------------------------------

    def left(self, shard_id: str, deaths: set[int]) -> None:
        """The shard is another's now, or over. Nobody will hear what its suspects do."""
        self.failing(shard_id, 0)
        self._cells.pop(shard_id, None)
        self._turns.pop(shard_id, None)
        self._unexplained.pop(shard_id, None)
        self.wants_no_cell(shard_id)
        for death in deaths:
            self._inquests.pop(death, None)


class Line:
    """One shard's way to the host's cells, and its place in the line for them."""

    def __init__(self, shard_id: str, host: Host) -> None:
        self._shard_id, self._host = shard_id, host
        self._since = inf  # when it first asked in vain

    def take(self, now: float, *, fresh: bool) -> bool:
        """See `Host.take_cell`."""
        taken = self._host.take_cell(self._shard_id, now, fresh=fresh)
        self._since = inf if taken else min(self._since, now)
        return taken

    def looks_at(self, now: float) -> float:
        """When to ask again, having asked in vain: that another shard gives back a cell is no event of ours."""
        if self._host.holds_all_cells(self._shard_id):
            return inf
        return now + max(_LOOK_S, (now - self._since) / 10)

    def leave(self) -> None:
        self._since = inf
        self._host.wants_no_cell(self._shard_id)

    def give_back(self, well_at: float | None) -> None:
        """See `Host.give_cell_back`."""
        self._host.give_cell_back(self._shard_id, well_at)
