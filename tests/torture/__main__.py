"""Runs rounds: `python -m tests.torture --rounds 100`. See the package."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from itertools import groupby
from pathlib import Path

from streamheal.engines.kcl.jars import find_jars, find_java
from streamheal.errors import UsageError
from streamheal.local import LocalAws
from tests.conftest import Aws
from tests.torture.audit import Finding
from tests.torture.kcl import BLOCK, KclFleet, KclRound
from tests.torture.poll import Outcome, Round, Stopped
from tests.torture.summary import Summary


class Torture:
    """Hands seeds to threads, and adds up what comes back."""

    def __init__(self, folder: Path, *, keep: bool) -> None:
        self.summary = Summary()
        self.stopping = threading.Event()
        self._folder, self._keep = folder, keep
        self._adding = threading.Lock()
        self._began = time.monotonic()

    def run(self, aws: Aws, seeds: Sequence[int], jobs: int, engine: str = "poll") -> None:
        """Every piece of work is one seed's round, or those of a block of seeds on a fleet of KCL's."""
        blocks = groupby(seeds if engine in ("kcl", "both") else (), lambda seed: seed // BLOCK)
        work: list[Callable[[], None]] = [partial(self._kcl, aws, block, list(its)) for block, its in blocks]
        work += [partial(self._poll, aws, seed) for seed in (seeds if engine in ("poll", "both") else ())]
        left = iter(work)
        with ThreadPoolExecutor(jobs) as pool:
            lanes = [pool.submit(self._lane, left) for _ in range(jobs)]
            # Not one long wait: a signal is heard between two.
            while wait(lanes, timeout=0.2).not_done:
                pass
        for lane in lanes:
            lane.result()

    def _lane(self, left: Iterator[Callable[[], None]]) -> None:
        while not self.stopping.is_set():
            with self._adding:
                work = next(left, None)
            if work is None:
                return
            try:
                work()
            except Stopped:
                return

    def _poll(self, aws: Aws, seed: int) -> None:
        folder = self._folder / f"{seed}"
        folder.mkdir()
        this = Round(seed, aws, folder, self.stopping.is_set)
        self._play(this)
        if not (this.findings or self._keep):
            shutil.rmtree(folder)

    def _kcl(self, aws: Aws, block: int, seeds: list[int]) -> None:
        """A round that finds something ends its fleet: what comes after it there would only follow from it."""
        folder = self._folder / f"kcl-{block}.{seeds[0]}"
        folder.mkdir()
        with KclFleet(block, aws, folder, self.stopping.is_set) as fleet:
            for seed in seeds:
                this = KclRound(seed, fleet)
                if seed == seeds[-1]:
                    this.last = True
                self._play(this)
                if this.findings:
                    break
        if not (this.findings or self._keep):
            shutil.rmtree(folder)

    def _play(self, this: Round | KclRound) -> None:
        try:
            this.run()
        except Stopped:
            raise
        except Exception:
            # The torture's own, as a rule; it must not pass for a round that found nothing.
            this.findings.append(Finding("left behind", traceback.format_exc()))
        self.add(this.outcome())

    def add(self, outcome: Outcome) -> None:
        with self._adding:
            summary, seed = self.summary, outcome.seed
            summary.rounds += 1
            summary.records += outcome.records
            summary.blows += outcome.blows
            summary.humans += outcome.humans
            summary.reruns += outcome.reruns
            summary.excused += outcome.excused
            summary.found.update(finding.kind for finding in outcome.findings)
            summary.took_s = time.monotonic() - self._began
            rate = summary.rounds * 60 / summary.took_s
            say(
                f"round {summary.rounds}, {outcome.engine} seed {seed}: {outcome.took_s:.1f} s "
                f"({rate:.0f} rounds/min), {sum(outcome.blows.values())} blows; {summary.found.total()} found in all"
            )
            if outcome.findings:
                summary.failed_seeds.append(seed)
                say("\n".join([
                    *outcome.script, *(f"{kind}: {what}" for kind, what in outcome.findings[:20]),
                    f"kept in {outcome.folder}; again: make torture ROUNDS=1 SEED={seed} ENGINE={outcome.engine}",
                ]))  # fmt: skip


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("tests.torture", description="Kill rounds; see tests/torture/__init__.py.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--engine", choices=("poll", "kcl", "both"), default="poll")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="rounds at once")
    parser.add_argument("--json", action="store_true", help="the summary as JSON, on stdout")
    parser.add_argument("--keep", action="store_true", help="keep the folders of rounds that found nothing")
    options = parser.parse_args(arguments)
    if options.engine != "poll":
        try:
            find_java()
            find_jars()
        except UsageError as error:
            parser.error(str(error))
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    torture = Torture(folder, keep=options.keep)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: torture.stopping.set())
    local = LocalAws()
    with local as url:
        aws = Aws(url)
        os.environ.update(aws.environment())
        torture.run(aws, list(range(options.seed, options.seed + options.rounds)), options.jobs, options.engine)
    print(torture.summary.json() if options.json else torture.summary.line())
    if not torture.summary.found and not options.keep:
        shutil.rmtree(folder)
    return 1 if torture.summary.found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
