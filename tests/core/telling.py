"""A healer and a few words to tell a story of one shard with."""

from __future__ import annotations

from streamheal.core.healer import Healer
from streamheal.core.host import Host
from streamheal.core.messages import (
    At,
    Cause,
    Checkpointed,
    Decision,
    Done,
    Event,
    Failed,
    Named,
    Quarantine,
    RunAlone,
    Signal,
    SpanArrived,
    SpanCounted,
    SpanDone,
    Stored,
    Verdict,
    Witnessed,
    WorkerDied,
)
from streamheal.core.policy import Policy
from streamheal.records import Position


def record(sequence: int, span: int = 1) -> Named:
    """The record at this sequence number, in a span that begins with sequence number 1."""
    before = Position(sequence - 1) if sequence > 1 else None
    return Named(At(span, sequence - 1), Position(sequence), before, 1)


def at(sequence: int) -> At:
    return record(sequence).at


def suspect_runs(sequence: int) -> RunAlone:
    """As for whoever is only known to have run in a process that died: others may have run there before it."""
    return RunAlone(at(sequence), fresh=False)


class Telling:
    """One shard with one span of records 1, 2, 3 …; every method is something that happens at `now`."""

    def __init__(
        self,
        records: int = 10,
        policy: Policy | None = None,
        host: Host | None = None,
        shard_id: str = "shard",
        doubt: Position | None = None,
    ) -> None:
        self.policy = policy or Policy(checkpoint_s=0.0)
        self.healer = Healer(shard_id, self.policy, host or Host(self.policy), doubt=doubt)
        self.records = records
        self._events = 0
        self.healer.begin()
        self.happens(SpanArrived(1, records), 0.0)
        self.happens(SpanCounted(1, records), 0.0)

    def happens(self, event: Event, now: float) -> list[Decision]:
        self._events += 1
        assert self._events < 10_000, "it is woken again and again, and nothing comes of it"
        return self.healer.handle(event, now, jitter=1.0)

    def fails(
        self,
        sequence: int,
        now: float,
        cause: Cause = Cause.RAISED,
        *,
        likeness: str = "ValueError",
        alone: bool = False,
        used: bool = False,
        took_s: float = 0.1,
    ) -> list[Decision]:
        """`used`: alone, in a cell in which others had run."""
        failed = Failed(record(sequence), cause, now - took_s, now, likeness, alone or used, used=used)
        return self.happens(failed, now)

    def another_succeeds(self, now: float, took_s: float = 0.1) -> list[Decision]:
        return self.happens(Witnessed(now - took_s, now), now)

    def dies(
        self, *running: int, now: float, death: int = 1, overran: tuple[int, ...] = (), stood: tuple[int, ...] = ()
    ) -> list[Decision]:
        named = tuple(record(sequence) for sequence in running)
        late, still = (tuple(at(sequence) for sequence in some) for some in (overran, stood))
        return self.happens(WorkerDied(death, named, (), late, len(named), stood=still), now)

    def done_alone(self, sequence: int, now: float) -> list[Decision]:
        return self.happens(Done(at(sequence), alone=True), now)

    def stored(self, sequence: int, now: float) -> list[Decision]:
        return self.happens(Stored(at(sequence)), now)

    def the_rest_is_done(self, now: float, *held: int) -> list[Decision]:
        named = tuple(record(sequence) for sequence in held)
        return self.happens(SpanDone(1, self.records, Position(self.records), 0, named), now)

    def kept(self, sequence: int, now: float) -> list[Decision]:
        return self.happens(Checkpointed(Position(sequence)), now)

    def wakes(self) -> float:
        """When the healer wants to be woken."""
        wakes = self.healer.wakes_at
        assert wakes is not None, "it waits for events only"
        return wakes

    def ticks(self, now: float) -> list[Decision]:
        """Whatever the healer wanted to be woken for until now, one after the other."""
        said: list[Decision] = []
        while (wakes := self.healer.wakes_at) is not None and wakes <= now:
            said += self.happens(Signal.TICKED, wakes)
        return said

    def keeps_failing_alone(self, *sequences: int, now: float, until: float) -> list[Decision]:
        """Time passes; whoever is tried alone fails again at once, each in a way of its own. Returns the verdicts."""
        found: list[Decision] = []
        while (wakes := self.healer.wakes_at) is not None and wakes <= until:
            now = max(now, wakes)
            said = self.happens(Signal.TICKED, now)
            while alone := [decision for decision in said if isinstance(decision, RunAlone)]:
                found += verdicts(said)
                said = []
                for decision in alone:
                    sequence = decision.at.nth + 1
                    assert sequence in sequences, f"{sequence} is not expected to run"
                    said += self.fails(sequence, now + 0.1, likeness=f"kind {sequence}", alone=True)
            found += verdicts(said)
        return found


def verdicts(said: list[Decision]) -> list[Decision]:
    return [decision for decision in said if isinstance(decision, Quarantine)]


def verdict_of(said: list[Decision]) -> Verdict | None:
    return next((decision.verdict for decision in said if isinstance(decision, Quarantine)), None)
