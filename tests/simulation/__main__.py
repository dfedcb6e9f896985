"""Runs worlds: `python -m tests.simulation FIRST COUNT [PROCESSES]`, or `show SEED [LINES]`."""

from __future__ import annotations

import os
import sys

from tests.simulation.crowd import run
from tests.simulation.generate import make
from tests.simulation.shrink import failure, kind, shrink, story


def show(seed: int, lines: int) -> str:
    spec = make(seed)
    return story(shrink(spec) if failure(spec) else spec, lines)


def main(arguments: list[str]) -> int:
    if arguments[0] == "show":
        print(show(int(arguments[1]), int(arguments[2]) if len(arguments) > 2 else 60))
        return 0
    first, count, *processes = map(int, arguments)
    found = run(first, count, processes[0] if processes else os.cpu_count() or 1, progress=sys.stderr)
    print(found.summary())
    by_kind: dict[str, list[int]] = {}
    for seed, error in sorted(found.failed):
        by_kind.setdefault(kind(error), []).append(seed)
    for seeds in sorted(by_kind.values(), key=len, reverse=True):
        print(f"\n{len(seeds)} fail like world {seeds[0]} (others: {seeds[1:6]}); the smallest like it:")
        print(show(seeds[0], 40))
    return 1 if found.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
