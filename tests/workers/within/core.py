"""One shard's core, which knows by itself whoever it was told of, and nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamheal.attempts import Attempt
from streamheal.core.messages import At, Cause, Done, Event, Failed, Give, Named, SpanDone, Start, Witnessed, WorkerDied
from streamheal.records import Dialect, Shard
from streamheal.workers.seat import ShardSeat
from tests.workers.stand import line

if TYPE_CHECKING:
    from .world import World

Place = tuple[int, int, int]  # shard, span, nth


class Core:
    """One shard's listener, which knows by itself whoever was told of, and nobody else."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.spans: dict[int, dict[int, str]] = {}  # known records: queued, hand, settled
        self.sizes: dict[int, int] = {}
        self.reported: set[int] = set()
        self.asks: set[At] = set()
        self.spared: set[At] = set()
        self.intended: list[tuple[At, ...]] = []
        self.permitted: set[At] = set()  # and not over
        self.told: dict[At, int] = {}  # to run again, in this process, as attempt
        self.heeded = False
        self.up = False
        self.cautious_from_its_first = False  # record in this process
        self.seat = ShardSeat(world, Shard(f"shard-{number}"), self)  # type: ignore[arg-type]  # pool and ear

    def place(self, at: At) -> Place:
        return (self.number, *at)

    @property
    def open(self) -> bool:
        return len(self.reported) < len(self.spans) or any(
            {"queued", "hand"} & {*s.values()} for s in self.spans.values()
        )

    def in_hand(self) -> list[At]:
        return [At(s, n) for s, states in self.spans.items() for n, state in states.items() if state == "hand"]

    def has(self, place: Place) -> bool:
        return self.spans[place[1]].get(place[2]) in ("hand", "settled")

    # -- Listener

    def initialized(self) -> None:
        self.up, self.cautious_from_its_first = True, self.seat.is_cautious
        for span, states in sorted(self.spans.items()):
            if span in self.reported and not {"queued", "hand"} & {*states.values()}:
                continue
            queued, hold, skip = (
                tuple(n for n, state in sorted(states.items()) if state == wanted)
                for wanted in ("queued", "hand", "settled")
            )
            ask = tuple(sorted(n for s, n in self.asks if s == span and states.get(n, "queued") == "queued"))
            self.seat.give(Give(span, span not in self.reported, queued, hold, skip, ask))

    def happened(self, event: Event, attempt: Attempt | None = None, masked: bytes | None = None) -> None:
        match event:
            case SpanDone():
                self._span_done(event)
            case Failed(record, cause):
                state = self.spans[record.at.span].get(record.at.nth, "queued")
                assert state == "queued", f"{record.at} fails, but is {state}"
                assert cause is not Cause.SUSPECTED or record.at in self.asks
                self.asks.discard(record.at)
                self.spans[record.at.span][record.at.nth] = "hand"
                self.world.fails[self.place(record.at)] -= cause is not Cause.SUSPECTED
            case Done(at):
                assert self.spans[at.span].get(at.nth) == "queued", f"{at} is done, but was not known to run"
                self._settled(at)
            case WorkerDied():
                self._died(event)
            case _:
                assert not isinstance(event, Witnessed) or event.since <= event.until

    def _settled(self, at: At, why: str = "done") -> None:
        if why == "done":
            assert self.world.over[self.place(at)], f"{at} counts as done, and never was"
        self.spans[at.span][at.nth] = "settled"
        self.seat.forget(at)

    def _span_done(self, done: SpanDone) -> None:
        assert done.span not in self.reported, "reported twice"
        assert done.records == self.sizes[done.span]
        assert done.unmarked == 0, "settled, and not marked so"
        states = self.spans[done.span]
        for named in done.held:
            assert named.at.nth not in states, "held, and known already"
            states[named.at.nth] = "queued"
        unknown = [(self.number, done.span, nth) for nth in range(done.records) if nth not in states]
        lost = [place for place in unknown if not self.world.over[place]]
        assert not lost, f"{lost} count as settled, and never ran to their end"
        assert done.filtered == sum(place in self.world.filtered for place in unknown)
        self.reported.add(done.span)

    def _died(self, died: WorkerDied) -> None:
        world = self.world
        mine = {place for place in world.ran if place[0] == self.number and not self.has(place)}
        marked = {self.place(named.at) for named in died.running}
        assert marked == mine, f"{sorted(mine)} ran in the process that died, and {sorted(marked)} are marked"
        for at, filtered in died.done:
            if self.spans[at.span].get(at.nth) == "queued":
                assert filtered == (self.place(at) in world.filtered)
                self._settled(at)
        self.told.clear()
        self.permitted.clear()
        self.intended.clear()
        for named in () if died.by_us else died.running:
            if named.at in died.stood and named.at not in self.spared:
                self.spared.add(named.at)
            elif self.spans[named.at.span].setdefault(named.at.nth, "queued") == "queued":
                if world.mode == "batch":
                    self.asks.add(named.at)
                else:
                    self.spans[named.at.span][named.at.nth] = "hand"
        self.seat.start(Start(world.dice.choice((None, None, 1)), world.dice.choice((None, None, 0, 1)), 0.0))

    def died(self, at: At, attempt: Attempt) -> None: ...
    def worker_died(self, cause: str) -> None: ...
    def hook_failed(self, hook: Any, attempt: Attempt) -> None: ...

    def ended(self) -> None:
        self.world.gone(self)

    def timed(self, what: Any, seconds: float) -> None: ...

    def intends(self, records: tuple[Named, ...], *, alone: bool = False) -> None:
        assert self.heeded, "asked for before it is known what runs: it may have begun since, and be over"
        self.intended.append(tuple(record.at for record in records))

    def through(self, ats: tuple[At, ...]) -> None:
        assert {*ats} <= self.permitted or not self.heeded, f"{ats} are over, and never began"
        self.permitted -= {*ats}

    def heeds(self, running: tuple[Named, ...], alone: tuple[Named, ...] = ()) -> None:
        self.heeded = True
        self.permitted |= {record.at for record in running}

    # -- decisions

    def bring(self) -> None:
        world, span = self.world, len(self.spans) + 1
        slot = world.take_slot()
        places = [(self.number, span, nth) for nth in range(world.dice.choice((0, 1, 2, 4, 8)))]
        keys = [f"k{world.dice.randrange(world.keys)}" for _ in places]
        for place, key in zip(places, keys, strict=True):
            world.key_of[place] = key
            if world.dice.random() < 0.1:
                world.bad.add(place)
            world.fails[place] = world.dice.choice((0, 0, 0, 0, 0, 0, 1, 2)) if world.trouble else 0
        raw = line(places, first=span * 10, keys=lambda n: keys[n - span * 10])
        slot.view[: len(raw)] = raw
        self.spans[span], self.sizes[span] = {}, len(places)
        self.seat.arrived(span, slot, len(raw), Dialect.DAEMON, None)
        asked = tuple(nth for nth in range(len(places)) if world.trouble and world.dice.random() < 0.02)
        self.asks |= {At(span, nth) for nth in asked}
        if self.up:
            self.seat.give(Give(span, ask=asked))

    def answer(self) -> None:
        world, at = self.world, self.world.dice.choice(self.in_hand())
        if world.dice.random() < 0.5:
            self.spans[at.span][at.nth] = "queued"
            if self.up:
                self.told[at] = world.dice.randint(2, 5)
                self.seat.retry(at, self.told[at])
            return
        world.over[self.place(at)] += 1  # in a cell, or by being set aside
        if self.up:
            self.seat.settle(at)
        self._settled(at, "aside")

    def permit(self) -> None:
        ats = self.intended.pop(self.world.dice.randrange(len(self.intended)))
        self.permitted |= {*ats}
        self.seat.permit(ats[0])

    def be_cautious(self) -> None:
        self.heeded = False
        if self.seat.is_cautious:
            self.intended.clear()
            self.permitted.clear()
        self.cautious_from_its_first = False
        self.seat.cautious(not self.seat.is_cautious)
