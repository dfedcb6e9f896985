"""Where hosts have died: what is durable before anything begins, over seats and a state in memory."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from streamheal.core.messages import At, Done, Failed, Named, SpanCounted, SpanDone, WorkerDied
from streamheal.core.messages import Cause as Ended
from streamheal.errors import StateUnavailable
from streamheal.records import Position, Shard
from streamheal.runtime import runtime
from streamheal.state.marks import Marks, Running
from tests.runtime.fakes import FakeSeat, MemoryState
from tests.runtime.test_leases import Stand, told, until
from tests.runtime.test_runtime import QUICK

KIND = "shop#running"


def named(number: int) -> Named:
    """The record `number` of a batch that begins with 1."""
    return Named(At(1, number - 1), Position(number), Position(number - 1) if number > 1 else None, 1)


class Gated(MemoryState):
    """A state whose writes of marks wait at a gate, or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.gated = "orders/"  # keys that begin so wait at it
        self.failures = 0
        self.at_gate = 0
        self.wrote: list[Any] = []

    def write(self, kind: str, key: str, value: dict[str, Any], *, replaces: int | None) -> int:
        if key.startswith(self.gated):
            self.at_gate += not self.gate.is_set()
            self.gate.wait(10)
        if self.failures:
            self.failures -= 1
            raise StateUnavailable("it does not answer")
        if kind == KIND:
            self.wrote.append([int(one[0].split("/")[0]) for one in value["running"]])
        return super().write(kind, key, value, replaces=replaces)

    def running(self, shard_id: str = "shard-0") -> dict[int, bool]:
        """Who is marked, and whether alone."""
        row = self.rows.get((KIND, f"orders/{shard_id}"))
        return {} if row is None else {int(one[0].split("/")[0]): one[2] for one in row.value["running"]}


def left_by_the_dead(*numbers: int, alone: int = 0, state: Gated | None = None) -> Gated:
    """The marks of records that ran when a host died; `alone`: so often each ran alone besides."""
    state = state or Gated()
    marks = Marks(state, "shop", "orders")
    for life in range(alone + 1):
        marks.begin("shard-0", f"life {life}", None, 2.0)
        running = [Running(Position(number), 1.0, alone=life > 0) for number in numbers]
        marks.write("shard-0", f"life {life}", running, claim=True)
    return state


def cautious(story: Callable[[Stand, FakeSeat, Gated], Awaitable[None]], state: Gated | None = None) -> Stand:
    """A shard that nothing happens in by itself, begun for the second time."""
    state = state or Gated()

    async def play(stand: Stand) -> None:
        stand.pool.stays, stand.starts.before = True, 1
        await stand.started()
        await story(stand, stand.pool.seats["shard-0"], state)

    return told(play, replace(QUICK, shutdown_s=0.05), state)


def test_a_second_start_without_progress_is_cautious_and_says_so() -> None:
    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        assert seat.log[:2] == ["cautious", "start"]

    assert cautious(story).events[:1] == ["shard_cautious"]


def test_a_record_begins_once_its_position_is_durable() -> None:
    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.bring(1, 2, 3)
        state.gate.clear()
        seat.listener.intends((named(1),))
        await until(lambda: state.at_gate)
        assert seat.permitted == []
        state.gate.set()
        await until(lambda: seat.permitted)
        assert state.running() == {1: False}

    cautious(story)


def test_lanes_that_ask_while_a_write_is_under_way_share_the_next() -> None:
    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.bring(*range(1, 10))
        state.gate.clear()
        seat.listener.intends((named(1),))
        await until(lambda: state.at_gate)
        for number in range(2, 10):
            seat.listener.intends((named(number),))
        state.gate.set()
        await until(lambda: len(seat.permitted) == 9)
        assert state.wrote == [[1], [*range(1, 10)]]

    cautious(story)


def test_what_is_through_is_not_marked_by_the_next_write() -> None:
    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.bring(1, 2, 3)
        seat.listener.intends((named(1),))
        await until(lambda: seat.permitted)
        seat.listener.through((At(1, 0),))
        seat.listener.intends((named(2),))
        await until(lambda: len(seat.permitted) == 2)
        assert state.running() == {2: False}

    cautious(story)


