"""What the shards of a host owe each other: news of success, of deaths, and cells."""

from __future__ import annotations

from math import inf

import pytest

from streamheal.core.host import Host, Line
from streamheal.core.policy import Policy


def test_failures_elsewhere_are_an_outage_only_without_a_success_since() -> None:
    host = Host()
    host.failing("b", 1)
    host.succeeded(5.0)
    assert host.suspects_an_outage("a", since=5.1)
    assert not host.suspects_an_outage("a", since=5.0)
    assert not host.suspects_an_outage("b", since=5.1), "its own failures are its own affair"
    host.failing("b", 0)
    assert not host.suspects_an_outage("a", since=5.1)


def test_a_death_counts_until_it_is_forgotten() -> None:
    host = Host()
    host.died(1, "a", suspects=0, now=10.0)
    assert host.unexplained("a", since=10.0) == 1
    assert host.unexplained("a", since=10.1) == 0


def test_a_death_is_unexplained_once_all_its_suspects_were_alone_and_none_was_it() -> None:
    host = Host()
    for shard_id in ("a", "b"):
        host.died(1, shard_id, suspects=2, now=10.0)
    host.heard(1, culprit=False, now=11.0)
    assert host.unexplained("a", since=0.0) == 0
    host.heard(1, culprit=False, now=12.0)
    assert [host.unexplained(shard_id, since=12.0) for shard_id in ("a", "b")] == [1, 1]


def test_deaths_without_a_culprit_count_for_all_shards_whichever_they_hit() -> None:
    """A death that hit two shards is one. 600 s after the first of three the program is beyond doubt."""
    host = Host(Policy(deaths_one_at_a_time=3, calm_s=600.0))
    for shard_id in ("a", "b"):
        host.died(1, shard_id, suspects=0, now=10.0)
    host.died(2, "b", suspects=1, now=11.0)
    host.died(3, "c", suspects=0, now=12.0)
    assert host.dying_until < 0.0
    host.heard(2, culprit=False, now=20.0)
    assert host.dying_until == 610.0
    host.left("b", set())
    assert host.dying_until == 610.0
    host.died(4, "a", suspects=0, now=30.0)
    assert host.dying_until == 612.0


def test_a_shard_that_leaves_takes_all_of_it_along() -> None:
    """Its cell, its place in line, its failures and its deaths; also such as another has explained since."""
    host = Host(Policy(cells_max=2))
    assert host.take_cell("a", 0.0, fresh=True)
    assert host.take_cell("b", 0.0, fresh=True)
    assert not host.take_cell("b", 0.0, fresh=True)
    assert not host.take_cell("c", 0.0, fresh=True)
    host.failing("b", 1)
    host.died(1, "b", suspects=1, now=10.0)
    host.died(2, "b", suspects=0, now=10.0)

    host.left("b", {1, 7})
    assert host.take_cell("c", 0.0, fresh=True)
    assert not host.suspects_an_outage("a", since=0.0)
    host.heard(1, culprit=False, now=11.0)
    assert host.unexplained("b", since=0.0) == 0


def test_whoever_holds_all_cells_will_hear_itself_when_one_is_free() -> None:
    host = Host(Policy(cells_max=2))
    assert not host.holds_all_cells("a")
    host.take_cell("a", 0.0, fresh=True)
    assert not host.holds_all_cells("a")
    host.take_cell("a", 0.0, fresh=True)
    assert host.holds_all_cells("a")
    host.give_cell_back("a")
    assert not host.holds_all_cells("a")


def test_whoever_is_in_line_looks_ever_more_rarely_and_anew_once_it_had_a_cell() -> None:
    """After 0.1 s at first, and after a tenth of the time that it has waited. Who holds all cells hears it itself."""
    host = Host(Policy(cells_max=2))
    line = Line("a", host)
    assert line.take(0.0, fresh=True)
    host.take_cell("b", 0.0, fresh=True)
    assert not line.take(10.0, fresh=True)
    assert line.looks_at(10.0) == pytest.approx(10.1)
    assert not line.take(20.0, fresh=True)
    assert line.looks_at(20.0) == pytest.approx(21.0)
    host.give_cell_back("b")
    assert line.take(21.0, fresh=True)
    assert not line.take(30.0, fresh=True)
    assert line.looks_at(30.0) == inf
    line.give_back(None)
    assert line.looks_at(30.0) == pytest.approx(30.1)
    line.leave()
    assert host.take_cell("b", 31.0, fresh=True)
    assert not line.take(40.0, fresh=True)
    assert line.looks_at(40.0) == pytest.approx(40.1)


def test_a_shard_goes_on_in_the_cell_its_own_left_well_for_two_seconds_though_others_are_in_line() -> None:
    host = Host(Policy(cells_max=1))
    assert host.take_cell("a", 1.0, fresh=False)
    assert not host.take_cell("b", 1.5, fresh=False)
    host.give_cell_back("a", well_at=2.9)
    assert host.take_cell("a", 2.9, fresh=False)
    host.give_cell_back("a", well_at=3.0)
    assert not host.take_cell("a", 3.0, fresh=False)
    assert host.take_cell("b", 3.0, fresh=False)


def test_a_shard_that_leaves_and_comes_back_at_once_stands_in_line() -> None:
    """Its turn went with it."""
    host = Host(Policy(cells_max=1))
    assert host.take_cell("a", 1.0, fresh=False)
    assert not host.take_cell("b", 1.5, fresh=False)
    host.give_cell_back("a", well_at=2.0)
    host.left("a", set())
    assert not host.take_cell("a", 2.0, fresh=False)
    assert host.take_cell("b", 2.0, fresh=False)
