"""One life of KCL's MultiLangDaemon: a JVM, started, heard and ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from streamheal import platform
from streamheal.engines.base import Log
from streamheal.engines.kcl.daemon_log import DaemonLog
from streamheal.engines.kcl.heap import jvm_options

_MAIN = "software.amazon.kinesis.multilang.MultiLangDaemon"
_LOGBACK = Path(__file__).with_name("logback.xml")
_LINE_BYTES_MAX = 1 << 20


class Daemon:
    """Attributes:
    log: What it has said so far.
    """

    def __init__(self, process: asyncio.subprocess.Process, log: DaemonLog) -> None:
        self.log = log
        self._process = process
        assert process.stdout is not None
        assert process.stderr is not None
        self._ears = [asyncio.ensure_future(self._hear(stream)) for stream in (process.stdout, process.stderr)]

    @classmethod
    async def start(
        cls, *, java: str, jars: Path, heap_bytes: int, properties: Path, log: Log, troubled: Callable[[], None]
    ) -> Daemon:
        """`troubled` is called once it says what no second try will mend."""
        process = await asyncio.create_subprocess_exec(
            java,
            *jvm_options(heap_bytes),
            "-cp",
            f"{jars}/*",
            _MAIN,
            "--properties-file",
            str(properties),
            "--log-configuration",
            str(_LOGBACK),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES_MAX,
            # Ctrl-C in a terminal reaches the whole group; the daemon is ours to stop.
            start_new_session=True,
            preexec_fn=platform.killed_with_us(),
        )
        return cls(process, DaemonLog(log, troubled))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    async def _hear(self, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await stream.readline()
            except ValueError:
                continue  # longer than any line of a log: asyncio has thrown it away
            if not line:
                return
            self.log.line(line.decode("utf-8", "replace"))

    async def wait(self) -> int:
        """Its exit code, once it is reaped and what it said is read."""
        code = await self._process.wait()
        # Stubs hold the same stderr; they end soon after, but are not waited for.
        await _at_most(asyncio.gather(*self._ears, return_exceptions=True), 1.0)
        return code

    def terminate(self) -> None:
        """Ask it to end: it asks each shard to finish first."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if not self.ended:
                os.kill(self._process.pid, number)


async def _at_most(work: Awaitable[object], seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(work, seconds)
