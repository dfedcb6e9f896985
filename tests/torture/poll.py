"""One round of the engine poll, from its plan to its audit."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.torture import keeping
from tests.torture.audit import Audit, Finding, Truth
from tests.torture.book import Book
from tests.torture.killing import Victims, sent
from tests.torture.plan import DEADLINE_S, Blow, Entry, Life, Plan, make, tail
from tests.torture.weather import WAYS, Weather
from tests.whole.running import Site, processes_in, wait_until

_PROCESSOR = Path(__file__).with_name("processor.py")
_APPLICATION = "tortured"
# Long waits are findings: a host that stands still, or does not end.
_LIFE_S_MAX = 60.0
_END_S_MAX = 30.0
_LAST_LIVES_MAX = 4
_TRICKLE_S = 0.3
_BEGIN_S_MAX = 20.0
_FIND_S_MAX = 1.5


class Stopped(Exception):
    """The torture was interrupted."""


class Outcome(NamedTuple):
    """What a round came to."""

    plan: Plan
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
        self._aws, self._stopped = aws, stopped
        self._dice = random.Random(seed + 1)
        self._began = time.monotonic()
        self._name = f"torture-{seed}-{time.time_ns() % 1_000_000_000}"
        self._book = Book(folder / "book")
        self._audit = Audit(ordering=plan.ordering, concurrency=plan.concurrency, batches=plan.batches)
        self._shards: list[str] = []

    def run(self) -> Outcome:
        with Weather(self._aws.url, self.plan.seed) as weather:
            self._weather = weather
            try:
                self._prepare()
                for life in self.plan.lives[:-1]:
                    self._live(life, "--until-caught-up" if self._dice.random() < 0.3 else "")
                self._last(self.plan.lives[-1])
            finally:
                self._end_all()
        if not self.findings:
            self._judge()
        self._clean()
        return self.outcome()

    def outcome(self) -> Outcome:
        return Outcome(
            self.plan, self.findings, self.script, self.folder, len(self._audit.truth), self.blows, self.humans,
            self._audit.reruns_shared, self._audit.excused, time.monotonic() - self._began,
        )  # fmt: skip

    def _say(self, text: str) -> None:
        self.script.append(f"{time.monotonic() - self._began:6.2f}  {text}")

    # -- what is there before ----------------------------------------------------------------

    def _prepare(self) -> None:
        plan, kinesis = self.plan, self._aws.client("kinesis")
        kinesis.create_stream(StreamName=self._name, ShardCount=plan.shards)
        if plan.quarantine == "kinesis":
            kinesis.create_stream(StreamName=f"{self._name}-aside", ShardCount=1)
        if plan.quarantine == "s3":
            self._aws.client("s3").create_bucket(Bucket=self._name)
        url = self._weather.url
        env = {**self._aws.environment(), "AWS_ENDPOINT_URL": url, "TORTURE_BOOK": str(self._book.path)}
        self._site = Site(self.folder, self._name, {**env, "TORTURE_WORK_S": str(plan.work_s)})
        shutil.copy(_PROCESSOR, self.folder / "tortured.py")
        self._kept = self.folder / "kept"
        self._kept.mkdir()
        (self.folder / "aside").symlink_to("kept")
        self._put(plan.entries)
        told = plan._replace(entries=(), lives=())
        self._say(f"{told} with {len(self._audit.truth)} records")

    def _put(self, entries: tuple[Entry, ...] | list[Entry]) -> None:
        raw = [{"Data": entry.data(), "PartitionKey": entry.key} for entry in entries]
        for first in range(0, len(raw), 500):
            answer = self._aws.client("kinesis").put_records(StreamName=self._name, Records=raw[first : first + 500])
            for entry, given in zip(entries[first : first + 500], answer["Records"], strict=True):
                for nth, kind in enumerate(entry.kinds):
                    data = Entry(entry.key, (kind,)).data()
                    at = int(given["SequenceNumber"]), nth
                    self._audit.expect([Truth(given["ShardId"], at, entry.key, kind, data)])

    def _arguments(self, *more: str) -> list[str]:
        plan = self.plan
        where = {"s3": f"s3://{self._name}/aside", "kinesis": f"kinesis://{self._name}-aside", "folder": "aside"}
        state = "sqlite:state.db" if plan.state == "sqlite" else f"dynamodb:{self._name}"
        return [
            "run", f"tortured:{plan.processor}", "--stream", self._name, "--application", _APPLICATION,
            "--quarantine", where[plan.quarantine], "--state", state, "--ordering", plan.ordering,
            "--deadline-s", str(DEADLINE_S), "--retry-s-min", "0.02", "--patience-s", "1", "--shutdown-s", "1",
            "--checkpoint-s", "0.1", "--workers", "2", "--http", "off", "--log-level", "debug", *more,
        ]  # fmt: skip

    # -- lives ---------------------------------------------------------------------------------

    def _live(self, life: Life, *more: str) -> None:
        host, victims = self._start(*filter(None, more))
        self._suffer(host, victims, life.blows)
        if self._await(host, life.end):
            if life.end.how == "kill":
                self._strike(host, victims, life.end)
            else:
                self._say("SIGTERM")
                self.blows["term host"] += 1
                self._book.write("struck", host.pid, how="term", whom="host")
                host.send_signal(signal.SIGTERM)
        self._over(host, victims, killed=life.end.how == "kill")

    def _last(self, life: Life) -> None:
        """Until it ends by itself with 0, while the stream goes on for as long as somebody is undecided."""
        blows = life.blows
        for nth in range(1, _LAST_LIVES_MAX + 1):
            host, victims = self._start("--until-caught-up")
            self._suffer(host, victims, blows)
            self._weather.clear()
            self._go_on(host)
            if self._over(host, victims, within_s=_LIFE_S_MAX) != 3 or self.findings:
                return
            if nth == _LAST_LIVES_MAX:
                self._found("left behind", f"a human was called in {nth} lives on end, though the stream went on")
            blows = ()

    def _go_on(self, host: Any) -> None:
        """A few healthy records now and then, until all who are sick are set aside."""
        until = time.monotonic() + _LIFE_S_MAX / 2
        while host.poll() is None and time.monotonic() < until and not self._stopped():
            kept = {aside.at for aside in self._asides()}
            if self._audit.sick <= kept:
                return
            self._put(tail(self._dice, self.plan.shards, each=1))
            signal.sigtimedwait([], _TRICKLE_S)

    def _start(self, *more: str) -> tuple[Any, Victims]:
        if self.plan.state == "dynamodb":
            keeping.forget_owner(self._aws.client("dynamodb"), self._name, _APPLICATION)
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

    def _strike(self, host: Any, victims: Victims, blow: Blow) -> None:
        """Whoever is wanted may be there in a moment only: a cell, above all."""
        if self._until(host, lambda: victims.strike(blow), _FIND_S_MAX):
            self._book.look()
            line = next(line for line in reversed(self._book.lines) if line.event == "struck")
            self.blows[f"{blow.how} {line.rest['whom']}"] += 1
            self._say(f"{blow.how} {line.rest['whom']} {line.pid} {f'for {blow.for_s} s' if blow.for_s else ''}")

    def _trouble(self, blow: Blow) -> None:
        match blow.whom:
            case "sqlite":
                threading.Thread(target=self._lock, args=(blow.for_s,), daemon=True).start()
            case "folder" if self._book.effects == self._effects_before:
                return  # it may be about to look whether there is one, and that it may refuse to start without
            case "folder":
                self._move_away(blow.for_s)
            case service:
                service = {"source": "kinesis"}.get(service, service)
                way, share = self._dice.choice(WAYS), self._dice.choice([0.2, 0.6, 1.0])
                self._weather.trouble(service, way, share, blow.for_s)
                self._say(f"{service} answers {way} for {blow.for_s:.1f} s, {share:.0%}")
                self.blows[f"{service} {way}"] += 1
                return
        self._say(f"trouble with {blow.whom} for {blow.for_s:.1f} s")
        self.blows[f"trouble {blow.whom}"] += 1

    def _lock(self, for_s: float) -> None:
        path = self.folder / "state.db"
        with suppress(sqlite3.Error):
            if path.exists():
                connection = sqlite3.connect(path, isolation_level=None)
                connection.execute("BEGIN IMMEDIATE")
                signal.sigtimedwait([], for_s)
                connection.close()

    def _move_away(self, for_s: float) -> None:
        link = self.folder / "aside"
        for target, wait_s in (("nowhere/at/all", for_s), ("kept", 0.0)):
            (self.folder / "new").symlink_to(target)
            (self.folder / "new").replace(link)
            signal.sigtimedwait([], wait_s)

    def _over(self, host: Any, victims: Victims, *, killed: bool = False, within_s: float = _END_S_MAX) -> int:
        until = time.monotonic() + within_s
        while host.poll() is None:
            if self._stopped():
                raise Stopped
            if time.monotonic() > until:
                self._found("left behind", f"host {host.pid} has not ended within {within_s:.0f} s")
                host.kill()
                host.wait()
                break
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
        if code not in ((0, 3, -signal.SIGKILL) if killed else (0, 3)) and not unborn:
            self._found("left behind", f"exit code {code}")
        self.humans += code == 3
        self._book.write("life over", workers=sorted(victims.workers))
        self._book.look()
        self.findings += self._audit.holes(self._book.lines, self._asides(), self._checkpoints())
        return code

    def _end_all(self) -> None:
        for pid in processes_in(self.folder):
            sent(pid, signal.SIGKILL)

    # -- the audit -----------------------------------------------------------------------------

    def _found(self, kind: str, what: str) -> None:
        self._say(f"FOUND {kind}: {what}")
        self.findings.append(Finding(kind, what))

    def _asides(self) -> list[keeping.Aside]:
        match self.plan.quarantine:
            case "folder":
                return list(keeping.in_folder(self._kept))
            case "s3":
                return list(keeping.in_bucket(self._aws.client("s3"), self._name))
        return list(keeping.in_stream(self._aws.client("kinesis"), f"{self._name}-aside"))

    def _checkpoints(self) -> dict[str, tuple[int, int]]:
        if self.plan.state == "sqlite":
            return keeping.sqlite_checkpoints(self.folder / "state.db", _APPLICATION)
        return keeping.table_checkpoints(self._aws.client("dynamodb"), self._name, _APPLICATION)

    def _judge(self) -> None:
        lines, asides = self._book.lines, self._asides()
        self.findings += self._audit.losses(lines, asides)
        self.findings += self._audit.blame(asides, self._book.struck, self._book.struck_alone)
        self.findings += self._audit.effects(lines)
        self.findings += self._audit.order(lines)
        self.findings += self._audit.reruns(self._book.lives())

    def _clean(self) -> None:
        """The embedded AWS keeps everything in memory, and has many rounds to come."""
        self._book.close()
        kinesis = self._aws.client("kinesis")
        kinesis.delete_stream(StreamName=self._name)
        if self.plan.quarantine == "kinesis":
            kinesis.delete_stream(StreamName=f"{self._name}-aside")
        if self.plan.state == "dynamodb":
            with suppress(Exception):
                self._aws.client("dynamodb").delete_table(TableName=self._name)