def test_a_state_that_does_not_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_STATE_RETRY_S", 0.01)

    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.bring(1)
        state.failures = 3
        seat.listener.intends((named(1),))
        await until(lambda: seat.permitted)

    assert cautious(story).events.count("state_unavailable") == 3


def test_what_waited_in_a_worker_that_died_is_not_permitted_in_the_next() -> None:
    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.bring(1, 2)
        seat.listener.happened(SpanCounted(1, 2))
        state.gate.clear()
        seat.listener.intends((named(1),))
        await until(lambda: state.at_gate)
        seat.listener.happened(WorkerDied(1, (), running_total=0))
        state.gate.set()
        await until(lambda: state.wrote)
        seat.listener.intends((named(2),))
        await until(lambda: seat.permitted)
        assert seat.permitted == [At(1, 1)]
        assert state.running() == {2: False}

    cautious(story)


def test_who_ran_when_a_host_died_runs_with_nothing_beside_it_in_the_whole_host() -> None:
    """3 waits until 1 is through; 4, which asks after it, waits until 3 is, and until that is durable."""

    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.bring(1, 2, 3, 4)
        seat.listener.happened(SpanCounted(1, 4))
        seat.listener.intends((named(1),))
        await until(lambda: seat.permitted)
        seat.listener.happened(Failed(named(3), Ended.SUSPECTED, 0.0, 0.0))
        assert seat.alone == [At(1, 2)]
        seat.listener.intends((named(3),), alone=True)
        seat.listener.intends((named(4),))
        seat.listener.through((At(1, 0),))
        await until(lambda: len(seat.permitted) == 2)
        assert seat.permitted[1] == At(1, 2)
        assert state.running() == {3: True}
        state.gate.clear()
        seat.listener.happened(Done(At(1, 2), alone=True))
        assert len(seat.permitted) == 2
        state.gate.set()
        await until(lambda: len(seat.permitted) == 3)
        assert True not in state.running().values()

    cautious(story, left_by_the_dead(3, 9))


def test_other_shards_of_the_host_are_cautious_with_it_and_wait() -> None:
    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.starts.before = 0
        await stand.started(Shard("shard-1", "orders"))
        other = stand.pool.seats["shard-1"]
        assert other.log[0] == "cautious"
        stand.bring(1, 2, 3)
        stand.bring(1, shard_id="shard-1")
        the_suspects_turn_comes(seat)
        other.listener.intends((named(1),))
        await until(lambda: seat.permitted)
        assert other.permitted == []
        seat.listener.happened(Done(At(1, 2), alone=True))
        await until(lambda: other.permitted or "at full speed" in other.log)
        assert True not in state.running().values()

    cautious(story, left_by_the_dead(3))


def the_suspects_turn_comes(seat: FakeSeat) -> None:
    """The third of three records is blocked in its lane, and asks to run alone."""
    seat.listener.happened(SpanCounted(1, 3))
    seat.listener.happened(Failed(named(3), Ended.SUSPECTED, 0.0, 0.0))
    seat.listener.intends((named(3),), alone=True)


def test_past_the_spot_all_go_at_full_speed_and_the_marks_are_cleared() -> None:
    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.bring(1, 2, 3)
        the_suspects_turn_comes(seat)
        await until(lambda: seat.permitted)
        seat.listener.happened(Done(At(1, 2), alone=True))
        seat.listener.happened(SpanDone(1, 3, Position(3)))
        await until(lambda: seat.log[-1] == "at full speed")
        assert stand.engine.checkpoints == [Position(3)], "else the next life would come to it again"
        assert state.running() == {}
        await until(lambda: not stand.runtime._chores)
        row = state.rows[KIND, "orders/shard-0"].value
        assert (row["running"], row["suspects"]) == ([], [])

    assert "shard_at_full_speed" in cautious(story, left_by_the_dead(3)).events


def test_all_that_there_is_settled_is_past_the_spot() -> None:
    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.bring(1, 2)
        stand.runtime.lag_measured("shard-0", 0.0, True)
        seat.listener.happened(SpanCounted(1, 2))
        assert seat.log[-1] != "at full speed"
        seat.listener.happened(SpanDone(1, 2, Position(2)))
        await until(lambda: seat.log[-1] == "at full speed")

    cautious(story)


