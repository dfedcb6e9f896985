"""Unshared memory (USS) of all that reads 32 shards but the JVM, against bare amazon_kclpy's child a shard.

Ours: `streamheal run --engine kcl` on a real daemon, with host, 2 workers, a spare and 32 stubs. Both
sides' application imports boto3 and makes a client, as applications do.
"""

from __future__ import annotations

import subprocess
import sys
import time

from bench.daemon import initialize
from bench.figures import HERE, Figure
from bench.kcl_rig import EACH, FAST, STREAM, Ground, Ours, descendants, until, uss_bytes

SHARDS, WORKERS = 32, 2
_KCLPY = """
import boto3, runpy
boto3.client("dynamodb", region_name="eu-west-1")
runpy.run_path({child!r}, run_name="__main__")
"""


def kcl_memory(rounds: int) -> list[Figure]:
    theirs, ours = _kclpy_bytes(), _ours_bytes()
    by_kind = ", ".join(f"{kind} {size / 2**20:,.0f}" for kind, size in ours.items())
    total = sum(ours.values())
    detail = f"{total / 2**20:,.0f} MiB ({by_kind}) against {theirs / 2**20:,.0f} MiB for {SHARDS} shards"
    return [Figure("kcl_memory", total / theirs, 0.15, False, detail)]


def _kclpy_bytes() -> int:
    command = [sys.executable, "-c", _KCLPY.format(child=str(HERE / "kclpy_child.py"))]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(SHARDS)]
    try:
        for child in children:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(initialize("s"))
            child.stdin.flush()
            while b"status" not in child.stdout.readline():
                pass
        return sum(uss_bytes(child.pid) for child in children)
    finally:
        for child in children:
            child.kill()
            child.communicate()


def _ours_bytes() -> dict[str, int]:
    """By what they are: host, workers (and the spare), stubs."""
    with Ground(SHARDS) as ground:
        ground.seed(lambda number: "w1")
        for shard in ground.open_shards():
            key = shard["HashKeyRange"]["StartingHashKey"]
            records = [{"Data": b"%.4f" % time.monotonic(), "PartitionKey": "k", "ExplicitHashKey": key}] * 100
            ground.kinesis.put_records(StreamName=STREAM, Records=records)
        options = {"workers": str(WORKERS)}
        with Ours(ground, "w1", FAST, EACH, target="bench.processors:NotingWithBoto3", options=options) as side:
            until("all is done", lambda: len(side.notes()) >= 100 * SHARDS, alive=side.process)
            jvm = side.jvm()
            assert jvm is not None
            stubs = descendants(jvm)
            assert len(stubs) == SHARDS, stubs
            workers = [pid for pid in side.family() if pid not in (side.process.pid, jvm, *stubs)]
            kinds = {"host": [side.process.pid], "workers": workers, "stubs": stubs}
            return {kind: sum(map(uss_bytes, pids)) for kind, pids in kinds.items()}
