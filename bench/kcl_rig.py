"""A daemon of KCL's, with us or with bare amazon_kclpy behind it, on an embedded AWS and a seeded lease table.

Both sides get the same jars, heap, log configuration, properties and leases. Leases that are there, and
owned by the worker that starts, spare the 30 to 100 s in which KCL finds out that there are none.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import streamheal.engines.kcl
from bench.figures import HERE
from streamheal.engines.kcl.heap import jvm_options, usual_heap_bytes
from streamheal.engines.kcl.jars import find_jars, find_java
from streamheal.engines.kcl.properties import Endpoints, daemon_properties
from streamheal.engines.kcl.tables import LEADER
from streamheal.local import LocalAws

STREAM = "bench"
APPLICATION = "bench"
COUNTS, EACH = "BENCH_COUNTS", "BENCH_NOTES"
_WITHIN_S = 90.0
_LOGBACK = Path(streamheal.engines.kcl.__file__).with_name("logback.xml")

# The test profile: KCL's timers, so short that nobody waits for them.
FAST = {
    "idleTimeBetweenReadsInMillis": "200",
    "failoverTimeMillis": "2000",
    "leaseAssignmentIntervalMillis": "1000",
    "shardSyncIntervalMillis": "1",
    "parentShardPollIntervalMillis": "500",
    "listShardsBackoffTimeInMillis": "100",
    "schedulerInitializationBackoffTimeMillis": "100",
    "taskBackoffTimeMillis": "100",
    "workerMetricsReporterFreqInMillis": "1000",
    "inMemoryWorkerMetricsCaptureFrequencyMillis": "500",
    "skipShardSyncAtWorkerInitializationIfLeasesExist": "true",
    "metricsLevel": "NONE",
    "retrievalMode": "POLLING",
    "shutdownGraceMillis": "20000",
}
# As users have them, but for the idle time: it caps a shard at 10,000 records each.
BUSY = {
    "idleTimeBetweenReadsInMillis": "200",
    "maxRecords": "10000",
    "metricsLevel": "NONE",
    "retrievalMode": "POLLING",
}


def until(
    what: str,
    true: Callable[[], object],
    within_s: float = _WITHIN_S,
    every_s: float = 0.02,
    alive: subprocess.Popen[bytes] | None = None,
) -> None:
    give_up_at = time.monotonic() + within_s
    while not true():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"not within {within_s:g} s: {what}")
        if alive is not None and alive.poll() is not None:
            raise RuntimeError(f"{what}: it ended before, with {alive.returncode}")
        time.sleep(every_s)


class Note:
    """What a processor said: when it did something, on which shard, and when what it did was put."""

    def __init__(self, line: str) -> None:
        at, self.shard_id, number = line.split()
        self.at, self.number = float(at), float(number)


class Ground:
    """What both sides stand on: AWS, a stream, and a folder.

    Args:
        kinesis: Another endpoint than the embedded AWS for the stream.
        heap_bytes: Each JVM's; None: what streamheal gives it.
    """

    def __init__(self, shards: int, kinesis: str | None = None, heap_bytes: int | None = None) -> None:
        self._aws = LocalAws()
        self.shards = shards
        self.kinesis_url = kinesis
        self.folder = Path(tempfile.mkdtemp(prefix="streamheal-bench-"))
        self.heap_bytes = heap_bytes or usual_heap_bytes(shards)

    def __enter__(self) -> Ground:
        import boto3

        self._aws.start()
        told = self._aws.environment()
        if self.kinesis_url is not None:
            told["AWS_ENDPOINT_URL_KINESIS"] = self.kinesis_url
        os.environ.update(told)
        self.env = {
            **os.environ,
            "TMPDIR": str(self.folder),
            "NO_COLOR": "1",
        }
        self.kinesis, self.dynamodb = boto3.client("kinesis"), boto3.client("dynamodb")
        if self.kinesis_url is None:
            self.kinesis.create_stream(StreamName=STREAM, ShardCount=self.shards)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._aws.stop()
        os.environ.pop("AWS_ENDPOINT_URL_KINESIS", None)
        if error is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            error.add_note(f"logs are left in {self.folder}")

    @property
    def dynamodb_url(self) -> str:
        return self._aws.url

    def open_shards(self) -> list[dict[str, Any]]:
        found = self.kinesis.list_shards(StreamName=STREAM)["Shards"]
        return [shard for shard in found if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]

    def leader(self) -> str | None:
        """The worker that assigns leases; None: there is none yet."""
        key = {"key": {"S": LEADER}}
        item = self.dynamodb.get_item(TableName=f"{APPLICATION}-CoordinatorState", Key=key).get("Item")
        return None if item is None else str(item["ownerName"]["S"])

    def seed(self, owner: Callable[[int], str]) -> None:
        """A lease table as KCL makes it, each lease owned already."""
        for table in (APPLICATION, f"{APPLICATION}-CoordinatorState", f"{APPLICATION}-WorkerMetricStats"):
            if table in self.dynamodb.list_tables()["TableNames"]:
                self.dynamodb.delete_table(TableName=table)
        self.dynamodb.create_table(
            TableName=APPLICATION,
            KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
            AttributeDefinitions=[
                {"AttributeName": "leaseKey", "AttributeType": "S"},
                {"AttributeName": "leaseOwner", "AttributeType": "S"},
            ],
            BillingMode="PAY_PER_REQUEST",
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "LeaseOwnerToLeaseKeyIndex",
                    "KeySchema": [
                        {"AttributeName": "leaseOwner", "KeyType": "HASH"},
                        {"AttributeName": "leaseKey", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            ],
        )
        for number, shard in enumerate(self.open_shards()):
            lease = {
                "leaseKey": {"S": shard["ShardId"]},
                "leaseOwner": {"S": owner(number)},
                "checkpoint": {"S": "TRIM_HORIZON"},
                "startingHashKey": {"S": shard["HashKeyRange"]["StartingHashKey"]},
                "endingHashKey": {"S": shard["HashKeyRange"]["EndingHashKey"]},
                **{
                    name: {"N": "0"}
                    for name in ("leaseCounter", "checkpointSubSequenceNumber", "ownerSwitchesSinceCheckpoint")
                },
            }
            self.dynamodb.put_item(TableName=APPLICATION, Item=lease)


@dataclass(frozen=True)
class Spent:
    """CPU seconds up to now, by whom."""

    jvm_s: float
    rest_s: float


class Side:
    """One host of either kind, once started; killed at the end of the `with`.

    Args:
        notes: What processors are to say: `COUNTS` or `EACH`.
    """

    def __init__(self, ground: Ground, worker_id: str, properties: Mapping[str, str], notes: str) -> None:
        self.ground, self.worker_id, self._asked = ground, worker_id, notes
        self._notes = ground.folder / f"{type(self).__name__}-{worker_id}.notes"
        self._notes.write_text("")
        self._log = (ground.folder / f"{type(self).__name__}-{worker_id}.log").open("ab")
        told = "".join(f"{key} = {value}\n" for key, value in properties.items())
        self._file = ground.folder / f"{type(self).__name__}-{worker_id}.properties"
        self.process = self._start(self._file, told, properties)

    def _start(self, file: Path, told: str, properties: Mapping[str, str]) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def _popen(self, command: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            env={**self.ground.env, self._asked: str(self._notes)},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        """At once: nothing that is measured ends here."""
        family = self.family()
        for pid in (self.process.pid, *family):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        until("the family is gone", lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))
        self._log.close()

    def terminate(self) -> None:
        self.process.terminate()

    def notes(self) -> list[Note]:
        with self._notes.open() as file:
            return [Note(line) for line in file if line.endswith("\n")]

    def family(self) -> list[int]:
        return [self.process.pid, *descendants(self.process.pid)]

    def jvm(self) -> int | None:
        return next((pid for pid in self.family() if _is_jvm(pid)), None)

    def spent(self) -> Spent:
        by_pid = {pid: cpu_s(pid) for pid in self.family()}
        jvm = self.jvm()
        return Spent(by_pid.get(jvm, 0.0) if jvm else 0.0, sum(s for pid, s in by_pid.items() if pid != jvm))

    def records_done(self) -> int:
        raise NotImplementedError


class Ours(Side):
    """`streamheal run --engine kcl`, as users start it; `target` and `options` are others than usual."""

    def __init__(
        self,
        ground: Ground,
        worker_id: str,
        properties: Mapping[str, str],
        notes: str,
        *,
        target: str = "",
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._target = target or f"bench.processors:{'Noting' if notes == EACH else 'Touch'}"
        self._options = options or {}
        super().__init__(ground, worker_id, properties, notes)

    def _start(self, file: Path, told: str, properties: Mapping[str, str]) -> subprocess.Popen[bytes]:
        file.write_text(told)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        options = {
            "stream": STREAM,
            "application": APPLICATION,
            "engine": "kcl",
            "kcl-properties": str(file),
            "worker-id": self.worker_id,
            "quarantine": str(self.ground.folder / "quarantine"),
            "http": f"127.0.0.1:{self._port}",
            "kcl-heap": f"{self.ground.heap_bytes >> 20}MiB",
            **self._options,
        }
        flags = [word for name, value in options.items() for word in (f"--{name}", value)]
        return self._popen([sys.executable, "-m", "streamheal", "run", self._target, *flags])

    def records_done(self) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return 0  # not up yet
        return int(
            sum(float(number) for number in re.findall(r"^streamheal_records_done_total{.*} (\S+)$", text, re.M))
        )


class Bare(Side):
    """The daemon alone, with a child of amazon_kclpy's for every shard."""

    def _start(self, file: Path, told: str, properties: Mapping[str, str]) -> subprocess.Popen[bytes]:
        ours = daemon_properties(
            executable=f"{sys.executable} {HERE / 'kclpy_child.py'}",
            stream=STREAM,
            application=APPLICATION,
            worker_id=self.worker_id,
            start="TRIM_HORIZON",
            region="us-east-1",
            endpoints=Endpoints(self.ground.kinesis_url or self.ground.dynamodb_url, self.ground.dynamodb_url),
            shutdown_s=10.0,
            handed_on=dict(properties),
        )
        # Ours alone asks for empty batches; amazon_kclpy's users do not have them.
        file.write_text(ours + "callProcessRecordsEvenForEmptyRecordList = false\n")
        command = [
            find_java(),
            *jvm_options(self.ground.heap_bytes),
            "-cp",
            f"{find_jars().folder}/*",
            "software.amazon.kinesis.multilang.MultiLangDaemon",
            "--properties-file",
            str(file),
            "--log-configuration",
            str(_LOGBACK),
        ]
        return self._popen(command)

    def records_done(self) -> int:
        """Children say after each batch how many they have done."""
        return int(sum(note.number for note in self.notes()))


def descendants(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []  # it has just ended
    return [found for child in children for found in (child, *descendants(child))]


def _is_jvm(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "java\n"
    except OSError:
        return False


_TICKS_A_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Its own and that of the children that it has reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS_A_S


def cpu_ns(pid: int) -> int:
    """Its own, as the scheduler counts it: /proc/PID/stat counts in hundredths of a second."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def uss_bytes(pid: int) -> int:
    """What would be free if this process alone ended."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    private = [line.split() for line in rollup.splitlines() if line.startswith(("Private_Clean", "Private_Dirty"))]
    return 1024 * sum(int(fields[1]) for fields in private)


@contextmanager
def canned(shards: int, records: int, size: int) -> Iterator[str]:
    """A Kinesis that answers from memory, in a process of its own; its address."""
    command = [sys.executable, "-m", "bench.canned_h2", str(shards), str(records), str(size)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.communicate("")
