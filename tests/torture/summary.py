"""What all rounds came to, on one line and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field

KINDS = ("lost", "innocents", "out of order", "doubles", "unsettled", "left behind")


@dataclass
class Summary:
    """Counts over all rounds. `reruns`: healthy records that ran again, and may: they shared a death."""

    rounds: int = 0
    records: int = 0
    blows: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    humans: int = 0
    reruns: int = 0
    excused: int = 0
    failed_seeds: list[int] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def kills(self) -> int:
        return sum(times for blow, times in self.blows.items() if blow.startswith("kill"))

    def line(self) -> str:
        found = ", ".join(f"{self.found[kind]} {kind}" for kind in KINDS)
        return (
            f"{self.rounds} rounds in {self.took_s:.0f} s: {self.records} records, {self.kills} kills, "
            f"{sum(self.blows.values()) - self.kills} other blows; {found}; {self.reruns} reruns, "
            f"{self.humans} times a human was called, {self.excused} excused"
        )

    def json(self) -> str:
        told = asdict(self)
        told["kills"] = self.kills
        told["found"] = {kind: self.found[kind] for kind in KINDS}
        told["blows"] = dict(sorted(self.blows.items()))
        return json.dumps(told)
