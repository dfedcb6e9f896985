"""Unshared memory (USS) of one host for 32 shards, against one amazon_kclpy child a shard.

Ours: host, 2 workers, a spare, and 32 stubs. A stub here is what the KCL engine will leave of
its child once its pipes are passed on: a process that only waits (`cat` on a socket).
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import hosting
from bench.figures import HERE, Figure
from bench.lines import daemon_line
from bench.memory_engine import MemoryEngine

SHARDS, WORKERS = 32, 2
_KCLPY = """
import boto3, runpy
boto3.client("dynamodb", region_name="eu-west-1")
runpy.run_path({child!r}, run_name="__main__")
"""


def uss_bytes(pid: int) -> int:
    """What would be free if this process alone ended."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    private = [line.split() for line in rollup.splitlines() if line.startswith(("Private_Clean", "Private_Dirty"))]
    return 1024 * sum(int(fields[1]) for fields in private)


def memory(rounds: int) -> list[Figure]:
    theirs, ours = _kclpy_bytes(), _ours_bytes()
    detail = f"{ours / 2**20:,.0f} MiB against {theirs / 2**20:,.0f} MiB for {SHARDS} shards"
    return [Figure("memory", ours / theirs, 0.15, False, detail)]


def _kclpy_bytes() -> int:
    command = [sys.executable, "-c", _KCLPY.format(child=str(HERE / "kclpy_child.py"))]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(SHARDS)]
    try:
        for child in children:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(
                b'{"action":"initialize","shardId":"s","sequenceNumber":"TRIM_HORIZON","subSequenceNumber":0}\n'
            )
            child.stdin.flush()
            while b"status" not in child.stdout.readline():
                pass
        return sum(uss_bytes(child.pid) for child in children)
    finally:
        for child in children:
            child.kill()
            child.communicate()


def _stub() -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, its = socket.socketpair()
    with its:
        return subprocess.Popen(["cat"], stdin=its.fileno()), ours


def _ours_bytes() -> int:
    """A child of ours runs the host, so that this process's own memory is not counted."""
    stubs = [_stub() for _ in range(SHARDS)]
    host = subprocess.Popen([sys.executable, "-m", "bench.memory"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert host.stdout is not None
        assert host.stdout.readline() == b"settled\n"
        family = [host.pid, *_descendants(host.pid)]
        return sum(map(uss_bytes, family)) + sum(uss_bytes(stub.pid) for stub, _ in stubs)
    finally:
        host.communicate(b"")
        for stub, end in stubs:
            end.close()
            stub.wait()


def _descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in map(int, children) for found in (child, *_descendants(child))]


async def _host() -> None:
    """32 shards, each given its lines; then wait with everything up until standard input ends."""
    line = daemon_line(100, 200)
    lines = {f"shard-{number:02}": iter([line, line]) for number in range(SHARDS)}
    engine = MemoryEngine(lines)
    loop = asyncio.get_running_loop()
    settled, ended = asyncio.Event(), asyncio.Event()
    loop.add_reader(0, ended.set)
    engine.when_all_brought(settled.set)

    async def say() -> None:
        await settled.wait()
        print("settled", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        saying = asyncio.create_task(say())
        await hosting.host(
            "bench.processors:ImportsBoto3", engine, hosting.FolderStore(Path(folder)), workers=WORKERS, until=ended
        )
        await saying


if __name__ == "__main__":
    asyncio.run(_host())
