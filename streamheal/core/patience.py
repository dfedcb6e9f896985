"""How long there has been nobody to ask, and when a human is called."""

from __future__ import annotations

from math import inf

from streamheal.core.blame import Chain
from streamheal.core.host import Host
from streamheal.core.policy import Policy

_NEVER = inf

# The end of another shard's outage is no event of ours: look again, after so long at least, and
# after a tenth of the time waited so far.
_OTHERS_LOOK_S = 1.0


class Patience:
    """Counts from the last success, and from the last record that got into trouble.

        trouble      success      trouble                  over: each undecided      a human
           │            │            │◄── patience_s ──────►│  once more, alone ─ … ─►│

    Attributes:
        over: Patience is at its end, and nobody is left to ask; as last looked at.
        looks_at: When to look again.
    """

    def __init__(self, shard_id: str, policy: Policy, host: Host, chain: Chain) -> None:
        self._shard_id, self._policy, self._host, self._chain = shard_id, policy, host, chain
        self._since = _NEVER  # since when somebody is undecided
        self._grew_at = self._called_at = _NEVER
        self.over = False
        self.looks_at = _NEVER

    @property
    def called(self) -> bool:
        """A human was called, and nothing has succeeded since."""
        return self._called_at < _NEVER

    @property
    def over_at(self) -> float:
        return max(self._chain.last_until, self._grew_at) + self._policy.patience_s

    def began(self, now: float) -> None:
        """Somebody is undecided, for the first time or again."""
        self._since, self._called_at = now, _NEVER

    def grew(self, now: float) -> None:
        """One more record is in trouble."""
        self._grew_at = now

    def succeeded(self, until: float) -> None:
        if until > self._called_at:
            self._called_at = _NEVER

    def look(self, nobody_to_ask: bool, now: float) -> bool:
        self.looks_at, self.over = _NEVER, False
        if nobody_to_ask and now < self.over_at:
            self.looks_at = self.over_at
        elif nobody_to_ask and self._host.suspects_an_outage(self._shard_id, self._calm_since):
            self.looks_at = now + max(_OTHERS_LOOK_S, (now - self.over_at) / 10)
        else:
            self.over = nobody_to_ask
        return self.over

    @property
    def _calm_since(self) -> float:
        return max(self._chain.last_until, self._since)

    def calls_at(self, nobody_to_ask: bool) -> float:
        """When to call a human, while none was. Where nobody is left to ask, last tries alone have time to tell."""
        return self._calm_since + self._policy.patience_s + (self._policy.human_s if nobody_to_ask else 0.0)

    def call(self, now: float) -> None:
        self._called_at = now
