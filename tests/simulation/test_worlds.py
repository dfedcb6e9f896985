"""The runtime, driven through generated worlds by an oracle that knows the truth in them."""

from __future__ import annotations

import pytest

from streamheal.core.messages import Verdict
from tests.simulation.crowd import run
from tests.simulation.generate import make
from tests.simulation.shrink import shrink, story

WORLDS, PARTS = 2_000, 10


@pytest.mark.parametrize("part", range(PARTS))
def test_in_no_world_is_a_record_lost_overtaken_or_an_innocent_blamed(part: int) -> None:
    """A failing world is shrunk, and told to its end."""
    many = WORLDS // PARTS
    for seed, _ in run(part * many, many).failed:
        pytest.fail(f"world {seed} fails; the smallest like it:\n{story(shrink(make(seed)))}", pytrace=False)


def test_the_worlds_are_rich_enough_to_mean_something() -> None:
    """Every verdict is given, workers and hosts die, and now and then a human is needed."""
    seen = run(0, 150).seen
    assert {verdict.name for verdict in Verdict} <= set(seen)
    assert seen["workers that died"] > 100
    assert seen["hosts that died"] > 20
    assert seen["hosts that died of a record"] > 20
    assert seen["runs alone in a host"] > 20
    assert seen["shards past their spot"] > 20
    assert seen["shards begun"] > 200
    assert seen["shards halted"] > 5
    assert seen["runs in used cells"] > 50
    assert seen["runs that a thread left behind has ended or held"] > 5
    assert seen["shard_stopped"] > 0
    assert seen["human_called"] > 20


def test_a_world_is_a_pure_function_of_its_seed() -> None:
    assert story(make(11), 10_000) == story(make(11), 10_000)
