"""What one record that kills its process costs the others, over many made-up worlds (`tests/simulation`).

The real runtime and core run there over made-up workers, and the time is made up, too: these are counts, which say
nothing of speed.
"""

from __future__ import annotations

import os
import random
import statistics
from collections import Counter
from dataclasses import replace
from multiprocessing import get_context
from typing import NamedTuple

from bench.figures import Figure
from streamheal.core.policy import Policy
from tests.simulation.generate import Rec, Spec
from tests.simulation.world import World

_WORLDS = 1_000
_IN_FLIGHT = 32


class Cost(NamedTuple):
    """Of one world: deaths of processes, those of them in a worker, who else ran there, and the most of extra runs."""

    deaths: int
    shared: int
    beside: int
    extra_runs: int


def _cost(seed: int) -> Cost:
    dice = random.Random(seed)
    count = dice.randint(40, 200)
    killer_nth = dice.randrange(count)
    records = tuple(Rec(f"k{nth}", "crash" if nth == killer_nth else "fine") for nth in range(count))
    spec = Spec(seed, Policy(), "key", _IN_FLIGHT, (records,), fails=0.0, run_s=1.0)
    # The stream goes on: where nothing else succeeds for seconds, the killer is tried alone once more.
    world = World(replace(spec, trickle_s=0.1, empty=False)).run()
    (stream,) = world.streams
    killer = stream.tracks[killer_nth]
    others = [track for track in stream.tracks if track is not killer]
    assert killer.ever == "stored", f"world {seed}: {killer.name} is {killer.ever or 'open'}"
    assert all(track.ever == "effect" for track in others), f"world {seed}: somebody else has no effect"
    deaths: Counter[str] = world.life.runtime.deaths
    beside = sum(track.shared for track in others)
    # A worker may be stopped besides at the very end, in the processor's last hook: that is nobody's doing here.
    return Cost(deaths["signal"] + deaths["cell"], deaths["signal"], beside, max(track.runs for track in others) - 1)


def blame(rounds: int) -> list[Figure]:
    """The worst of so many worlds; more rounds would only repeat it."""
    with get_context("fork").Pool(os.cpu_count() or 1) as pool:
        costs = pool.map(_cost, range(_WORLDS), chunksize=20)
    worlds = (
        f"worst of {_WORLDS:,} simulated worlds (virtual time): one killer, {_IN_FLIGHT} lanes, 40 to 200 records"
        " of as many keys, and more to come"
    )
    beside = statistics.median(cost.beside for cost in costs)
    shared = max(cost.shared for cost in costs)
    deaths = f"{worlds}; {shared} of them in the worker, beside {beside:.0f} others (median)"
    return [
        Figure("blame_deaths", max(cost.deaths for cost in costs), 3, False, deaths),
        Figure("bystander_runs", max(cost.extra_runs for cost in costs), 1, False, worlds),
    ]
