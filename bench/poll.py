"""The poll engine against a bare boto3 loop, and a flood into S3 against its bare put rate."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import hosting
from bench.figures import Figure, ratio

RECORDS, SIZE = 1000, 200
_AWS = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_REGION": "eu-west-1",
}


@contextmanager
def canned() -> Iterator[str]:
    """An endpoint that answers from memory, in a process of its own."""
    command = [sys.executable, "-m", "bench.canned", str(RECORDS), str(SIZE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.communicate("")


def _bare(url: str, calls: int) -> float:
    """What a user would write with boto3 alone: each record's data touched."""
    import boto3

    kinesis = boto3.client("kinesis", endpoint_url=url)
    iterator = kinesis.get_shard_iterator(
        StreamName="bench", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    began = time.perf_counter()
    for _ in range(calls):
        answer = kinesis.get_records(ShardIterator=iterator, Limit=10_000)
        for record in answer["Records"]:
            record["Data"]
        iterator = answer["NextShardIterator"]
    return calls * RECORDS / (time.perf_counter() - began)


class _NoCheckpoints:
    def read_all(self) -> dict[str, Any]:
        return {}

    def write(self, shard_id: str, position: Any) -> None: ...
    def write_ended(self, shard_id: str) -> None: ...
    def begin(self, shard_id: str, at: str) -> None: ...


def _ours(url: str, records: int) -> float:
    from streamheal.engines.pace import Pace
    from streamheal.engines.poll import PollEngine

    async def measure() -> float:
        engine = PollEngine(
            "bench", checkpoints=_NoCheckpoints(), pace=Pace(calls_per_s=float("inf"), bytes_per_s=float("inf"))
        )
        with tempfile.TemporaryDirectory() as folder:
            return await hosting.rate_once_warm(
                "bench.processors:Touch", engine, hosting.FolderStore(Path(folder)), records
            )

    os.environ["AWS_ENDPOINT_URL"] = url
    return asyncio.run(measure())


def poll_vs_boto3(rounds: int) -> list[Figure]:
    os.environ.update(_AWS)
    with canned() as url:
        return [ratio("poll_vs_boto3", 5.0, lambda: _ours(url, 600_000), lambda: _bare(url, 100), rounds)]


def flood_s3(rounds: int) -> list[Figure]:
    """S3 of the embedded AWS: beside its own bare rate of puts, because that is what bounds it."""
    import boto3

    from bench.figures import payload_lines
    from streamheal.local import LocalAws
    from streamheal.quarantine.open import open_store

    os.environ.update(_AWS)
    total = 1_000
    with LocalAws() as url:
        os.environ["AWS_ENDPOINT_URL"] = url
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="bench", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})

        def bare() -> float:
            began = time.perf_counter()
            with ThreadPoolExecutor(16) as pool:
                list(pool.map(lambda n: s3.put_object(Bucket="bench", Key=f"bare/{n}", Body=b"x" * 2000), range(total)))
            return total / (time.perf_counter() - began)

        def ours(number: int) -> float:
            store = open_store(f"s3://bench/round-{number}")
            engine = hosting.MemoryEngine({"shard-0": payload_lines(total, 500, lambda number: None, 1000)})
            outcome = asyncio.run(hosting.host("bench.processors:AllPoison", engine, store))
            assert outcome.quarantined == total
            return total / outcome.took_s

        pairs = [(ours(number), bare()) for number in range(max(1, rounds // 2))]
    mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    value = statistics.median(one / two for one, two in pairs)
    return [Figure("flood_s3_vs_bare_puts", value, None, True, f"{mine:,.0f}/s against {other:,.0f} bare puts/s")]
