"""How many of the core's mutants the tests notice: what `make mutants` prints last.

A mutant is the core with one small thing changed. Those that mypy refuses could never be
committed, so they are not counted for the tests: of the rest, one that no test notices is a
sentence that is missing, or code that is not needed. tests/core/README.md explains who is left.

    mutmut results --all true | python -m tests.house.mutants [name pattern] …
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatch

KILLED_PERCENT_MIN = 95.0

# A mutant that never ends is noticed as well.
_KILLED = ("killed", "timeout")
_REFUSED = "caught by type check"


def report(results: Iterable[str], patterns: list[str]) -> tuple[list[str], bool]:
    """What to say of lines `name: status`, and whether enough are killed."""
    found = (line.strip().rsplit(": ", 1) for line in results if ": " in line)
    statuses = {name: status for name, status in found if not patterns or any(fnmatch(name, one) for one in patterns)}
    counts = Counter(statuses.values())
    lines = [f"{name}: {status}" for name, status in statuses.items() if status not in (*_KILLED, _REFUSED)]
    killed, tried = sum(counts[status] for status in _KILLED), len(statuses) - counts[_REFUSED]
    percent = 100.0 * killed / tried if tried else 0.0
    lines.append(
        f"{len(statuses)} mutants: mypy refuses {counts[_REFUSED]}, and of {tried} others the tests kill {killed} "
        f"({counts['timeout']} of them never end): {percent:.1f} %; {tried - killed} survive"
    )
    if percent < KILLED_PERCENT_MIN:
        lines.append(f"fewer than {KILLED_PERCENT_MIN:.0f} % are killed")
    return lines, percent >= KILLED_PERCENT_MIN


if __name__ == "__main__":
    said, enough = report(sys.stdin, sys.argv[1:])
    print("\n".join(said))
    sys.exit(not enough)
