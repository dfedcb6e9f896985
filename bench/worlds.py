"""How many made-up worlds the simulation runs in a second: what a million of them takes."""

from __future__ import annotations

import os
import statistics

from bench.figures import Figure
from tests.simulation.crowd import run

_WORLDS = 1_000


def worlds(rounds: int) -> list[Figure]:
    cores = os.cpu_count() or 1
    rates = []
    for nth in range(rounds):
        found = run(nth * _WORLDS, _WORLDS, cores)
        assert not found.failed, f"worlds that fail: {found.failed}"
        rates.append(found.worlds / found.took_s)
    detail = f"worlds/s on {cores} cores; rounds {min(rates):,.0f} to {max(rates):,.0f}"
    return [Figure("worlds", statistics.median(rates), 200.0, True, detail)]
