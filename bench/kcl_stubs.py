"""What a shard costs beside its records: its stub, and what the host does for it while little comes."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import structlog

from bench.daemon import EMPTY, Child, initialize
from bench.figures import Figure
from bench.kcl_rig import cpu_ns, until, uss_bytes
from bench.lines import daemon_line
from bench.played_kcl import stub_command
from streamheal.engines.kcl.doorway import Doorway

_STUBS = 20
_SETTLED_S = 0.1  # it has then done all that it will do


def kcl_stub(rounds: int) -> list[Figure]:
    started, used = zip(*asyncio.run(_stubs()), strict=True)
    ms, mb = [1000 * seconds for seconds in started], [size / 1e6 for size in used]
    return [
        Figure(
            "stub_start_ms", statistics.median(ms), None, False, f"median of {_STUBS}; {min(ms):.0f} to {max(ms):.0f}"
        ),
        Figure("stub_uss_mb", statistics.median(mb), 3.0, False, f"unshared, waiting; {min(mb):.2f} to {max(mb):.2f}"),
    ]


async def _stubs() -> list[tuple[float, int]]:
    """One after another: how long until its descriptors were here, and what it keeps once it waits."""
    arrived: asyncio.Queue[float] = asyncio.Queue()
    found = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as kept:

        def take(peer: object, lines_in: int, lines_out: int) -> None:
            arrived.put_nowait(time.perf_counter())
            kept.callback(peer.close)  # type: ignore[attr-defined]  # a socket
            kept.callback(os.close, lines_in)
            kept.callback(os.close, lines_out)

        doorway = Doorway(Path(folder), take, structlog.get_logger())
        doorway.open()
        for _ in range(_STUBS):
            began = time.perf_counter()
            stub = _start(stub_command(doorway.path))
            kept.callback(stub.communicate)
            took_s = await arrived.get() - began
            await asyncio.sleep(_SETTLED_S)
            found.append((took_s, uss_bytes(stub.pid)))
        doorway.close()
    return found


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


# -- many shards, few records -------------------------------------------------------------------

_A_LINE, _LINES_A_S, _SIZE = 1000, 100, 200
_WARM_S, _SECONDS = 1.0, 5.0


def shards_cost(rounds: int) -> list[Figure]:
    pairs = [(_host_us(64), _host_us(1)) for _ in range(rounds)]
    quotients = [many / one for many, one in pairs]
    many, one = (statistics.median(side) for side in zip(*pairs, strict=True))
    detail = (
        f"{many:.2f} against {one:.2f} CPU-s a million records at {_A_LINE * _LINES_A_S:,}/s, "
        f"an empty batch a second and shard; rounds {min(quotients):.2f} to {max(quotients):.2f}"
    )
    return [Figure("shards_cost", statistics.median(quotients), 1.3, False, detail)]


def _host_us(shards: int) -> float:
    """The host's own CPU a record; workers decode the same records in either case."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        command = [sys.executable, "-m", "bench.pipe_host", "bench.processors:Touch", folder]
        host = stack.enter_context(subprocess.Popen(command, env={**os.environ, "TMPDIR": folder}))
        stack.callback(host.kill)
        until("the doorway is open", (Path(folder) / "stubs").exists)
        children = []
        for number in range(shards):
            children.append(Child(stub_command(Path(folder) / "stubs")))
            stack.callback(children[-1].close)
            children[-1].act(initialize(f"shardId-{number:012}"), "initialize")
        _play(children, _WARM_S)
        before = cpu_ns(host.pid)
        records = _play(children, _SECONDS)
        return (cpu_ns(host.pid) - before) / 1000 / records


def _play(children: list[Child], seconds: float) -> int:
    """Lines at their times, shard after shard, and to each shard an empty batch a second; how many records."""
    lines = [daemon_line(_A_LINE, _SIZE, first=number * _A_LINE) for number in range(4)]
    records, began = 0, time.monotonic()
    for at, child, empty in sorted(_schedule(len(children), seconds)):
        time.sleep(max(0.0, began + at - time.monotonic()))
        if empty:
            children[child].act(EMPTY, "processRecords")
        else:
            children[child].act(lines[records // _A_LINE % len(lines)], "processRecords")
            records += _A_LINE
    return records


def _schedule(shards: int, seconds: float) -> Iterator[tuple[float, int, bool]]:
    for number in range(int(seconds * _LINES_A_S)):
        yield number / _LINES_A_S, number % shards, False
    for number in range(int(seconds * shards)):
        yield number / shards, number % shards, True
