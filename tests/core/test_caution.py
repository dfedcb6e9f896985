"""Where hosts have died before: who is asked about, who is not run again, and when all is well again."""

from __future__ import annotations

import pytest

from streamheal.core.caution import Solitude, Spot
from streamheal.core.healer import Healer
from streamheal.core.host import Host
from streamheal.core.ledger import Ledger
from streamheal.core.messages import (
    Cause,
    Checkpointed,
    Decision,
    Done,
    Failed,
    Give,
    Quarantine,
    Retry,
    RunAlone,
    Settle,
    Signal,
    SpanArrived,
    SpanCounted,
    SpanDone,
    Stated,
    Stored,
    Verdict,
    Witnessed,
    WorkerDied,
)
from streamheal.core.policy import Policy
from streamheal.records import Position
from tests.core.telling import at, record


class Life:
    """A host's life in which records 1 … 10 come, of which some were marked when others died."""

    def __init__(self, killed: dict[int, int], policy: Policy | None = None, starts: int = 2) -> None:
        policy = policy or Policy(checkpoint_s=0.0)
        marked = [Position(sequence) for sequence in killed]
        self.healer = Healer("shard", policy, Host(policy), starts=starts, marked=marked)
        self.healer.begin()
        suspects = tuple(sequence - 1 for sequence in killed)
        self.said = self.healer.handle(SpanArrived(1, 10, suspects, tuple(killed.values())), 0.0)
        self.healer.handle(SpanCounted(1, 10), 0.1)

    def turn_comes(self, sequence: int, now: float) -> list[Decision]:
        return self.healer.handle(Failed(record(sequence), Cause.SUSPECTED, now, now), now)

    def another_succeeds(self, now: float) -> list[Decision]:
        return self.healer.handle(Witnessed(now - 0.1, now), now)

    def the_rest_is_done(self, now: float, *held: int) -> list[Decision]:
        named = tuple(record(sequence) for sequence in held)
        return self.healer.handle(SpanDone(1, 10, Position(10), 0, named), now)


def test_suspects_of_a_dead_host_run_alone_in_the_host_when_their_turn_comes() -> None:
    life = Life({5: 0})
    assert life.said[0] == Give(1, ask=(4,))
    assert life.turn_comes(5, 0.2) == [RunAlone(at(5), solitary=True)]
    assert life.healer.handle(Done(at(5), alone=True), 0.3) == [Settle(at(5))]
    assert life.healer.cautious, "the next life would come to it again"
    life.the_rest_is_done(0.4)
    life.healer.handle(Checkpointed(Position(10)), 0.5)
    assert not life.healer.cautious


def test_who_is_to_be_asked_for_is_not_forgotten_when_a_worker_dies() -> None:
    life = Life({5: 0})
    assert Give(1, ask=(4,)) in life.healer.handle(WorkerDied(1, ()), 0.2)


def test_nor_when_it_waits_behind_another_of_its_key_in_a_span_that_is_reported() -> None:
    """4 raised, 5 is queued behind it: no worker may run 5, however often they die."""
    life = Life({5: 2})
    life.healer.handle(Failed(record(4), Cause.RAISED, 0.1, 0.2, "ValueError"), 0.2)
    life.the_rest_is_done(0.3, 5)
    said = life.healer.handle(WorkerDied(1, ()), 0.4)
    assert Give(1, rest=False, queued=(4,), hold=(3,), ask=(4,)) in said


def test_two_hosts_killed_alone_and_anothers_success_convict_without_a_third_try() -> None:
    life = Life({5: 2})
    assert life.turn_comes(5, 0.2) == []
    (verdict,) = life.another_succeeds(0.4)
    assert verdict == Quarantine(at(5), Verdict.KILLED_HOSTS, 0.4, 0.4)


def test_a_success_before_its_turn_is_as_good() -> None:
    life = Life({5: 2})
    life.another_succeeds(0.2)
    (verdict,) = life.turn_comes(5, 30.0)
    assert isinstance(verdict, Quarantine)


def test_one_host_killed_alone_is_not_enough() -> None:
    """The machine may have been taken away just then."""
    life = Life({5: 1})
    assert life.turn_comes(5, 0.2) == [RunAlone(at(5), solitary=True)]
    assert life.healer.handle(Done(at(5), alone=True), 0.3) == [Settle(at(5))]
    assert life.another_succeeds(0.4) == []


def test_where_nobody_is_left_to_ask_it_is_set_aside_after_patience_and_never_run() -> None:
    life = Life({5: 2}, Policy(checkpoint_s=0.0, patience_s=10.0))
    life.turn_comes(5, 0.2)
    life.the_rest_is_done(0.3)
    said: list[Decision] = []
    while not said and (wakes := life.healer.wakes_at) is not None:
        assert wakes <= 11.0
        said = [
            one for one in life.healer.handle(Signal.TICKED, wakes) if isinstance(one, Quarantine | RunAlone | Retry)
        ]
    assert said == [Quarantine(at(5), Verdict.NOBODY_ELSE)]


