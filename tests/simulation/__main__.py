"""Runs worlds: `python -m tests.simulation FIRST COUNT`, or `show SEED [LINES]`."""

from __future__ import annotations

import sys
import time
from collections import Counter

from tests.simulation.generate import make
from tests.simulation.shrink import failure, kind, shrink, story
from tests.simulation.world import World


def main(arguments: list[str]) -> int:
    if arguments[0] == "show":
        spec = make(int(arguments[1]))
        print(story(shrink(spec) if failure(spec) else spec, int(arguments[2]) if len(arguments) > 2 else 60))
        return 0
    first, count = int(arguments[0]), int(arguments[1])
    began = time.perf_counter()
    seen: Counter[str] = Counter()
    failed: dict[str, list[int]] = {}
    for seed in range(first, first + count):
        spec = make(seed)
        if error := failure(spec):
            failed.setdefault(kind(error), []).append(seed)
        else:
            seen += World(spec).run().oracle.seen if count <= 50 else Counter()
    took = time.perf_counter() - began
    for what, seeds in sorted(failed.items(), key=lambda item: -len(item[1])):
        print(f"{len(seeds):5}  {what}   seeds {seeds[:6]}\n       {failure(make(seeds[0]))[:400]}")
    print(f"{count} worlds in {took:.0f} s ({count / took:.0f}/s), {sum(map(len, failed.values()))} failed", dict(seen))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
