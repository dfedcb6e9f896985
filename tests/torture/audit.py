"""Compares what there was with what was done, by the book, the quarantine and the checkpoints.

It knows each record's kind, for the round has made it, and nothing of how streamheal works but what
docs/judging.md promises.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from tests.torture.book import At, Line
from tests.torture.keeping import Aside
from tests.torture.plan import PASSING, REASONS


class Truth(NamedTuple):
    """One record, and what it is."""

    shard_id: str
    at: At
    key: str
    kind: str
    data: bytes

    @property
    def healthy(self) -> bool:
        return self.kind == "fine" or self.kind in PASSING


class Finding(NamedTuple):
    kind: str
    what: str


class Audit:
    """Of one stream.

    Args:
        ordering, concurrency: As it was run.
        batches: Whole calls run again.
        coroutines: In a cautious life, whoever merely stood there when a worker died runs again among others.
    """

    def __init__(self, *, ordering: str, concurrency: int, batches: bool, coroutines: bool = False) -> None:
        self.truth: dict[At, Truth] = {}
        self._coroutines = coroutines
        self._ordering, self._concurrency, self._batches = ordering, concurrency, batches
        self.reruns_shared = 0
        self.excused = 0

    def expect(self, records: Iterable[Truth]) -> None:
        self.truth.update((record.at, record) for record in records)

    @property
    def sick(self) -> set[At]:
        return {at for at, record in self.truth.items() if record.kind in REASONS}

    # -- after each life -------------------------------------------------------------------

    def holes(self, lines: list[Line], asides: list[Aside], checkpoints: dict[str, At]) -> Iterator[Finding]:
        """Records behind a checkpoint that are neither done nor kept."""
        done = {line.at for line in lines if line.event == "done"}
        kept = {aside.at for aside in asides}
        for record in self.truth.values():
            checkpoint = checkpoints.get(record.shard_id)
            if checkpoint is None or record.at > checkpoint or record.kind == "filtered":
                continue
            if record.at not in (done | kept if record.healthy else kept):
                yield Finding("lost", f"{self.say(record.at)} is behind the checkpoint {_text(checkpoint)}")

    # -- at the end ------------------------------------------------------------------------

    def losses(self, lines: list[Line], asides: list[Aside]) -> Iterator[Finding]:
        done = {line.at for line in lines if line.event == "done"}
        kept = {aside.at for aside in asides}
        for record in self.truth.values():
            if record.healthy and record.at not in done | kept:
                yield Finding("lost", f"{self.say(record.at)} never took effect")
            elif record.kind in REASONS and record.at not in kept:
                yield Finding("lost", f"{self.say(record.at)} is not in quarantine")

    def blame(self, asides: list[Aside], struck: set[At], struck_alone: Counter[At]) -> Iterator[Finding]:
        """`struck`: they ran where a blow fell. `struck_alone`: how often, alone."""
        for at, times in Counter(aside.at for aside in asides).items():
            if times > 1:
                yield Finding("unsettled", f"{self.say(at)} is {times} times in quarantine")
        for aside in asides:
            record = self.truth.get(aside.at)
            if record is None:
                yield Finding("unsettled", f"{_text(aside.at)} is in quarantine, and was never in the stream")
            elif record.kind not in REASONS:
                if struck_alone[aside.at] > 1:
                    self.excused += 1
                    continue
                yield Finding("innocents", f"{self.say(aside.at)} was set aside: {aside.reason}, {aside.verdict}")
            else:
                if (record.shard_id, record.data) != (aside.shard_id, aside.data):
                    yield Finding("unsettled", f"{self.say(aside.at)} is kept as {aside.shard_id} {aside.data!r}")
                if aside.reason != REASONS[record.kind] and aside.at not in struck:
                    yield Finding("unsettled", f"{self.say(aside.at)} was set aside for {aside.reason}")

    def effects(self, lines: list[Line]) -> Iterator[Finding]:
        for line in lines:
            if line.at is None:
                continue
            record = self.truth.get(line.at)
            if record is None:
                yield Finding("unsettled", f"{_text(line.at)} ran, and was never in the stream")
            elif line.event == "done" and record.kind in REASONS:
                yield Finding("unsettled", f"{self.say(line.at)} took effect")
            elif record.kind == "filtered":
                yield Finding("unsettled", f"{self.say(line.at)} was run")

    def order(self, lines: list[Line]) -> Iterator[Finding]:
        if self._ordering == "none":
            return
        newest: dict[tuple[str, str], At] = {}
        seen: set[At] = set()
        for line in lines:
            if line.event != "done" or line.at is None or line.at in seen:
                continue
            seen.add(line.at)
            record = self.truth[line.at]
            lane = record.shard_id, record.key if self._ordering == "key" else ""
            before = newest.get(lane)
            if before is not None and before > line.at:
                yield Finding("out of order", f"{self.say(line.at)} took effect after {self.say(before)}")
            newest[lane] = max(line.at, before or line.at)

    def reruns(self, lives: Iterable[list[Line]]) -> Iterator[Finding]:
        """Who ran again although a life before had settled and checkpointed it, or nothing that it ran in had died.
        In batches neighbours do, by design."""
        checkpoints: dict[str, list[int]] = {}
        for nth, life in enumerate(lives, 1):
            for line in life:
                if line.event == "start" and line.at in self.truth:
                    behind = checkpoints.get(self.truth[line.at].shard_id)
                    if behind is not None and line.at <= tuple(behind):
                        yield Finding("doubles", f"{self.say(line.at)} ran in life {nth}, though behind the checkpoint")
                elif line.event == "life over":
                    checkpoints = line.rest["checkpoints"]
            if self._batches:
                continue
            runs: dict[At, list[int]] = defaultdict(list)
            surely, shared = self._shared(life)
            workers = {pid for line in life if line.event == "life over" for pid in line.rest["workers"]}
            for line in life:
                if line.event == "start" and line.at is not None:
                    runs[line.at].append(line.pid)
            for at, pids in runs.items():
                record = self.truth.get(at)
                if record is None or not record.healthy:
                    continue
                deaths = [pid for pid, after in pairwise(pids) if pid != after and at in shared[pid]]
                unexplained = len(pids) - 1 - len(deaths) - PASSING.get(record.kind, 0)
                self.reruns_shared += len(deaths)
                if unexplained > 0:
                    yield Finding("doubles", f"{self.say(at)} ran {len(pids)} times in life {nth}, in {pids}")
                stood_by = workers & {pid for pid in deaths if at in surely[pid]}
                if len(stood_by) > (2 if self._coroutines and nth > 1 else 1):
                    yield Finding("doubles", f"{self.say(at)} shared the deaths of {deaths} in life {nth}")

    def _shared(self, life: list[Line]) -> tuple[dict[int, set[At]], dict[int, set[At]]]:
        """By process, what ran in it at its end; and what may have, as far as the book tells: who had just written
        how it ended may not have been marked so."""
        running: dict[int, set[At]] = defaultdict(set)
        ended: dict[int, list[At]] = defaultdict(list)
        for line in life:
            if line.at is None:
                continue
            if line.event == "start":
                running[line.pid].add(line.at)
            elif line.event in ("done", "failed"):
                running[line.pid].discard(line.at)
                ended[line.pid].append(line.at)
        maybe = {pid: running[pid] | set(ended[pid][-self._concurrency :]) for pid in running}
        return running, defaultdict(set, maybe)

    def say(self, at: At) -> str:
        record = self.truth.get(at)
        return _text(at) if record is None else f"{record.kind} {_text(at)} of {record.key} in {record.shard_id}"


def _text(at: At) -> str:
    return f"{at[0]}/{at[1]}"
