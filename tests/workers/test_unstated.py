"""What is owed when a process dies runs again, and no checkpoint passes it in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamheal.core.healer import Healer
from streamheal.core.host import Host
from streamheal.core.messages import (
    At,
    Checkpoint,
    Checkpointed,
    Decision,
    Done,
    Event,
    Named,
    RunsAgain,
    SpanArrived,
    SpanDone,
    Stated,
    WorkerDied,
)
from streamheal.core.policy import Policy
from streamheal.records import Dialect, Position
from streamheal.workers.arena import Slot
from streamheal.workers.book import Book
from streamheal.workers.child.owed import OutOfRange, Owed, Place
from streamheal.workers.decode import decoder
from streamheal.workers.journal import DONE, OPEN
from streamheal.workers.unstated import Unstated

from .stand import FIRST, line

SHARD = "shardId-000000000000"


def position(number: int) -> Position:
    return Position(FIRST + number)


def book(first: int, records: int) -> Book:
    raw = line([first + n for n in range(records)], first=first)
    slot = Slot(0, memoryview(raw))
    return Book(1, serial=1, slot=slot, length=len(raw), dialect=Dialect.DAEMON, after=None)


def again(unstated: Unstated) -> list[int]:
    """The payloads of what would run again."""
    owed = unstated.line()
    assert owed is not None
    records = decoder(SHARD)(Dialect.DAEMON, memoryview(owed[1]), None)
    assert len(records) == owed[0]
    return [record.json() for record in records]


def test_what_was_returned_and_not_stated_runs_again_in_the_streams_order() -> None:
    """One that was known by itself has a fate of its own, and one that came out of turn comes where it belongs."""
    unstated = Unstated(SHARD)
    unstated.reported(book(0, 5), position(4))
    unstated.stated(position(6), owes=True)
    second = book(5, 5)
    second.known[2] = None  # type: ignore[assignment]  # only its place is asked for
    unstated.reported(second, position(9))
    unstated.succeeded(decoder(SHARD)(Dialect.DAEMON, second.slot.view, None)[2])  # type: ignore[union-attr]
    unstated.reported(book(10, 2), position(11))
    assert again(unstated) == [7, 8, 9, 10, 11]
    unstated.stated(position(9), owes=True)
    assert again(unstated) == [10, 11]
    unstated.stated(position(11), owes=False)
    assert again(unstated) == []


def test_what_was_stated_before_one_came_out_of_turn_does_not_run_again() -> None:
    """Up to 7 all is stated; then it is not known any more how far. 3 is that one, and was returned from after that."""
    unstated = Unstated(SHARD)
    first = book(0, 10)
    records = decoder(SHARD)(Dialect.DAEMON, first.slot.view, None)  # type: ignore[union-attr]
    first.known[3] = None  # type: ignore[assignment]  # only its place is asked for
    unstated.stated(None, owes=True)
    unstated.reported(first, position(9))
    unstated.stated(position(7), owes=True)
    unstated.succeeded(records[6])
    unstated.stated(None, owes=True)
    unstated.succeeded(records[3])
    assert again(unstated) == [3, 8, 9]


def test_what_an_earlier_process_had_done_is_not_this_ones_to_owe() -> None:
    unstated = Unstated(SHARD)
    unstated.stated(None, owes=True)
    taken = book(0, 4)
    taken.states = bytes((DONE, OPEN, DONE, OPEN))
    unstated.reported(taken, position(3))
    assert again(unstated) == [1, 3]


def test_what_is_too_much_to_keep_is_let_go_from_its_oldest_until_it_is_stated() -> None:
    size = book(0, 5).length
    unstated = Unstated(SHARD, bytes_max=2 * size + 20)
    unstated.stated(None, owes=True)
    for first in (0, 5, 10):
        unstated.reported(book(first, 5), position(first + 4))
    assert unstated.line() is None
    unstated.stated(position(4), owes=True)
    assert again(unstated) == list(range(5, 15))


class Life:
    """A shard's core and its processor's account, over one span after another; workers die now and then."""

    def __init__(self, data: st.DataObject) -> None:
        policy = Policy(checkpoint_s=0.0)
        self.core = Healer("shard", policy, Host(policy))
        self.data = data
        self.owed: set[int] = set()  # returned from, and not stated
        self.open: dict[int, At] = {}  # held back in their lanes
        self.kept = -1
        self.now = 0.0
        self.deaths = 0
        self.given: set[int] = set()
        self.reborn()

    def reborn(self) -> None:
        self.account = Owed()
        self.account.tell = self.heard
        self.given = set()

    def heard(self, place: Place | None, owes: bool) -> None:
        self.tell(Stated(None if place is None else Position(*place), owes))

    def tell(self, event: Event) -> None:
        self.now += 1.0
        self.obey(self.core.handle(event, self.now))

    def obey(self, said: list[Decision]) -> None:
        for decision in said:
            if isinstance(decision, Checkpoint):
                number = decision.position.sequence
                assert number > self.kept, "a checkpoint went back"
                assert all(number < other for other in {*self.owed, *self.open, *self.running}), "passed what is open"
                self.kept = number
                self.tell(Checkpointed(decision.position))

    running: frozenset[int] = frozenset()

    def call(self, numbers: list[int]) -> None:
        """The processor returns from these, and states what and when it likes."""
        self.account.called((numbers[0], 0), (numbers[-1], 0))
        self.given.update(numbers)
        before = set(self.owed)
        self.owed -= set(numbers)
        upto = self.state("in the call") if self.data.draw(st.booleans(), "states in the call") else -1
        self.account.returned((number, 0) for number in numbers)
        self.owed = (self.owed & before) | {number for number in numbers if number > upto}

    def state(self, when: str) -> int:
        number: int = self.data.draw(st.sampled_from(sorted(self.given)), when)
        before, self.owed = self.owed, {owed for owed in self.owed if owed > number}
        try:
            self.account.state((number, 0))
        except OutOfRange:
            self.owed = before
            return -1
        return number

    def die(self) -> None:
        """All that it had returned from and not stated runs again, in a span before all others."""
        self.deaths += 1
        self.running = frozenset(self.owed)
        self.owed = set()
        span = RunsAgain(-self.deaths, len(self.running), 1) if self.running else None
        self.reborn()
        self.tell(WorkerDied(self.deaths, (), by_us=True, kept=True, again=span))
        if self.running:
            numbers = sorted(self.running)
            self.call(numbers)
            self.running = frozenset()
            self.tell(SpanDone(-self.deaths, len(numbers), Position(numbers[-1])))


@given(st.data())
def test_no_checkpoint_passes_what_a_dead_worker_owed(data: st.DataObject) -> None:
    life = Life(data)
    for span in range(1, data.draw(st.integers(1, 4), "spans") + 1):
        numbers = [span * 10 + nth for nth in range(5)]
        life.running = frozenset(numbers)
        life.tell(SpanArrived(span, 5))
        held = sorted(data.draw(st.sets(st.sampled_from(numbers), max_size=3), "held"))
        done = [number for number in numbers if number not in held]
        if done:
            life.call(done)
        named = []
        for number in held:
            at = At(span, number % 10)
            life.open[number] = at
            named.append(Named(at, Position(number), Position(number - 1) if number % 10 else None))
        life.running = frozenset()
        life.tell(SpanDone(span, 5, Position(numbers[-1]), 0, tuple(named)))
        while data.draw(st.booleans(), "something happens"):
            what = data.draw(st.sampled_from(["state", "die", "late"]), "what")
            if what == "die":
                life.die()
            elif what == "state" and life.given:
                life.state("later")
            elif what == "late" and life.open:
                number = data.draw(st.sampled_from(sorted(life.open)), "whose turn it is")
                life.call([number])
                life.tell(Done(life.open.pop(number)))
    ledger = life.core.ledger
    assert ledger.read == ledger.done + ledger.in_flight
    assert ledger.in_flight == len(life.open)
    if life.given and not life.open:
        life.owed.clear()
        life.account.state_all()
        assert life.core.safe is not None
        assert life.core.safe == ledger.watermark()


@pytest.mark.parametrize("states", [True, False])
def test_an_account_that_was_cleared_keeps_nothing(states: bool) -> None:
    unstated = Unstated(SHARD)
    unstated.stated(None, owes=True)
    unstated.reported(book(0, 5), position(4))
    unstated.stated(position(4), owes=False) if states else unstated.clear()
    assert again(unstated) == []
    assert not unstated.beyond(position(1))