def test_nor_is_it_set_aside_while_processes_die_in_which_nothing_runs_but_once_they_do_no_more() -> None:
    """It is not run, so that nothing else would ever bring it to mind."""
    life = Life({5: 2}, Policy(checkpoint_s=0.0, patience_s=10.0))
    life.turn_comes(5, 0.2)
    life.the_rest_is_done(0.3)
    for death in (1, 2, 3):
        life.healer.handle(WorkerDied(death, ()), 1.0)
    said: list[Decision] = []
    while not said and (wakes := life.healer.wakes_at) is not None:
        said = [one for one in life.healer.handle(Signal.TICKED, wakes) if isinstance(one, Quarantine | RunAlone)]
    assert (said, wakes) == ([Quarantine(at(5), Verdict.NOBODY_ELSE)], 601.0)


def test_it_is_not_run_again_either_because_records_before_it_run_again() -> None:
    life = Life({5: 2})
    life.turn_comes(5, 0.2)
    life.healer.handle(Stated(None, owes=True), 0.3)
    said = life.healer.handle(WorkerDied(1, (), kept=True), 0.4)
    (give,) = [one for one in said if isinstance(one, Give)]
    assert (give.hold, give.ask) == ((at(5).nth,), ())


def test_two_that_have_killed_hosts_and_no_success_at_all_are_no_ones_guilt() -> None:
    """The program is broken, not the records: nobody is run, nobody set aside, a human is called."""
    life = Life({5: 2, 6: 2}, Policy(checkpoint_s=0.0, patience_s=10.0, human_s=5.0))
    life.turn_comes(5, 0.2)
    life.turn_comes(6, 0.3)
    life.the_rest_is_done(0.4)
    said: list[Decision] = []
    while (wakes := life.healer.wakes_at) is not None and wakes < 2000.0:
        said += life.healer.handle(Signal.TICKED, wakes)
    assert not [one for one in said if isinstance(one, Quarantine | RunAlone | Retry)]
    assert life.healer.needs_human


def test_a_host_is_cautious_from_its_second_start_without_progress() -> None:
    assert not Life({}, starts=1).healer.cautious
    assert Life({}, starts=2).healer.cautious
    assert Life({5: 0}, starts=1).healer.cautious


def test_more_starts_than_one_record_explains_are_not_explained_by_marks() -> None:
    """Another one may have come at full speed, after the one that is marked."""
    policy = Policy(checkpoint_s=0.0)
    for starts, cautious in ((5, False), (6, True)):
        healer = Healer("shard", policy, Host(policy), starts=starts, marked=[Position(1)])
        healer.begin()
        healer.handle(SpanArrived(1, 10), 0.0)
        healer.handle(SpanDone(1, 10, Position(10)), 0.1)
        healer.handle(Checkpointed(Position(10)), 0.2)
        assert healer.cautious is cautious


def test_where_the_last_host_died_past_its_marks_caution_goes_on_past_them() -> None:
    """Its marks were settled, and it went at full speed: what killed it then is not among them."""
    policy = Policy(checkpoint_s=0.0)
    for explained in (True, False):
        healer = Healer("shard", policy, Host(policy), starts=2, marked=[Position(1)], explained=explained)
        healer.begin()
        healer.handle(SpanArrived(1, 10), 0.0)
        healer.handle(SpanDone(1, 10, Position(10)), 0.1)
        healer.handle(Checkpointed(Position(10)), 0.2)
        assert healer.cautious is not explained


def test_where_no_marks_were_found_caution_ends_with_what_can_have_been_open() -> None:
    policy = Policy(checkpoint_s=0.0, open_records_max=1_000)
    healer = Healer("shard", policy, Host(policy), starts=2)
    healer.begin()
    for span in range(1, 100):
        if not healer.cautious:
            break
        healer.handle(SpanArrived(span, 1), float(span))
        healer.handle(SpanDone(span, 1_000, Position(span * 1_000)), span + 0.5)
    assert healer.ledger.done == 31_000


def test_or_once_all_there_is_has_been_settled() -> None:
    life = Life({})
    life.healer.handle(Signal.AT_TIP, 0.2)
    assert life.healer.cautious
    life.the_rest_is_done(0.3)
    life.healer.handle(Signal.AT_TIP, 0.4)
    assert not life.healer.cautious


def test_a_mark_that_never_comes_again_is_passed_with_the_watermark() -> None:
    policy = Policy(checkpoint_s=0.0)
    healer = Healer("shard", policy, Host(policy), starts=2, marked=[Position(7)])
    healer.begin()
    healer.handle(SpanArrived(1, 10), 0.0)
    assert healer.cautious
    healer.handle(SpanDone(1, 2, Position(9)), 0.1)
    healer.handle(Checkpointed(Position(9)), 0.2)
    assert not healer.cautious


