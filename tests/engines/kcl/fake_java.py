"""A `java` that behaves as KCL's daemon does towards its host: no JVM, no leases, two shards of records.

    java -Xmx… -cp JARS MAIN --properties-file FILE …

It starts the children that FILE names, gives each a batch now and then, checkpoints nowhere, and does what the
file PLAN says, a word a life: `live`, `die` (once its first batches are answered), `stillborn`, `denied`,
`spare` (has no shard, and is denied something after a while), `again` (asked to end, hands its shards out once
more).
What it sees is appended to TOLD.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import javaproperties

HERE = Path(os.environ["FAKE_JAVA"])
BATCHES = 3


def told(what: str) -> None:
    with (HERE / "told").open("a") as file:
        file.write(f"{what}\n")


def log(level: str, text: str) -> None:
    print(f"{level}\tFake\t-\t{text}\t", flush=True)


class Child:
    def __init__(self, executable: str, shard: int) -> None:
        self.shard_id = f"shardId-{shard:012d}"
        self.process = subprocess.Popen(executable.split(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.sequence = 0

    def act(self, action: str, **fields: Any) -> None:
        self._write({"action": action, **fields})
        while True:
            said = self._read()
            if said["action"] == "checkpoint":
                told(f"checkpoint {self.shard_id} {said['sequenceNumber']}")
                self._write({**said, "error": None})
            elif said["action"] == "status":
                assert said["responseFor"] == action
                return

    def batch(self) -> None:
        self.sequence += 1
        record = {
            "data": "e30=", "partitionKey": "key", "sequenceNumber": str(self.sequence), "subSequenceNumber": 0,
            "approximateArrivalTimestamp": 1_700_000_000_000, "action": "record",
        }  # fmt: skip
        self.act("processRecords", records=[record] if self.sequence <= BATCHES else [], millisBehindLatest=0)

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.read()
        told(f"child {self.shard_id} exit {self.process.wait()}")

    def _write(self, said: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(said, separators=(",", ":")).encode() + b"\n")
        self.process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            if line.strip():
                found: dict[str, Any] = json.loads(line)
                return found
        told(f"child {self.shard_id} closed its output")
        log("ERROR", f"Reached end of STDIN of child process for shard {self.shard_id}")
        # As System.exit in a shard's thread: the whole grace is spent.
        time.sleep(600)
        raise AssertionError


def children(executable: str) -> list[Child]:
    found = [Child(executable, shard) for shard in range(2)]
    for child in found:
        child.act("initialize", shardId=child.shard_id, sequenceNumber="TRIM_HORIZON", subSequenceNumber=0)
    return found


def main() -> None:
    if "-version" in sys.argv:
        print('openjdk version "17.0.1" 2021-10-19', file=sys.stderr)
        return
    with open(sys.argv[sys.argv.index("--properties-file") + 1], encoding="iso-8859-1") as file:
        properties = dict(javaproperties.load(file))
    lives = HERE / "lives"
    life = int(lives.read_text()) if lives.exists() else 0
    lives.write_text(str(life + 1))
    plan = (HERE / "plan").read_text().split()
    what = plan[min(life, len(plan) - 1)]
    told(f"life {what} {os.getpid()}")
    if what == "stillborn":
        log("ERROR", "nothing works today")
        sys.exit(1)
    if what in ("denied", "spare"):
        time.sleep(1 if what == "spare" else 0)
        log("ERROR", "User: arn:aws:iam::1:user/x is not authorized to perform: dynamodb:CreateTable")
        time.sleep(600)
    asked_to_end = False

    def end(*_: object) -> None:
        nonlocal asked_to_end
        asked_to_end = True

    signal.signal(signal.SIGTERM, end)
    log("INFO", "Initialization complete. Starting worker loop.")
    ours = children(properties["executableName"])
    while not asked_to_end:
        for child in ours:
            child.batch()
        if what == "die" and all(child.sequence >= BATCHES for child in ours):
            os._exit(1)
        time.sleep(0.02)
    for child in ours:
        child.act("shutdownRequested")
        child.act("leaseLost")
        child.end()
    if what == "again":
        ours = children(properties["executableName"])
        time.sleep(600)
    sys.exit(143)


main()
