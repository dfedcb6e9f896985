"""Many worlds, on as many cores as there are."""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from typing import TextIO

from tests.simulation.generate import make
from tests.simulation.shrink import failure_of

_CHUNK = 25
_TELL_EVERY_S = 5.0


class Found:
    """What became of some worlds. `seen` counts what happened in them; those that failed are not counted."""

    def __init__(self) -> None:
        self.worlds = 0
        self.took_s = 0.0
        self.seen: Counter[str] = Counter()
        self.failed: list[tuple[int, str]] = []

    def summary(self) -> str:
        """One line a subject, for people."""
        seen = self.seen
        blamed = {name.removeprefix("innocent: "): count for name, count in seen.items() if "innocent" in name}
        verdicts = {name: count for name, count in seen.items() if name.isupper()}
        rest = [name for name in seen if name not in verdicts and "innocent" not in name]
        speed = self.worlds / max(self.took_s, 1e-9)
        lines = [f"{self.worlds:,} worlds in {self.took_s:,.0f} s ({speed:,.0f}/s), {len(self.failed)} failed"]
        lines += [f"{name}: {seen[name]:,}" for name in sorted(rest)]
        lines.append("verdicts: " + _listed(verdicts))
        lines.append("innocents among them, which nobody could have known: " + (_listed(blamed) or "none"))
        return "\n".join(lines)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def run(first: int, count: int, processes: int = 1, progress: TextIO | None = None) -> Found:
    """Run the worlds of `count` seeds, and say now and then how far it is."""
    found = Found()
    began = told_at = time.perf_counter()
    for some in _each(range(first, first + count), processes):
        found.worlds += some.worlds
        found.seen += some.seen
        found.failed += some.failed
        now = time.perf_counter()
        found.took_s = now - began
        if progress is not None and now - told_at >= _TELL_EVERY_S:
            told_at = now
            speed = found.worlds / found.took_s
            print(f"{found.worlds:,} of {count:,} worlds, {speed:,.0f}/s, {len(found.failed)} failed", file=progress)
    return found


def _each(seeds: range, processes: int) -> Iterator[Found]:
    chunks = [seeds[at : at + _CHUNK] for at in range(0, len(seeds), _CHUNK)]
    if processes == 1:
        yield from map(_some, chunks)
        return
    # A world makes many small things and few circles: looking for those is a tenth of its time.
    with multiprocessing.get_context("fork").Pool(processes, gc.set_threshold, (50_000,)) as pool:
        yield from pool.imap_unordered(_some, chunks)


def _some(seeds: range) -> Found:
    found = Found()
    for seed in seeds:
        seen: Counter[str] = Counter()
        error = failure_of(make(seed), seen)
        found.worlds += 1
        found.seen += seen
        if error:
            found.failed.append((seed, error))
    return found
