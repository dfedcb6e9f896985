"""Runs hosts of the engine kcl as users do: on machines of their own, over one stream and one lease table."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from aws_kinesis_agg.aggregator import RecordAggregator

from tests.whole.running import Site, processes_in, wait_until

FAST = Path(__file__).with_name("fast.properties")
_SHOP = Path(__file__).parent.parent / "whole" / "shop.py"

# A daemon starts in 5 s on an idle machine; this one may be busy.
START_S = 90.0


class Host:
    """One `streamheal run`, started in a folder of its own as on a machine of its own."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.process = process

    def events(self, name: str) -> list[dict[str, Any]]:
        """What its log says under this name, oldest first."""
        lines = (self.folder / "log").read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in found if event["event"] == name]

    def wait_for(self, name: str, times: int = 1, timeout_s: float = START_S) -> None:
        wait_until(lambda: len(self.events(name)) >= times or self.process.poll() is not None, timeout_s)
        assert len(self.events(name)) >= times, (self.folder / "log").read_text()

    def reads(self, *shard_ids: str) -> None:
        """Wait until it has started these shards."""
        wait_until(lambda: set(shard_ids) <= {event["shard_id"] for event in self.events("shard_started")}, START_S)

    @property
    def daemon(self) -> int:
        pid: int = self.events("daemon_started")[-1]["pid"]
        return pid

    def stubs(self) -> list[int]:
        """They have become shells, which wait for the host's word."""
        return [pid for pid in self.processes() if _command(pid).startswith(b"sh\0-c\0read")]

    def processes(self) -> list[int]:
        return processes_in(self.folder)

    def stop(self, within_s: float = 40.0) -> int:
        """SIGTERM, and its exit code; nothing of it is left then."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(within_s)
        wait_until(lambda: not self.processes())
        return code

    def kill(self) -> None:
        """kill -9, and wait until all that was its is gone."""
        self.process.kill()
        self.process.wait()
        wait_until(lambda: not self.processes())


class Fleet(Site):
    """A stream, the application that reads it, and that application's hosts.

    The application is called like the stream, so that tests may share one AWS.
    """

    def __init__(self, folder: Path, stream: str, aws: Any) -> None:
        super().__init__(folder, stream, aws.environment())
        self.application = stream
        self.kinesis = aws.client("kinesis")
        self.dynamodb = aws.client("dynamodb")
        self.hosts: list[Host] = []

    def run_arguments(self, target: str = "shop:Shop", *more: str) -> list[str]:
        kcl = ["--kcl-properties", str(FAST), "--application", self.application, "--from", "TRIM_HORIZON"]
        return super().run_arguments(
            target, "--engine", "kcl", *kcl, "--quarantine", str(self.folder / "quarantine"), *more
        )

    def quarantined(self, *arguments: str) -> list[dict[str, Any]]:
        return super().quarantined("--application", self.application, *arguments)

    def host(self, worker_id: str = "w1", *more: str, target: str = "shop:Shop", **env: str) -> Host:
        folder = self.folder / f"{worker_id}.{len(self.hosts)}"
        folder.mkdir()
        (folder / "shop.py").write_text(_SHOP.read_text())
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "streamheal", *self.run_arguments(target, "--worker-id", worker_id, *more)],
                cwd=folder,
                env={**self.env, **env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self.hosts.append(Host(folder, process))
        return self.hosts[-1]

    def effects_by_process(self) -> list[str]:
        """For each effect, the id of the process that it happened in."""
        found = self.folder / "effects"
        return [line.split()[2] for line in found.read_text().splitlines()] if found.exists() else []

    def set_aside(self) -> set[tuple[str, int]]:
        """Sequence and sub-sequence numbers of what is in quarantine at this moment, read from its folder."""
        found = [json.loads(path.read_text()) for path in (self.folder / "quarantine").rglob("*.json")]
        return {(one["sequence_number"], one["sub_sequence_number"]) for one in found}

    def end(self) -> None:
        """Whatever a failed test has left running."""
        for host in self.hosts:
            if host.process.poll() is None:
                host.process.kill()
                host.process.wait()
        wait_until(lambda: not any(host.processes() for host in self.hosts))

    # -- its stream ---------------------------------------------------------------------------

    def shards(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.kinesis.list_shards(StreamName=self.stream)["Shards"]
        return found

    def put(self, entries: list[dict[str, Any]]) -> list[tuple[str, str]]:
        """Shard and sequence number of each."""
        found = []
        for first in range(0, len(entries), 500):
            answer = self.kinesis.put_records(StreamName=self.stream, Records=entries[first : first + 500])
            assert answer["FailedRecordCount"] == 0
            found += [(record["ShardId"], record["SequenceNumber"]) for record in answer["Records"]]
        return found

    def split(self, shard_id: str) -> list[str]:
        """In the middle. Its children."""
        (shard,) = [one for one in self.shards() if one["ShardId"] == shard_id]
        low, high = (int(shard["HashKeyRange"][f"{end}HashKey"]) for end in ("Starting", "Ending"))
        self.kinesis.split_shard(
            StreamName=self.stream, ShardToSplit=shard_id, NewStartingHashKey=str((low + high) // 2)
        )
        return self._children(shard_id, 2)

    def merge(self, one: str, other: str) -> str:
        self.kinesis.merge_shards(StreamName=self.stream, ShardToMerge=one, AdjacentShardToMerge=other)
        (child,) = self._children(one, 1)
        return child

    def _children(self, shard_id: str, count: int) -> list[str]:
        def children() -> list[str]:
            return [
                one["ShardId"]
                for one in self.shards()
                if shard_id in (one.get("ParentShardId"), one.get("AdjacentParentShardId"))
            ]

        wait_until(lambda: len(children()) == count)
        return children()

    # -- KCL's lease table -----------------------------------------------------------------------

    def seed(self, **owners: str) -> None:
        """A lease for every shard, as KCL makes them, so that a daemon starts in 6 s instead of 30 to 100.

        `owners`: by worker id, which of the shards are its: `seed(w1="0 2", w2="1")`. Whoever launches under
        that name has them at once.
        """
        self.dynamodb.create_table(
            TableName=self.application,
            KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("leaseKey", "leaseOwner")],
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
        owner_of = {index: owner for owner, indices in owners.items() for index in indices.split()}
        for index, shard in enumerate(self.shards()):
            lease = {
                "leaseKey": {"S": shard["ShardId"]},
                "leaseCounter": {"N": "0"},
                "checkpoint": {"S": "TRIM_HORIZON"},
                "checkpointSubSequenceNumber": {"N": "0"},
                "ownerSwitchesSinceCheckpoint": {"N": "0"},
                "startingHashKey": {"S": shard["HashKeyRange"]["StartingHashKey"]},
                "endingHashKey": {"S": shard["HashKeyRange"]["EndingHashKey"]},
                "leaseOwner": {"S": owner_of[str(index)]},
            }
            self.dynamodb.put_item(TableName=self.application, Item=lease)

    def leases(self) -> dict[str, dict[str, str]]:
        """By shard, each lease's attributes as text."""
        items = self.dynamodb.scan(TableName=self.application, ConsistentRead=True)["Items"]
        return {
            item["leaseKey"]["S"]: {name: str(next(iter(value.values()))) for name, value in item.items()}
            for item in items
            if "checkpoint" in item
        }

    def owners(self) -> dict[str, str | None]:
        """Who has each shard that has not ended."""
        return {
            shard_id: lease.get("leaseOwner")
            for shard_id, lease in self.leases().items()
            if lease["checkpoint"] != "SHARD_END"
        }

    def ended(self, shard_id: str) -> bool:
        return self.leases().get(shard_id, {}).get("checkpoint") == "SHARD_END"

    def leader(self) -> str | None:
        """The worker id of the daemon that leads, as KCL 3.1 keeps it."""
        found = self.dynamodb.get_item(
            TableName=f"{self.application}-CoordinatorState", Key={"key": {"S": "Leader"}}, ConsistentRead=True
        ).get("Item")
        return None if found is None else str(found["ownerName"]["S"])


def packed(
    numbers: Iterable[int], do: Callable[[int], str] = lambda number: "fine", key: str = "packed"
) -> list[dict[str, Any]]:
    """One PutRecords entry that holds all these orders of one customer, as the Kinesis Producer Library packs them."""
    packing = RecordAggregator()
    for number in numbers:
        packing.add_user_record(key, json.dumps({"n": number, "do": do(number)}))
    _, _, data = packing.clear_and_get().get_contents()
    return [{"PartitionKey": key, "Data": data}]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
