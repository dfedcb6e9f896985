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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from streamheal.local import LocalAws
from tests.conftest import Aws
from tests.torture.audit import Finding
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

    def run(self, aws: Aws, seeds: list[int], jobs: int) -> None:
        left = iter(seeds)
        with ThreadPoolExecutor(jobs) as pool:
            lanes = [pool.submit(self._lane, aws, left) for _ in range(jobs)]
            # Not one long wait: a signal is heard between two.
            while wait(lanes, timeout=0.2).not_done:
                pass
        for lane in lanes:
            lane.result()

    def _lane(self, aws: Aws, seeds: Iterator[int]) -> None:
        while not self.stopping.is_set():
            with self._adding:
                seed = next(seeds, None)
            if seed is None:
                return
            folder = self._folder / f"{seed}"
            folder.mkdir(exist_ok=True)
            this = Round(seed, aws, folder, self.stopping.is_set)
            try:
                self.add(this.run())
            except Stopped:
                return
            except Exception:
                # The torture's own, as a rule; it must not pass for a round that found nothing.
                self._add_failure(seed, this)

    def _add_failure(self, seed: int, this: Round) -> None:
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
            say(f"round {summary.rounds}, seed {seed}: {outcome.took_s:.1f} s ({rate:.0f} rounds/min), "
                f"{sum(outcome.blows.values())} blows, {summary.found.total()} found")  # fmt: skip
            if outcome.findings:
                summary.failed_seeds.append(seed)
                say("\n".join([
                    *outcome.script, *(f"{kind}: {what}" for kind, what in outcome.findings[:20]),
                    f"kept in {outcome.folder}; again: make torture ROUNDS=1 SEED={seed}",
                ]))  # fmt: skip
            elif not self._keep:
                shutil.rmtree(outcome.folder)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("tests.torture", description="Kill rounds; see tests/torture/__init__.py.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="rounds at once")
    parser.add_argument("--json", action="store_true", help="the summary as JSON, on stdout")
    parser.add_argument("--keep", action="store_true", help="keep the folders of rounds that found nothing")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    torture = Torture(folder, keep=options.keep)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: torture.stopping.set())
    local = LocalAws()
    with local as url:
        aws = Aws(url)
        os.environ.update(aws.environment())
        torture.run(aws, list(range(options.seed, options.seed + options.rounds)), options.jobs)
    print(torture.summary.json() if options.json else torture.summary.line())
    if not torture.summary.found and not options.keep:
        shutil.rmtree(folder)
    return 1 if torture.summary.found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
