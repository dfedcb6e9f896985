"""Lanes without processes: a made-up runner and host do what they may, in any order.

Every step is chosen by dice: a span is given, a record starts, one ends well or badly, the host
answers, limits, or the process dies and another takes over. The host here keeps the simplest
books there are, and says where lanes disagree with them.
"""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest

from streamheal.records import Dialect, Record, Shard
from streamheal.workers import wire
from streamheal.workers.arena import SLOT_BYTES, Arena
from streamheal.workers.child.failures import Kind, refused
from streamheal.workers.child.given import Means
from streamheal.workers.child.lanes import Lanes
from streamheal.workers.child.spans import Item, Tickets
from streamheal.workers.child.target import Handler, Target, _FunctionProcessor
from streamheal.workers.decode import decoder
from streamheal.workers.journal import DONE, FAILED, FILTERED, HOST_TICKETS_FROM, OPEN, RUNNING, Journal

from .stand import line

Place = tuple[int, int]


@pytest.fixture(scope="module")
def arena() -> Arena:
    return Arena()


class Game:
    """A host, a process and a runner in one. `fates` says how each record ends, try by try."""

    def __init__(self, seed: int, arena: Arena, ordering: str) -> None:
        self.dice = random.Random(seed)
        self.arena, self.ordering = arena, ordering
        self.keys = self.dice.randint(1, 6)
        self.most = self.dice.choice([1, 2, 5])
        self.given: list[int] = []
        self.spans: dict[int, list[Record]] = {}
        self.slots: dict[int, int] = {}
        self.state: dict[Place, str] = {}  # lane, running, hand, settled
        self.known: set[Place] = set()
        self.told: set[Place] = set()  # to run again, in this process
        self.ran: Counter[Place] = Counter()
        self.reported: set[int] = set()
        self.tickets: dict[Place, int] = {}
        self.marked: set[Place] = set()
        self.running: list[Item] = []
        self.asked: list[Place] = []  # in cautious mode: not permitted yet
        self.may: set[Place] = set()  # permitted, or running before anybody asked
        self.filtered = self.filtered_known = 0
        self.said: list[wire.Message] = []
        self.free = [slot for _ in range(10) if (slot := arena.take()) is not None]
        self.slots_taken = list(self.free)
        self.new_process()

    def new_process(self) -> None:
        self.journal = Journal()
        target = Target(lambda: _FunctionProcessor(print), "plain", wire.Facts())
        self.lanes = Lanes(
            wire.Take(1, "shardId-0", "orders"),
            Handler(target, Shard("shardId-0")),
            self.ordering,
            Means(decoder("shardId-0"), memoryview(self.arena.map), self.journal, Tickets(), self.hear),
        )
        self.host_tickets = 0
        self.told.clear()

    def key(self, place: Place) -> object:
        if self.ordering == "shard":
            return ""
        return place if self.ordering == "none" else self.spans[place[0]][place[1]].partition_key

    # -- what may happen

    def give(self) -> None:
        number, slot = len(self.spans) + 1, self.free.pop()
        payloads = range(self.dice.choice([0, 1, 3, 9]))
        raw = line(payloads, first=number * 100, keys=lambda n: f"k{self.dice.randrange(self.keys)}")
        slot.view[: len(raw)] = raw
        self.spans[number] = decoder("shardId-0")(Dialect.DAEMON, slot.view[: len(raw)], None)
        self.slots[number] = slot.index
        asked = tuple(n for n in range(len(self.spans[number])) if self.dice.random() < 0.05)
        for nth in range(len(self.spans[number])):
            self.state[number, nth] = "lane"
        self.lanes.give(wire.Give(1, number, number, slot.index, len(raw), 0, ask=asked))

    def start(self) -> None:
        forced, limit, cautious = bool(self.lanes.forced), self.lanes.limit, self.lanes.intents is not None
        item = self.lanes.next()
        if item is None:
            return
        if cautious:
            assert (item[0].number, item[1]) in self.may, "started without a permit"
        else:
            assert forced or limit is None or limit > 0, "started beyond the limit"
        self.begin(item)

    def begin(self, item: Item) -> None:
        span, nth, record, _ = item
        place = (span.number, nth)
        assert record.attempt == (2 if place in self.told else 1), f"{place} runs as attempt {record.attempt}"
        assert self.state[place] == "lane", f"{place} starts, but is {self.state[place]}"
        for other, state in self.state.items():
            if other < place and self.key(other) == self.key(place):
                assert state == "settled", f"{place} starts while {other} of its key is {state}"
        self.state[place] = "running"
        self.ran[place] += 1
        self.journal.marks[span.mark(nth)] = RUNNING
        self.running.append(item)

    def end(self) -> None:
        item = self.running.pop(self.dice.randrange(len(self.running)))
        span, nth, _, key = item
        place, roll = (span.number, nth), self.dice.random()
        if roll < 0.25:
            failure = self.lanes.failure_in_words(item, Kind("exception", "RAISED"), refused(None), began=0, ended=0)
            self.lanes.failed(span, nth, key, failure)
            return
        filtered = roll < 0.4
        self.journal.marks[span.mark(nth)] = FILTERED if filtered else DONE
        self.state[place] = "settled"
        self.filtered += filtered
        self.filtered_known += filtered and place in self.known
        following = self.lanes.done(span, nth, key, filtered)
        if following is not None:
            self.begin(following)

    def answer(self) -> None:
        place = self.dice.choice([place for place, state in self.state.items() if state == "hand"])
        if self.dice.random() < 0.6:
            self.state[place] = "lane"
            self.told.add(place)
            record = msgspec.structs.replace(self.spans[place[0]][place[1]], attempt=2)
            self.lanes.again(wire.Again(1, *place, record))
        else:
            self.state[place] = "settled"
            self.lanes.settled(*place)

    def be_cautious(self) -> None:
        wanted = self.lanes.intents is None
        self.lanes.be_cautious(wanted, self.most, list(self.running))
        if not wanted:
            self.asked.clear()

    def permit(self) -> None:
        place = self.asked.pop(self.dice.randrange(len(self.asked)))
        self.may.add(place)
        assert self.lanes.intents is not None
        self.lanes.intents.permit(place)

    def limit(self) -> None:
        self.lanes.limit_to(self.dice.choice([None, None, 0, 1, 3]))

    def die(self) -> None:
        """As a seat and the core do it: who ran is in hand, and all is given anew in stream order."""
        old = self.journal
        for item in self.running:
            self.state[item[0].number, item[1]] = "hand"
            self.known.add((item[0].number, item[1]))
        self.running.clear()
        self.asked.clear()
        self.may.clear()
        states = {}
        for number in self.spans:
            if number not in self.reported:
                page = old.page(self.slots[number], number)
                assert page is not None
                states[number] = bytes(s if s in (DONE, FILTERED) else OPEN for s in page.states)
        self.new_process()
        for number, records in self.spans.items():
            mine = {place: self.state[place] for place in self.state if place[0] == number}
            ask = tuple(nth for (_, nth), s in mine.items() if s == "lane" and self.dice.random() < 0.1)
            hold = tuple(nth for (_, nth), state in mine.items() if state == "hand")
            queued = tuple(nth for (_, nth), s in mine.items() if s == "lane" and (number, nth) in self.known)
            skip = tuple(nth for (_, nth), s in mine.items() if s == "settled" and (number, nth) in self.known)
            if number in self.reported:
                self.regive(number, records, hold, queued, ask)
            else:
                self.journal.take_over(self.slots[number], number, states[number])
                length = self.arena.map.find(b"\n", start := self.slots[number] * SLOT_BYTES) + 1 - start
                self.lanes.give(
                    wire.Give(1, number, number, self.slots[number], length, 0, None, True, queued, hold, skip, ask)
                )

    def regive(
        self,
        number: int,
        records: list[Record],
        hold: tuple[int, ...],
        queued: tuple[int, ...],
        ask: tuple[int, ...],
    ) -> None:
        kept = []
        for nth in sorted((*hold, *queued)):
            ticket = HOST_TICKETS_FROM + self.host_tickets
            self.host_tickets += 1
            self.journal.set_ticket(ticket, FAILED if nth in hold else OPEN)
            kept.append(wire.Kept(nth, ticket, nth in hold, records[nth], ask=nth in ask))
        if kept:
            self.lanes.regive(wire.Regive(1, number, tuple(kept)))

    # -- what is heard

    def hear(self, message: wire.Message) -> None:
        match message:
            case wire.Failure(_, span, nth, cause):
                place = (span, nth)
                assert self.state[place] == ("lane" if cause == "SUSPECTED" else "running")
                self.state[place] = "hand"
                self.known.add(place)
            case wire.Succeeded(_, span, nth):
                assert self.state[span, nth] == "settled"
                assert (span, nth) in self.known, "a record nobody knows was told of"
                self.marked.add((span, nth))
            case wire.Finished():
                self.finished(message)
            case wire.Intends(_, places):
                self.asked += places
                assert len(self.asked) <= self.most
            case wire.Heeds(_, running):
                assert {*running} == {(span.number, nth) for span, nth, _, _ in self.running}
                self.may |= {*running}
            case wire.Over(_, places):
                assert {*places} <= self.may, "over, but was never permitted"
                self.may -= {*places}

    def finished(self, done: wire.Finished) -> None:
        assert done.span not in self.reported, "reported twice"
        self.reported.add(done.span)
        assert done.records == len(self.spans[done.span])
        still = {nth for (span, nth), state in self.state.items() if span == done.span and state != "settled"}
        assert {nth for nth, _ in done.tickets} == still, "tickets are for what is open, and only that"
        assert not {nth for nth in still if self.able((done.span, nth))}, "something of it can run"
        self.known |= {(done.span, nth) for nth in still}
        self.filtered -= done.filtered

    def able(self, place: Place) -> bool:
        """Whether a record could run, now or once those before it in its lane are done."""
        for other, state in self.state.items():
            if other <= place and self.key(other) == self.key(place) and state == "hand":
                return False
        return self.state[place] in ("lane", "running")

    def play(self, steps: int) -> None:
        for _ in range(steps):
            may = [self.limit]
            if len(self.spans) < 10:
                may += [self.give]
            if len(self.running) < self.most:
                may += [self.start] * 3
            if self.running:
                may += [self.end] * 3
            if "hand" in self.state.values():
                may += [self.answer] * 2
            if self.asked:
                may += [self.permit] * 3
            if self.dice.random() < 0.05:
                may = [self.be_cautious]
            if self.dice.random() < 0.03:
                may = [self.die]
            if self.dice.random() < 0.02:
                may = [self.drain]
            self.dice.choice(may)()
        self.finish()

    def drain(self) -> None:
        """Another process will be given it all: nothing starts here, whatever was permitted, or is let go."""
        self.lanes.drain()
        for end in (None, *([self.permit] * len(self.asked)), self.be_cautious, *([self.end] * len(self.running))):
            if end is not None:
                end()
            assert not self.lanes.waiting
            assert self.lanes.next() is None, "started while it is emptied"
        self.die()

    def finish(self) -> None:
        """Everything comes to an end: nothing waits that nobody would ever come back to."""
        self.lanes.limit_to(None)
        if self.lanes.intents is not None and self.dice.random() < 0.5:
            self.be_cautious()
        while True:
            while self.asked:
                self.permit()
            self.start()
            if self.running:
                self.end()
            elif self.asked:
                continue
            elif "hand" in self.state.values():
                # Nothing can run: each span is reported, and everybody open waits behind the host's.
                assert self.reported == set(self.spans)
                self.answer()
            else:
                break
        assert set(self.state.values()) <= {"settled"}
        assert self.reported == set(self.spans)
        assert self.filtered == self.filtered_known, "filtered records count once, known ones apart"
        assert not self.lanes.busy
        assert not self.lanes.heads
        for slot in self.slots_taken:
            self.arena.give_back(slot)


@pytest.mark.parametrize("ordering", ["key", "shard", "none"])
def test_lanes_keep_order_and_forget_nobody(arena: Arena, ordering: str) -> None:
    for seed in range(150):
        try:
            Game(seed, arena, ordering).play(120)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
