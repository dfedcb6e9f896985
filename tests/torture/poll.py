"""One round of the engine poll, from its plan to its audit."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.torture.audit import Audit, Finding
from tests.torture.book import At, Book
from tests.torture.ground import APPLICATION, Ground
from tests.torture.killing import Victims, sent
from tests.torture.plan import DEADLINE_S, Blow, Entry, Life, make, tail
from tests.torture.weather import Weather
from tests.whole.running import Site, processes_in, wait_until

PROCESSOR = Path(__file__).with_name("processor.py")
# Long waits are findings: a host that stands still, or does not end.
_LIFE_S_MAX = 60.0
_END_S_MAX = 30.0
_LAST_LIVES_MAX = 4
QUICK = [
    "--deadline-s", str(DEADLINE_S), "--retry-s-min", "0.02", "--patience-s", "1", "--shutdown-s", "1",
    "--checkpoint-s", "0.1", "--workers", "2", "--http", "off", "--log-level", "debug",
]  # fmt: skip
_TRICKLE_S = 0.3
_BEGIN_S_MAX = 20.0
_FIND_S_MAX = 1.5


class Stopped(Exception):
    """The torture was interrupted."""


class Outcome(NamedTuple):
    """What a round came to."""

    engine: str
    seed: int
    findings: list[Finding]
    script: list[str]
    folder: Path
    records: int
    blows: Counter[str]
    humans: int
    reruns: int
    excused: int
    took_s: float


class Round:
    def __init__(self, seed: int, aws: Any, folder: Path, stopped: Callable[[], bool]) -> None:
        self.plan = plan = make(seed)
        self.folder = folder
        self.script: list[str] = []
        self.findings: list[Finding] = []
        self.blows: Counter[str] = Counter()
        self.humans = 0
        self._left_to_people = False  # what is behind a checkpoint was looked at after each life
        self._aws, self._stopped = aws, stopped
        self._dice = random.Random(seed + 1)
        self._began = time.monotonic()
        self._book = Book(folder / "book")
        self._audit = Audit(
            ordering=plan.ordering,
            concurrency=plan.concurrency,
            batches=plan.batches,
            coroutines=plan.processor == "Coroutines",
        )

    def run(self) -> None:
        plan = self.plan
        with Weather(self._aws.url, plan.seed) as weather:
            self._weather = weather
            name = f"torture-{plan.seed}-{time.time_ns() % 1_000_000_000}"
            self._ground = Ground(
                self._aws, self.folder, name, quarantine=plan.quarantine, state=plan.state, weather=weather
            )
            try:
                self._prepare()
                for life in plan.lives[:-1]:
                    self._live(life, *(["--until-caught-up"] if self._dice.random() < 0.3 else []))
                self._last(plan.lives[-1])
            finally:
                for pid in processes_in(self.folder):
                    sent(pid, signal.SIGKILL)
        if not self.findings:
            self._judge()
        self._book.close()
        self._ground.clean()

    def outcome(self) -> Outcome:
        return Outcome(
            "poll", self.plan.seed, self.findings, self.script, self.folder, len(self._audit.truth), self.blows,
            self.humans, self._audit.reruns_shared, self._audit.excused, time.monotonic() - self._began,
        )  # fmt: skip

    def _say(self, text: str) -> None:
        self.script.append(f"{time.monotonic() - self._began:6.2f}  {text}")

    # -- what is there before ----------------------------------------------------------------

    def _prepare(self) -> None:
        plan, ground = self.plan, self._ground
        ground.make(plan.shards)
        env = {**self._aws.environment(), "AWS_ENDPOINT_URL": ground.url, "TORTURE_BOOK": str(self._book.path)}
        self._site = Site(self.folder, ground.name, {**env, "TORTURE_WORK_S": str(plan.work_s)})
        shutil.copy(PROCESSOR, self.folder / "tortured.py")
        self._put(plan.entries)
        told = plan._replace(entries=(), lives=())
        self._say(f"{told} with {len(self._audit.truth)} records")

    def _put(self, entries: Sequence[Entry]) -> set[At]:
        records = self._ground.put(entries)
        self._audit.expect(records)
        return {record.at for record in records}

    def _arguments(self, *more: str) -> list[str]:
        plan, ground = self.plan, self._ground
        return [
            "run", f"tortured:{plan.processor}", "--stream", ground.name, "--application", APPLICATION,
            "--quarantine", ground.quarantine, "--state", ground.state, "--ordering", plan.ordering, *QUICK, *more,
        ]  # fmt: skip

    # -- lives ---------------------------------------------------------------------------------

    def _live(self, life: Life, *more: str) -> None:
        host, victims = self._start(*more)
        self._suffer(host, victims, life.blows)
        killed = False
        if self._await(host, life.end):
            killed = life.end.how == "kill" and self._strike(host, victims, life.end)
            if not killed and host.poll() is None:
                self._say("SIGTERM")
                self.blows["term host"] += 1
                self._book.write("struck", host.pid, how="term", whom="host")
                host.send_signal(signal.SIGTERM)
        self._over(host, victims, killed=killed)

    def _last(self, life: Life) -> None:
        """Until it ends by itself with 0, while the stream goes on for as long as somebody is undecided."""
        blows = life.blows
        for _ in range(_LAST_LIVES_MAX):
            host, victims = self._start("--until-caught-up")
            self._suffer(host, victims, blows)
            self._weather.clear()
            late = self._go_on(host)
            code = self._over(host, victims, within_s=_LIFE_S_MAX)
            if self.findings:
                return
            # What came when it had seen the tip is the next one's.
            if code == 0 and late <= {line.at for line in self._book.lines if line.event == "done"}:
                return
            blows = ()
        if self.plan.ordering == "shard" and code == 3:
            # A sick record at the head of each shard, and nothing that may succeed: people know (docs/judging.md).
            self._say("left to people: in strict order nothing may run beside the sick")
            self._left_to_people = True
            return
        self._found("left behind", f"{_LAST_LIVES_MAX} lives on end did not come to an end of it")

    def _go_on(self, host: Any) -> set[At]:
        """A few healthy records now and then, until all who are sick are set aside. Returns those."""
        self._until(host, lambda: self._book.initialized > self._initialized_before, _LIFE_S_MAX)
        until = time.monotonic() + _LIFE_S_MAX
        put: set[At] = set()
        while host.poll() is None and time.monotonic() < until and not self._stopped():
            if self._audit.sick <= {aside.at for aside in self._ground.asides()}:
                break
            put |= self._put(tail(self._dice, self.plan.shards, each=1))
            signal.sigtimedwait([], _TRICKLE_S)
        return put

    def _start(self, *more: str) -> tuple[Any, Victims]:
        self._ground.forget_owner()
        log = self.folder / "log"
        log.touch()
        read = log.stat().st_size
        host = self._site.start(*self._arguments(*more))
        self._book.write("life", host.pid)
        self._say(f"host {host.pid} {' '.join(more)}")
        self._effects_before, self._initialized_before = self._book.effects, set(self._book.initialized)
        return host, Victims(host.pid, self.folder, read, self._book, self._dice)

    def _suffer(self, host: Any, victims: Victims, blows: tuple[Blow, ...]) -> None:
        for blow in blows:
            if not self._await(host, blow):
                return
            if blow.how == "trouble":
                self._trouble(blow)
            else:
                self._strike(host, victims, blow)

    def _await(self, host: Any, blow: Blow) -> bool:
        """Until its moment comes. False: the host has ended by itself before."""
        self._book.look()
        if blow.effects:
            self._until(host, lambda: self._book.initialized > self._initialized_before, _BEGIN_S_MAX)
        effects = self._book.effects + blow.effects
        self._until(host, lambda: bool(blow.effects) and self._book.effects >= effects, blow.within_s)
        return host.poll() is None

    def _until(self, host: Any, condition: Callable[[], bool], within_s: float) -> bool:
        until = time.monotonic() + within_s
        while time.monotonic() < until and host.poll() is None:
            if self._stopped():
                raise Stopped
            self._book.look()
            if condition():
                return True
            signal.sigtimedwait([], 0.005)
        return False

    def _strike(self, host: Any, victims: Victims, blow: Blow) -> bool:
        """Whoever is wanted may be there in a moment only: a cell, above all."""
        found = self._until(host, lambda: victims.strike(blow), _FIND_S_MAX)
        if found:
            self._book.look()
            line = next(line for line in reversed(self._book.lines) if line.event == "struck")
            self.blows[f"{blow.how} {line.rest['whom']}"] += 1
            self._say(f"{blow.how} {line.rest['whom']} {line.pid} {f'for {blow.for_s} s' if blow.for_s else ''}")
        return found

    def _trouble(self, blow: Blow) -> None:
        if blow.whom == "folder" and self._book.effects == self._effects_before:
            return  # it may be about to look whether there is one, and that it may refuse to start without
        what = self._ground.trouble(blow, self._dice)
        self._say(f"{what} for {blow.for_s:.1f} s")
        self.blows[what] += 1

    def _over(self, host: Any, victims: Victims, *, killed: bool = False, within_s: float = _END_S_MAX) -> int:
        """`within_s`: how long nothing at all may happen before it ends."""
        lines, until = 0, 0.0
        while host.poll() is None:
            if self._stopped():
                raise Stopped
            self._book.look()
            if len(self._book.lines) > lines:
                lines, until = len(self._book.lines), time.monotonic() + within_s
            if time.monotonic() > until:
                self._found("left behind", f"host {host.pid} stands still for {within_s:.0f} s, and does not end")
                host.kill()
                host.wait()
                killed = True
            signal.sigtimedwait([], 0.01)
        code: int = host.returncode
        victims.look()
        # Python itself ends so, before a word of the host's is loaded that could listen.
        unborn = code == -signal.SIGTERM and not victims.log_read
        self._say(f"host {host.pid} ended: {code}")
        try:
            wait_until(lambda: not processes_in(self.folder), 10)
        except AssertionError:
            self._found("left behind", f"processes {processes_in(self.folder)} outlive their host {host.pid}")
        expected = (0, 3, -signal.SIGKILL) if killed else (0, 3)
        if code not in expected and not (unborn or victims.struck_unknowing(code)):
            self._found("left behind", f"exit code {code}")
        self.humans += code == 3
        checkpoints = self._ground.checkpoints()
        self._book.write("life over", workers=sorted(victims.workers), checkpoints=checkpoints)
        self._book.look()
        self.findings += self._audit.holes(self._book.lines, self._ground.asides(), checkpoints)
        return code

    # -- the audit -----------------------------------------------------------------------------

    def _found(self, kind: str, what: str) -> None:
        self._say(f"FOUND {kind}: {what}")
        self.findings.append(Finding(kind, what))

    def _judge(self) -> None:
        lines, asides = self._book.lines, self._ground.asides()
        self.findings += self._audit.losses(lines, asides) if not self._left_to_people else []
        self.findings += self._audit.blame(asides, self._book.struck, self._book.struck_alone)
        self.findings += self._audit.effects(lines)
        self.findings += self._audit.order(lines)
        self.findings += self._audit.reruns(self._book.lives())
