"""Real runners in made-up worlds: whoever runs is marked where the host looks; nobody is lost, or overtaken.

A death may come at any moment, also within user code: all is given again to the next process then. Shards come and go,
lanes are limited, cautious or emptied, and messages cross.
"""

from __future__ import annotations

import pytest

from streamheal.workers.arena import Arena
from streamheal.workers.child import batches, coroutines, sequential

from .within.users import USERS
from .within.world import World

WORLDS = 60  # of each kind
STEPS = 200


@pytest.fixture(scope="module")
def arena() -> Arena:
    return Arena()


@pytest.mark.parametrize("mode", USERS)
def test_at_every_moment_the_host_would_know_who_runs(arena: Arena, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    for seed in range(WORLDS):
        try:
            world = World(seed, mode, arena, USERS[mode])
            for module in (sequential, batches, coroutines):
                monkeypatch.setattr(module, "monotonic", world.clock)  # turns end when the dice have it
            world.play(STEPS)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
