"""One record as a run of its shard has it, and its tries."""

from __future__ import annotations

from streamheal.attempts import Attempt
from streamheal.core.halving import Halving
from streamheal.core.messages import At, Cause, Named
from streamheal.records import Position
from tests.simulation.oracle import Track

# What is marked of a record.
OPEN, RUNNING, DONE, FILTERED, FAILED = range(5)
SETTLED = (DONE, FILTERED)
CAUSES = {"raise": Cause.RAISED, "poison": Cause.POISON, "throttle": Cause.THROTTLED, "overran": Cause.OVERRAN}
OUTCOMES = {
    Cause.RAISED: "exception",
    Cause.POISON: "rejected",
    Cause.THROTTLED: "throttled",
    Cause.OVERRAN: "deadline",
}
DEADLINE_S = 30.0


def attempt(outcome: str, like: str = "", *, alone: bool = False) -> Attempt:
    crash = outcome == "crash"
    return Attempt(
        number=0,
        started_at="2026-01-01T00:00:00.000Z",
        duration_s=0.0,
        outcome=outcome,  # type: ignore[arg-type]
        exception_type=None if crash or outcome == "deadline" else like,
        signal=like if crash else None,
        alone=alone,
    )


class Item:
    """One record as one run of its shard has it: what is marked, and what the host knows of it.

    Attributes:
        known: The core knows it by itself.
        in_hand: The core's to decide about: old marks of it say nothing.
        settled: The host was told, or has said so.
        was_done: When its span was given to the present process.
    """

    __slots__ = ("at", "before", "in_hand", "key", "known", "mark", "settled", "span", "track", "was_done")

    def __init__(self, at: At, track: Track, before: Track | None, key: object) -> None:
        self.at, self.track, self.before, self.key, self.mark = at, track, before, key, OPEN
        self.span = at.span
        self.known = self.in_hand = self.settled = self.was_done = False

    @property
    def named(self) -> Named:
        before = None if self.before is None else Position(self.before.position)
        return Named(self.at, Position(self.track.position), before, 1)


class Run:
    """One record running, in a lane or alone in a cell."""

    __slots__ = ("began", "item", "like", "stage")

    def __init__(self, item: Item, began: float) -> None:
        self.item, self.began = item, began
        self.stage, self.like = "begun", ""


class Call:
    """One call of the processor: a record, or many of a batch, bisected when it fails."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self.halving = Halving(0, len(runs) - 1)
        self.first = True


def place(item: Item) -> At:
    return item.at
