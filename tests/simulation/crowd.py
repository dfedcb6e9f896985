"""Many worlds, on as many cores as there are; for minutes or for hours."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, as_completed, wait
from contextlib import contextmanager
from itertools import takewhile
from typing import TextIO

from tests.simulation.generate import make
from tests.simulation.shrink import failure_of

# One world may take as long as sixty others: the smaller, the sooner does the last process end after the first.
_CHUNK = 10
_TELL_EVERY_S = 5.0
# Under way for each process: one that runs, and one that need not be waited for.
_CHUNKS_EACH = 2


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
        events = {name: count for name, count in seen.items() if "_" in name and name.islower()}
        rest = [name for name in seen if name not in {**verdicts, **events} and "innocent" not in name]
        speed = self.worlds / max(self.took_s, 1e-9)
        lines = [f"{self.worlds:,} worlds in {self.took_s:,.0f} s ({speed:,.0f}/s), {len(self.failed)} failed"]
        lines += [f"{name}: {seen[name]:,}" for name in sorted(rest)]
        lines.append("in the logs: " + (_listed(events) or "nothing"))
        lines.append("verdicts: " + (_listed(verdicts) or "none"))
        lines.append("innocents among them, which nobody could have known: " + (_listed(blamed) or "none"))
        return "\n".join(lines)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


class Asked:
    """Whether somebody has asked to end it. What has begun is still counted: that takes seconds."""

    def __init__(self) -> None:
        self.by: signal.Signals | None = None

    def heard(self, number: int, frame: object) -> None:
        self.by = signal.Signals(number)

    def __bool__(self) -> bool:
        return self.by is not None


@contextmanager
def listening() -> Iterator[Asked]:
    """To SIGINT and SIGTERM."""
    asked = Asked()
    before = {number: signal.signal(number, asked.heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(
    first: int, count: int, processes: int = 1, progress: TextIO | None = None, enough: Callable[[], object] = bool
) -> Found:
    """Run the worlds of `count` seeds, or fewer, once it is `enough`.

    `progress` is told of each world that fails as soon as it is known, and now and then how far it is.
    """
    found = Found()
    began = told_at = time.perf_counter()
    for some in _each(range(first, first + count), processes, enough):
        found.worlds += some.worlds
        found.seen += some.seen
        found.failed += some.failed
        now = time.perf_counter()
        found.took_s = now - began
        if progress is None:
            continue
        for seed, error in some.failed:
            print(f"world {seed} fails: {brief(error)}", file=progress, flush=True)
        if now - told_at >= _TELL_EVERY_S:
            told_at = now
            print(_how_far(found, count), file=progress, flush=True)
    return found


def brief(error: str) -> str:
    """On one line, and not a long one."""
    return " ".join(error.split())[:120]


def _how_far(found: Found, count: int) -> str:
    speed = found.worlds / found.took_s
    minutes, seconds = divmod(round((count - found.worlds) / speed), 60)
    left = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    return f"{found.worlds:,} of {count:,} worlds, {speed:,.0f}/s, {left} to go, {len(found.failed)} failed"


def _each(seeds: range, processes: int, enough: Callable[[], object]) -> Iterator[Found]:
    all_chunks = (seeds[at : at + _CHUNK] for at in range(0, len(seeds), _CHUNK))
    chunks = takewhile(lambda _: not enough(), all_chunks)
    if processes == 1:
        yield from map(_some, chunks)
        return
    # An executor, and no `multiprocessing.Pool`: that waits for ever for what a process had in hand that was killed.
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, mp_context=fork, initializer=_by_itself) as pool:
        under_way: set[Future[Found]] = set()
        for chunk in chunks:
            under_way.add(pool.submit(_some, chunk))
            if len(under_way) >= _CHUNKS_EACH * processes:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                yield from (some.result() for some in done)
        yield from (some.result() for some in as_completed(under_way))


def _by_itself() -> None:
    """In a process that runs worlds."""
    # A terminal asks all of its processes at once. Who gives the chunks out decides when it is over.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # A world makes many small things and few circles: looking for those is a tenth of its time.
    gc.freeze()
    gc.set_threshold(50_000)


def _some(seeds: range) -> Found:
    found = Found()
    for seed in seeds:
        error = failure_of(make(seed), found.seen)
        found.worlds += 1
        if error:
            found.failed.append((seed, error))
    return found
