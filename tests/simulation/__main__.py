"""Runs worlds: `python -m tests.simulation FIRST COUNT [PROCESSES]`, or `show SEED [LINES]`.

How far it is, and each world that fails, is told on stderr at once; the summary and the stories come
at the end. SIGINT and SIGTERM bring that end about early, without stories. The exit code is 1 if
any world failed, and 128 and the signal if none did in those that were run.
"""

from __future__ import annotations

import os
import sys

from tests.simulation.crowd import Found, brief, listening, run
from tests.simulation.generate import make
from tests.simulation.shrink import failure, kind, shrink, story

# Shrinking takes a minute or so each.
_STORIES_MAX = 3
_SEEDS_MAX = 20


def show(seed: int, lines: int) -> str:
    spec = make(seed)
    return story(shrink(spec) if failure(spec) else spec, lines)


def alike(found: Found) -> list[list[tuple[int, str]]]:
    """Those that failed, by how they did; most first."""
    by_kind: dict[str, list[tuple[int, str]]] = {}
    for seed, error in sorted(found.failed):
        by_kind.setdefault(kind(error), []).append((seed, error))
    return sorted(by_kind.values(), key=len, reverse=True)


def main(arguments: list[str]) -> int:
    if arguments[0] == "show":
        print(show(int(arguments[1]), int(arguments[2]) if len(arguments) > 2 else 60))
        return 0
    first, count, *processes = map(int, arguments)
    with listening() as asked:
        found = run(first, count, processes[0] if processes else os.cpu_count() or 1, sys.stderr, lambda: asked)
    if asked.by is not None:
        print(f"ended by {asked.by.name}, after {found.worlds:,} of {count:,} worlds")
    print(found.summary())
    kinds = alike(found)
    for worlds in kinds:
        more = ", …" if len(worlds) > _SEEDS_MAX else ""
        seeds = ", ".join(str(seed) for seed, _ in worlds[:_SEEDS_MAX])
        print(f"{len(worlds)} failed: {brief(worlds[0][1])}: worlds {seeds}{more}")
    sys.stdout.flush()
    for (seed, _), *_ in kinds[:_STORIES_MAX] if asked.by is None else ():
        print(f"\nthe smallest that fails like world {seed}:\n{show(seed, 40)}", flush=True)
    if found.failed:
        return 1
    return 0 if asked.by is None else 128 + asked.by


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
