"""Rounds of the engine kcl: one fleet stays, because a JVM takes seconds to come up, and rounds pass over it.

A round puts records, strikes host, workers, stubs and daemon, and waits until all it has put is settled and
checkpointed. Seeds of one block of ten share a fleet, which is made of the block, so that one seed alone
finds the same.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.kcl.running import START_S, Fleet, Host
from tests.torture import keeping
from tests.torture.audit import Audit, Finding
from tests.torture.book import At, Book
from tests.torture.ground import Ground
from tests.torture.killing import Victims
from tests.torture.plan import KclPlan, make_kcl, make_plan_of_fleet, tail
from tests.torture.poll import PROCESSOR, QUICK, Outcome, Stopped
from tests.torture.weather import Weather

BLOCK = 10
_SETTLED_S_MAX = 150.0
_HUMAN_S = 60.0  # until one comes who was called
_TRICKLE_S = 0.5
_FIND_S_MAX = 1.5


class KclFleet:
    """A context manager: an application with one host, which is started again whenever it was killed."""

    def __init__(self, block: int, aws: Any, folder: Path, stopped: Callable[[], bool]) -> None:
        self.plan = make_plan_of_fleet(block)
        self.folder, self.book = folder, Book(folder / "book")
        self.audit = Audit(ordering=self.plan.ordering, concurrency=self.plan.concurrency, batches=self.plan.batches)
        self.dice = random.Random(block)
        self.stopped = stopped
        self._aws, self._stack = aws, ExitStack()

    def __enter__(self) -> KclFleet:
        plan = self.plan
        self.weather = self._stack.enter_context(Weather(self._aws.url, plan.seed))
        name = f"torture-kcl-{plan.seed}-{time.time_ns() % 1_000_000_000}"
        self.ground = Ground(
            self._aws, self.folder, name, quarantine=plan.quarantine, state=plan.state, weather=self.weather
        )
        self.ground.make(plan.shards)
        shutil.copy(PROCESSOR, self.folder / "tortured.py")
        self.fleet = Fleet(self.folder, name, self._aws)
        self.fleet.seed(w1=" ".join(map(str, range(plan.shards))))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.fleet.end()
        self.book.close()
        self.ground.clean()
        for table in (name for name in self._aws.client("dynamodb").list_tables()["TableNames"]):
            if table.startswith(self.ground.name):
                self._aws.client("dynamodb").delete_table(TableName=table)
        self._stack.close()

    def start(self) -> None:
        """KCL's own streams of calls go past the weather: its SDK speaks HTTP/2, and what it bears is KCL's matter."""
        plan, url = self.plan, self.weather.url
        self.host: Host = self.fleet.host(
            "w1", "--ordering", plan.ordering, "--quarantine", self.ground.quarantine, *QUICK,
            target=f"tortured:{plan.processor}",
            AWS_ENDPOINT_URL_S3=url,
            AWS_ENDPOINT_URL_DYNAMODB=url,
            TORTURE_BOOK=str(self.book.path),
            TORTURE_WORK_S=str(plan.work_s),
            PYTHONPATH=str(self.folder),
        )  # fmt: skip
        self.book.write("life", self.host.process.pid)
        self.victims = Victims(self.host.process.pid, self.host.folder, 0, self.book, self.dice)

    def checkpoints(self) -> dict[str, At]:
        return keeping.lease_checkpoints(self._aws.client("dynamodb"), self.ground.name)

    def stop(self, *codes: int) -> list[Finding]:
        """SIGTERM: it must end with one of these codes, and leave nothing behind."""
        try:
            code = self.host.stop()
        except Exception as error:  # whatever the wait says
            return [Finding("left behind", f"the host does not end: {error}; of it {self.host.processes()} live")]
        return [] if code in codes else [Finding("left behind", f"exit code {code}")]


class KclRound:
    def __init__(self, seed: int, fleet: KclFleet) -> None:
        self.plan: KclPlan = make_kcl(seed, fleet.plan)
        self.script: list[str] = []
        self.findings: list[Finding] = []
        self.blows: Counter[str] = Counter()
        self._fleet = fleet
        self._dice = random.Random(seed + 1)
        self._began = time.monotonic()
        self._mine: set[At] = set()
        self.humans = 0
        self.last = False  # the fleet's host is stopped in order then, and must end well

    def run(self) -> None:
        fleet = self._fleet
        fleet.audit.excused = 0
        self._say(f"{fleet.plan} {len(self.plan.entries)} entries")
        self._put(self.plan.entries)
        self._suffer()
        fleet.weather.clear()
        if not self._settle():
            self._found("left behind", f"not all is settled after {_SETTLED_S_MAX:.0f} s: {self._left()[:5]}")
        self._say("all is checkpointed")
        self._judge()
        if self.last and not self.findings:
            self.findings += fleet.stop(0)

    def outcome(self) -> Outcome:
        return Outcome(
            "kcl", self.plan.seed, self.findings, self.script, self._fleet.folder, len(self._mine), self.blows,
            self.humans, 0, self._fleet.audit.excused, time.monotonic() - self._began,
        )  # fmt: skip

    def _say(self, text: str) -> None:
        self.script.append(f"{time.monotonic() - self._began:6.2f}  {text}")

    def _found(self, kind: str, what: str) -> None:
        self._say(f"FOUND {kind}: {what}")
        self.findings.append(Finding(kind, what))

    def _put(self, entries: Any) -> None:
        records = self._fleet.ground.put(entries)
        self._fleet.audit.expect(records)
        self._mine |= {record.at for record in records}

    def _suffer(self) -> None:
        fleet = self._fleet
        for blow in self.plan.blows:
            effects = fleet.book.effects + blow.effects
            self._until(lambda effects=effects: bool(blow.effects) and fleet.book.effects >= effects, blow.within_s)  # type: ignore[misc]  # noqa: B023
            if blow.how == "trouble":
                # A start refuses what cannot be written to, and ends with 2.
                self._until(lambda: bool(fleet.host.events("shard_started")), START_S, every_s=0.2)
                what = fleet.ground.trouble(blow, self._dice)
                self.blows[what] += 1
                self._say(f"{what} for {blow.for_s:.1f} s")
            elif self._until(lambda blow=blow: fleet.victims.strike(blow), _FIND_S_MAX):  # type: ignore[misc]
                self.blows[f"{blow.how} {blow.whom}"] += 1
                self._say(f"{blow.how} {blow.whom} {blow.for_s or ''}")
            self._keep_alive()

    def _until(self, condition: Callable[[], bool], within_s: float, every_s: float = 0.01) -> bool:
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            if self._fleet.stopped():
                raise Stopped
            self._fleet.book.look()
            if condition():
                return True
            signal.sigtimedwait([], every_s)
        return False

    def _keep_alive(self) -> None:
        """A host that was killed is started again; one that has ended by itself is a finding."""
        fleet = self._fleet
        struck = next((line for line in reversed(fleet.book.lines) if line.event == "struck"), None)
        if struck is not None and struck.pid == fleet.host.process.pid and struck.rest["how"] == "kill":
            fleet.host.process.wait()
        if (code := fleet.host.process.poll()) is None:
            return
        self._say(f"host {fleet.host.process.pid} ended: {code}")
        if code != -signal.SIGKILL and not fleet.victims.struck_unknowing(code):
            self._found("left behind", f"the host has ended by itself: {code}")
        if not self._until(lambda: not fleet.host.processes(), 20):
            self._found("left behind", f"processes {fleet.host.processes()} outlive their host")
        self._look_for_holes()
        fleet.start()
        self._say(f"host {fleet.host.process.pid}")

    def _settle(self) -> bool:
        """The stream goes on meanwhile: by healthy records the sick are judged."""
        began = time.monotonic()
        while time.monotonic() < began + _SETTLED_S_MAX and not self.findings:
            self._keep_alive()
            if not self.humans and time.monotonic() > began + _HUMAN_S and self._fleet.host.events("human_called"):
                self._start_again()
            if self._left() and not self._sick_left():
                self._say("all who are sick are set aside")
                self._until(lambda: not self._left(), START_S, every_s=0.2)
            if not self._left():
                return True
            self._put(tail(self._dice, self._fleet.plan.shards, each=1))
            self._until(lambda: False, _TRICKLE_S)
        return not self._left()

    def _start_again(self) -> None:
        """As a human does who finds that the host cannot judge a record: too many workers were killed around it."""
        fleet, self.humans = self._fleet, self.humans + 1
        self._say(f"host {fleet.host.process.pid} called a human, and is stopped")
        self.findings += fleet.stop(0, 3)
        fleet.start()

    def _sick_left(self) -> set[At]:
        return (self._fleet.audit.sick & self._mine) - {aside.at for aside in self._fleet.ground.asides()}

    def _left(self) -> list[str]:
        """Of this round, what is not behind a checkpoint yet."""
        fleet, checkpoints = self._fleet, self._fleet.checkpoints()
        records = (fleet.audit.truth[at] for at in self._mine)
        return [
            fleet.audit.say(record.at)
            for record in records
            if record.at > checkpoints.get(record.shard_id, (-1, 0))
        ]  # fmt: skip

    def _look_for_holes(self) -> None:
        fleet = self._fleet
        # In this order: what is behind a checkpoint now was settled before.
        checkpoints = fleet.checkpoints()
        asides = fleet.ground.asides()
        fleet.book.look()
        self.findings += fleet.audit.holes(fleet.book.lines, asides, checkpoints)

    def _judge(self) -> None:
        fleet = self._fleet
        self._look_for_holes()
        audit, lines, asides = fleet.audit, fleet.book.lines, fleet.ground.asides()
        self.findings += audit.losses(lines, asides) if not self.findings else []
        self.findings += audit.blame(asides, fleet.book.struck, fleet.book.struck_alone)
        self.findings += audit.effects(lines)
        self.findings += audit.order(lines)