def test_or_where_there_is_nothing_beyond_that_could_be_checkpointed() -> None:
    policy = Policy(checkpoint_s=0.0)
    healer = Healer("shard", policy, Host(policy), starts=2, marked=[Position(7)])
    healer.begin()
    healer.handle(Signal.AT_TIP, 0.1)
    assert not healer.cautious


def test_but_not_before_what_there_is_has_been_checkpointed() -> None:
    """The next life would begin before it, and with the mark."""
    policy = Policy(checkpoint_s=0.0)
    healer = Healer("shard", policy, Host(policy), starts=2, marked=[Position(70)])
    healer.begin()
    healer.handle(SpanArrived(1, 10), 0.0)
    healer.handle(SpanDone(1, 10, Position(10)), 0.1)
    healer.handle(Signal.AT_TIP, 0.2)
    assert healer.cautious
    healer.handle(Checkpointed(Position(10)), 0.3)
    healer.handle(Signal.AT_TIP, 0.4)
    assert not healer.cautious


def test_one_that_killed_hosts_is_a_reason_for_caution_until_a_checkpoint_has_passed_it() -> None:
    """A host that dies before, of another, would have forgotten it, and begin with its four deaths again."""
    life = Life({5: 2})
    life.turn_comes(5, 0.2)
    life.another_succeeds(0.4)
    life.healer.handle(Stored(at(5)), 0.5)
    assert life.healer.cautious
    life.the_rest_is_done(0.6)
    assert life.healer.cautious
    life.healer.handle(Checkpointed(Position(10)), 0.7)
    assert not life.healer.cautious


def test_of_several_marks_a_checkpoint_must_lie_behind_the_last() -> None:
    life = Life({3: 0, 7: 0})
    life.healer.handle(Checkpointed(Position(6)), 0.2)
    assert life.healer.cautious
    life.healer.handle(Checkpointed(Position(7)), 0.3)
    assert not life.healer.cautious


@pytest.mark.parametrize("first", [0, 1])
def test_whoever_wants_the_host_for_itself_is_not_kept_waiting_by_newcomers(first: int) -> None:
    solitude, pair = Solitude(), ("a", "b")
    assert solitude.join("worker")
    assert not solitude.be_alone(pair[first])
    assert not solitude.join("newcomer")
    solitude.leave("worker")
    assert solitude.be_alone(pair[first])
    assert not solitude.be_alone(pair[1 - first])
    solitude.leave(pair[first])
    assert not solitude.join("newcomer")
    assert solitude.be_alone(pair[1 - first])


def test_whoever_ran_before_it_was_asked_for_counts_as_running() -> None:
    """It joins, although another is in line: it is there, and only its leaving makes room."""
    solitude = Solitude()
    solitude.join("a")
    assert not solitude.be_alone("suspect")
    solitude.hold("b")
    solitude.leave("a")
    assert not solitude.be_alone("suspect")
    solitude.leave("b")
    assert solitude.be_alone("suspect")


def test_caution_ends_with_the_marks_with_what_was_open_or_where_nothing_is_left() -> None:
    """However what can have been open was settled: done, set aside or filtered."""
    ledger = Ledger()
    ledger.behind = Position(5)
    marked = Spot(Policy(), 1, [Position(5)], explained=True)
    marked.look(ledger, safe=Position(5), kept=Position(5))
    assert marked.past

    unmarked = Spot(Policy(open_records_max=10_000, uncounted_max=2), 2, [], explained=True)
    ledger.done, ledger.quarantined, ledger.filtered = 39_997, 1, 1
    unmarked.look(ledger, safe=None, kept=None)
    assert not unmarked.past
    ledger.filtered = 2
    unmarked.look(ledger, safe=None, kept=None)
    assert unmarked.past

    at_tip = Spot(Policy(), 2, [], explained=True)
    at_tip.look(Ledger(), safe=None, kept=None, at_tip=True)
    assert at_tip.past


def test_a_suspect_of_whom_no_death_alone_is_known_begins_with_none() -> None:
    """It runs alone in the host, and dying there once is not yet twice."""
    policy = Policy()
    healer = Healer("shard", policy, Host(policy), starts=2, marked=[Position(5)])
    healer.begin()
    healer.handle(SpanArrived(1, 10, suspects=(4,)), 0.0)
    healer.handle(SpanCounted(1, 10), 0.1)
    said = healer.handle(Failed(record(5), Cause.SUSPECTED, 0.2, 0.2), 0.2)
    assert said == [RunAlone(at(5), solitary=True)]
    healer.handle(Witnessed(0.1, 0.25), 0.25)
    healer.handle(Failed(record(5), Cause.CRASHED, 0.3, 0.4, alone=True), 0.4)
    assert RunAlone(at(5), solitary=True) in healer.handle(Witnessed(0.5, 0.6), 0.6)
