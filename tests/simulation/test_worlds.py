"""The core, driven through generated worlds by an oracle that knows the truth in them."""

from __future__ import annotations

from collections import Counter

import pytest

from streamheal.core.messages import Verdict
from tests.simulation.generate import make
from tests.simulation.shrink import failure, shrink, story
from tests.simulation.world import World

WORLDS, PARTS = 320, 8


@pytest.mark.parametrize("part", range(PARTS))
def test_in_no_world_is_a_record_lost_overtaken_or_an_innocent_blamed(part: int) -> None:
    """A failing world is shrunk, and told to its end."""
    for seed in range(part, WORLDS, PARTS):
        if failure(make(seed)):
            pytest.fail(f"world {seed} fails; the smallest like it:\n{story(shrink(make(seed)))}", pytrace=False)


def test_the_worlds_are_rich_enough_to_mean_something() -> None:
    """Every verdict is given, workers die, hosts start again, and now and then a human is needed."""
    seen: Counter[str] = Counter()
    for seed in range(80):
        seen += World(make(seed)).run().oracle.seen
    # Hosts here die by chance, and never of a record.
    assert {verdict.name for verdict in Verdict} - {"KILLED_HOSTS"} <= set(seen)
    assert seen["worker deaths"] > 50
    assert seen["lives"] > 60
    assert seen["humans called"] > 5


def test_a_world_is_a_pure_function_of_its_seed() -> None:
    assert story(make(11), 10_000) == story(make(11), 10_000)