def test_whoever_was_alone_in_two_dead_hosts_is_set_aside_without_running_again() -> None:
    state = left_by_the_dead(3, alone=2)

    async def play(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.bring(1, 2, 3)
        seat.listener.happened(SpanCounted(1, 3))
        seat.listener.happened(Failed(named(3), Ended.SUSPECTED, 0.0, 0.0))
        await until(lambda: not stand.runtime._chores)
        assert [one[0] for one in state.rows[KIND, "orders/shard-0"].value["suspects"]] == ["3/0"]
        seat._bear_witness()
        await until(lambda: stand.shelf.kept)
        assert seat.alone == []

    (envelope,) = cautious(play, state).shelf.kept
    assert [(one.outcome, one.alone) for one in envelope.attempts] == [
        ("crash", False),
        ("crash", True),
        ("crash", True),
    ]
    assert envelope.title == "the host died while this record ran alone in it"


def test_a_lease_that_is_lost_takes_its_marks_back() -> None:
    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.bring(1, 2, 3)
        the_suspects_turn_comes(seat)
        await until(lambda: seat.permitted)
        (before,) = Marks(state, "shop", "orders").begin("shard-0", "another host", None, 9.0).suspects
        assert len(before.alone) == 1
        stand.runtime.lease_lost("shard-0")
        await until(lambda: not stand.runtime._chores)
        (after,) = Marks(state, "shop", "orders").begin("shard-0", "another host", None, 9.0).suspects
        assert after.alone == ()

    cautious(story, left_by_the_dead(3))


def test_a_cell_is_not_forgotten_when_its_records_worker_says_that_it_is_through() -> None:
    """A record fails in its worker, and its cell asks, or runs, before the worker has said the rest."""

    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.bring(1, 2, 3)
        seat.listener.happened(SpanCounted(1, 3))
        seat.listener.intends((named(1), named(2)))
        await until(lambda: seat.permitted)
        for number in (1, 2):
            seat.listener.happened(Failed(named(number), Ended.OVERRAN, 0.0, 0.0))
        seat.listener.intends((named(1),), alone=True)
        await until(lambda: len(seat.permitted) == 2)
        state.gate.clear()
        seat.listener.intends((named(2),), alone=True)
        await until(lambda: state.at_gate)
        seat.listener.through((At(1, 0), At(1, 1)))
        state.gate.set()
        await until(lambda: len(seat.permitted) == 3)
        seat.listener.intends((named(3),))
        await until(lambda: len(seat.permitted) == 4)
        assert state.running() == {1: False, 2: False, 3: False}

    cautious(story)


def test_a_suspect_waits_for_its_own_worker_and_not_for_ever() -> None:
    """It fails once more where it runs beside others, and is to run alone: first its worker must be through with it."""

    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.bring(1, 2, 3)
        seat.listener.happened(SpanCounted(1, 3))
        seat.listener.intends((named(3),))
        await until(lambda: seat.permitted)
        seat.listener.happened(Failed(named(3), Ended.SUSPECTED, 0.0, 0.0))
        seat.listener.intends((named(3),), alone=True)
        await until(lambda: not stand.runtime._chores)
        assert len(seat.permitted) == 1
        seat.listener.through((At(1, 2),))
        await until(lambda: len(seat.permitted) == 2)
        assert state.running() == {3: True}

    cautious(story, left_by_the_dead(3))


async def beside_one_marked_alone(stand: Stand, seat: FakeSeat, state: Gated) -> FakeSeat:
    """The seat of another shard, while 3 runs alone in the host. What is written of the first waits at the gate."""
    state.gated = "orders/shard-0"
    await stand.started(Shard("shard-1", "orders"))
    stand.bring(1, 2, 3)
    stand.bring(1, shard_id="shard-1")
    the_suspects_turn_comes(seat)
    await until(lambda: seat.permitted)
    state.gate.clear()
    return stand.pool.seats["shard-1"]


def test_nobody_runs_beside_one_who_is_marked_alone_though_its_shard_is_lost() -> None:
    """Should this host die now, the next would believe that nothing else ran in it."""

    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.starts.before = 0
        other = await beside_one_marked_alone(stand, seat, state)
        stand.runtime.lease_lost("shard-0")
        other.listener.intends((named(1),))
        await until(lambda: state.at_gate)
        assert other.permitted == []
        assert "at full speed" not in other.log
        state.gate.set()
        await until(lambda: other.permitted or "at full speed" in other.log)
        assert state.running() == {}

    cautious(story, left_by_the_dead(3))


def test_a_shard_that_is_lost_before_anything_was_written_keeps_nobody_waiting() -> None:
    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        await stand.started(Shard("shard-1", "orders"))
        other = stand.pool.seats["shard-1"]
        stand.bring(1, 2, 3)
        stand.bring(1, shard_id="shard-1")
        the_suspects_turn_comes(seat)
        stand.runtime.lease_lost("shard-0")
        other.listener.intends((named(1),))
        await until(lambda: other.permitted)

    cautious(story, left_by_the_dead(3))


def test_who_is_tried_alone_again_before_its_mark_is_gone_has_the_host_for_itself_again() -> None:
    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.bring(1, 2, 3)
        the_suspects_turn_comes(seat)
        await until(lambda: seat.permitted)
        seat.listener.happened(Failed(named(3), Ended.CRASHED, 0.0, 0.0, alone=True))
        seat.listener.intends((named(3),), alone=True)
        seat.listener.intends((named(1),))
        await until(lambda: len(seat.permitted) == 2)
        await until(lambda: not stand.runtime._chores)
        assert seat.permitted == [At(1, 2), At(1, 2)]
        assert state.running() == {3: True}

    cautious(story, left_by_the_dead(3))


def test_nobody_runs_beside_one_whose_next_cell_could_not_begin_before_its_mark_was_gone() -> None:
    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        other = await beside_one_marked_alone(stand, seat, state)
        seat.listener.happened(Failed(named(3), Ended.CRASHED, 0.0, 0.0, alone=True))
        await until(lambda: state.at_gate)
        seat.listener.happened(Failed(named(3), Ended.THROTTLED, 0.0, 0.0, alone=True))
        other.listener.intends((named(1),))
        await until(lambda: len(stand.runtime._chores) == 1)
        assert (other.permitted, state.running()) == ([], {3: True})
        state.gate.set()
        await until(lambda: other.permitted)
        assert state.running() == {}

    cautious(story, left_by_the_dead(3))


def test_a_shard_that_comes_back_is_begun_once_its_old_marks_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both stays are of one life of the host: the old one must not take back what the new one marks."""
    monkeypatch.setattr(runtime, "_STATE_RETRY_S", 0.05)

    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.bring(1, 2, 3)
        seat.listener.intends((named(1),))
        await until(lambda: seat.permitted)
        state.failures = 1
        stand.runtime.lease_lost("shard-0")
        await until(lambda: not state.failures)
        await stand.started()
        seat = stand.pool.seats["shard-0"]
        stand.bring(1, 2, 3)
        seat.listener.intends((named(2),))
        await until(lambda: seat.permitted)
        await until(lambda: not stand.runtime._chores)
        assert state.running() == {2: False}

    cautious(story, left_by_the_dead(3))


def test_what_is_not_understood_is_told_of_and_stops_no_start() -> None:
    state = Gated()
    state.rows.clear()
    state.write(KIND, "orders/shard-0", {"version": 7, "running": [["3/0", 1.0, True]]}, replaces=None)

    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.bring(1, 2, 3)
        seat.listener.happened(SpanCounted(1, 3))

    assert "marks_unreadable" in cautious(story, state).events


def test_what_ran_alone_before_is_marked_and_outlives_its_shards_worker() -> None:
    async def story(stand: Stand, seat: FakeSeat, state: Gated) -> None:
        stand.bring(1, 2, 3)
        seat.listener.happened(SpanCounted(1, 3))
        seat.listener.happened(Failed(named(2), Ended.SUSPECTED, 0.0, 0.0))
        seat.listener.heeds((), (named(2),))
        await until(lambda: state.running() == {2: False})
        seat.listener.happened(WorkerDied(1, ()))
        await until(lambda: not stand.runtime._chores)
        assert state.running() == {2: False}
        solitude = stand.runtime.core_host.solitude
        assert not solitude.be_alone("another")
        seat.listener.happened(Done(At(1, 1), alone=True))
        assert solitude.be_alone("another")
        solitude.leave("another")

    cautious(story)
