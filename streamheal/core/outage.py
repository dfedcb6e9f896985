"""Whether it is the world that fails: different records, and none succeeding."""

from __future__ import annotations

from math import inf

from streamheal.core.messages import At
from streamheal.core.policy import Policy

# As people read it: in the log, of a blocked record, in the live view and when one is called.
WHY_PAUSED = "different records fail, and none succeeds"


class Outage:
    """The records of one shard that failed since anything succeeded, and the pause they lead to.

    While paused, lanes start nothing by themselves. Probes with growing gaps let one fresh
    record and one known one run; any success ends it.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._failing: dict[At, float] = {}  # record -> when its last failure ended
        self._since = inf
        self.paused = False
        self._gaps = 0
        self._gap_began = self.probe_at = inf

    def __len__(self) -> int:
        return len(self._failing)

    def failed(self, at: At, ended: float, now: float) -> None:
        if not self._failing:
            self._since = now
        self._failing[at] = max(ended, self._failing.get(at, ended))

    def settled(self, at: At) -> None:
        self._failing.pop(at, None)

    def succeeded(self, until: float) -> None:
        """A success that ended then. Old news (it comes with every failure) clears nobody."""
        if self._failing:
            self._failing = {at: ended for at, ended in self._failing.items() if ended > until}
            self._since = max(self._since, until)

    def begins_at(self, doubt: bool) -> float:
        """When what fails now is to be taken for an outage. A doubt counts for one more record."""
        if self.paused or not self._failing or len(self._failing) + doubt < self._policy.failing_min:
            return inf
        return self._since + self._policy.failing_s_min

    def pause(self, now: float, jitter: float) -> None:
        self.paused = True
        self.probed(now, jitter)

    def lift(self) -> None:
        self.paused, self._gaps, self.probe_at = False, 0, inf

    def probed(self, now: float, jitter: float) -> None:
        self._gaps += 1
        self._gap_began, self.probe_at = now, now + self._policy.pause_s(self._gaps, jitter)

    def somebody_came(self, now: float) -> None:
        """There was no fresh record to probe with, and now there is: it need not wait for long."""
        if self.paused:
            self.probe_at = min(self.probe_at, max(now, self._gap_began + self._policy.pause_s_min))
