"""Breaks the runtime on purpose, in a copy, and shows after how many worlds the simulation notices.

python -m tests.simulation.mutants [WORLDS]     exits with 1 if one is not caught in so many
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
# Prints how many worlds it took, and why the last one failed; nothing, if none did.
_HUNT = """
import sys
from tests.simulation.generate import make
from tests.simulation.shrink import failure
for seed in range(int(sys.argv[1])):
    if error := failure(make(seed)):
        print(seed + 1, error)
        break
"""


class Mutant(NamedTuple):
    what: str
    file: str
    old: str
    new: str

    def of(self, text: str) -> str:
        assert text.count(self.old) >= 1, f"{self.file} has no {self.old!r} any more"
        return text.replace(self.old, self.new, 1)


MUTANTS = (
    # It drops a record.
    Mutant(
        "the watermark is before the last open record",
        "core/ledger.py",
        "= min(opens, key=_place)",
        "= max(opens, key=_place)",
    ),
    Mutant(
        "a span is passed with records open", "core/ledger.py", "span.left or not span.reported:", "not span.reported:"
    ),
    Mutant(
        "what the store refused is taken to be stored", "runtime/aside.py", "tell(StoreFailed(at))", "tell(Stored(at))"
    ),
    Mutant(
        "a store that does not answer has kept all", "runtime/keeper.py", "[error] * len(batch)", "[None] * len(batch)"
    ),
    Mutant(
        "a checkpoint that failed is taken to be kept",
        "runtime/runtime.py",
        "            return False\n",
        "            return True\n",
    ),
    Mutant(
        "a halted shard is checkpointed at its start",
        "core/healer.py",
        "if halted.first_open is not None:",
        "if False:",
    ),
    Mutant(
        "a checkpoint is one record too far",
        "core/progress.py",
        "[Checkpoint(mark)]",
        "[Checkpoint(mark._replace(sequence=mark.sequence + 1))]",
    ),
    # It blames a neighbour.
    Mutant(
        "one death alone is enough",
        "core/weighing.py",
        "case.crashes_alone >= policy.crashes_alone_min",
        "case.crashes_alone >= 1",
    ),
    Mutant(
        "any success around is a witness",
        "core/blame.py",
        "tight = chain.began <= case.began and",
        "tight = chain.began <= case.began or",
    ),
    Mutant(
        "a try in company is as good as one alone", "core/weighing.py", "(fresh or policy.replaying) and case", "case"
    ),
    Mutant(
        "a try in a used cell is as good as one in a fresh one",
        "core/weighing.py",
        "event.alone and not event.used, now",
        "event.alone, now",
    ),
    Mutant(
        "a hang in a used cell convicts",
        "core/weighing.py",
        "(event.used or not (event.alone or",
        "(not (event.alone or",
    ),
    Mutant(
        "whoever has died in a used cell runs in another",
        "core/trouble.py",
        "self.cautious or case.needs_fresh",
        "self.cautious",
    ),
    Mutant(
        "of several left over one is blamed",
        "core/blame.py",
        "if len(rest) == 1 and not doubt and",
        "if rest and not doubt and",
    ),
    Mutant("doubt is not remembered", "runtime/aside.py", "if self._healer.doubt in (None, self._doubt):", "if True:"),
    Mutant(
        "whoever shared a death goes back to a worker",
        "core/trouble.py",
        "if case.lonely or self._patience.over",
        "if self._patience.over",
    ),
    # It swaps two records of a key, or runs one twice at once.
    Mutant(
        "after a death spans come in another order",
        "core/deaths.py",
        "for span in ledger.spans.values() if span.left",
        "for span in reversed(list(ledger.spans.values())) if span.left",
    ),
    Mutant(
        "after a death what is ours runs in the worker",
        "core/deaths.py",
        "            hold.append(nth)",
        "            queued.append(nth)",
    ),
    Mutant(
        "a suspect's lane goes on without it",
        "core/deaths.py",
        "            hold.append(nth)",
        "            skip.append(nth)",
    ),
    Mutant(
        "a lane goes on before its record is stored",
        "runtime/shard.py",
        "self._aside.put(self.seat.record(at), decision)",
        "self._aside.put(self.seat.record(at), decision), self.seat.settle(at)",
    ),
    # It stands still, or takes more than there is.
    Mutant(
        "what went to nobody is not due again",
        "runtime/shard.py",
        "            return  # there is nobody to hear it",
        "            pass  # there is nobody to hear it",
    ),
    Mutant("one cell more than allowed", "core/host.py", "if free <= (0 if goes", "if free < (0 if goes"),
    Mutant(
        "one record more than the window",
        "core/progress.py",
        "ledger.in_flight >= policy.open_records_max",
        "ledger.in_flight > policy.open_records_max",
    ),
    Mutant(
        "a store that failed is not tried again",
        "core/trouble.py",
        "while (case := cases.store_due(now)) is not None:",
        "while (case := None) is not None:",
    ),
    # It does not know who ran when a host died.
    Mutant(
        "a record begins before it is written that it does",
        "runtime/caution.py",
        "                ours = await host.runtime.insist(write)",
        "                ours = True",
    ),
    Mutant(
        "a suspect of a dead host runs beside others",
        "core/caution.py",
        "return self._line[0] == who and not self._together",
        "return True",
    ),
    Mutant(
        "whoever was alone in two dead hosts runs again",
        "core/weighing.py",
        "if hosts < self._policy.crashes_alone_min:",
        "if True:",
    ),
    Mutant(
        "caution never ends",
        "core/caution.py",
        "            self._last = None\n        self.past = self._last is None and not self._records",
        "            self._last = None",
    ),
    Mutant("a pause is never probed", "core/trouble.py", "if now >= self._outage.probe_at:", "if False:"),
)


def hunt(mutant: Mutant, worlds: int) -> str:
    """How many worlds it took and why the last one failed; empty: it was not caught."""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("streamheal", "tests/simulation"):
            shutil.copytree(ROOT / part, Path(folder, part), ignore=shutil.ignore_patterns("__pycache__"))
        Path(folder, "tests/__init__.py").touch()
        file = Path(folder, "streamheal", mutant.file)
        file.write_text(mutant.of(file.read_text()))
        asked = [sys.executable, "-c", _HUNT, str(worlds)]
        there = {**os.environ, "PYTHONPATH": folder}
        done = subprocess.run(asked, cwd=folder, env=there, capture_output=True, text=True, check=False)
        # One that cannot even be imported was noticed by no world.
        assert done.returncode == 0, f"{mutant.what}: {done.stderr.strip()[-200:]}"
        return done.stdout.strip()


def main(worlds: int) -> int:
    missed = 0
    with ThreadPool(os.cpu_count() or 1) as pool:
        for mutant, found in zip(MUTANTS, pool.imap(lambda one: hunt(one, worlds), MUTANTS), strict=True):
            taken, _, why = found.partition(" ")
            missed += not found
            print(f"{taken or 'never':>6}  {mutant.what}: {why[:120]}", flush=True)
    print(f"{len(MUTANTS) - missed} of {len(MUTANTS)} mutants caught within {worlds} worlds")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000))
