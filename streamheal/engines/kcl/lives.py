"""The daemon's lives: it is started, seen through to its death, and started again.

    start ──► daemon.wait ──► its shards are lost ──► its leader's lock is released ──► a pause ──┐
      ▲                                                                                             │
      └─────────────────────────────────────────────────────────────────────────────────────────────┘

Only we can know at once that our daemon is dead: a fleet would wait two minutes for its lock to run out.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from streamheal.config import aws
from streamheal.engines.base import Log
from streamheal.engines.kcl.daemon import Daemon
from streamheal.engines.kcl.jars import Jars
from streamheal.engines.kcl.tables import Tables
from streamheal.engines.pace import Backoff
from streamheal.engines.threads import Threads
from streamheal.errors import UsageError

# A daemon that has lived so long began well: its next death is a new matter.
_LIVED_WELL_S = 60.0
_RESTART_S_MIN, _RESTART_S_MAX = 0.2, 30.0
_STILLBORN_MAX = 3
# Once nothing of us depends on it: its own end takes 3 to 5 s (KCL 3.1.3).
_END_WITHIN_S = 5.0
# Then the lock runs out by itself, or is released by the next life of this host.
_RELEASED_WITHIN_S = 3.0
# A pipe may end because its daemon has died, which is known a moment later.
_DEATH_IS_TOLD_S = 0.2


class Body(NamedTuple):
    """What a daemon is started with."""

    java: str
    jars: Jars
    heap_bytes: int
    properties: Path
    worker_id: str


class Lives:
    """One daemon at a time.

    Args:
        died: Called after each death, once nothing of that daemon is to be heard any more.
        has_read: Whether any daemon has ever brought a shard: until then, and until one has lived well without
            (others read every shard), what is wrong is configuration.
        still_there: Raises if what the daemon complains of has ended the run.
    """

    def __init__(
        self,
        body: Body,
        tables: Tables,
        threads: Threads,
        log: Log,
        *,
        died: Callable[[], None],
        has_read: Callable[[], bool],
        still_there: Callable[[], Awaitable[bool]],
    ) -> None:
        self._body, self._tables, self._threads, self._log = body, tables, threads, log
        self._died, self._has_read, self._still_there = died, has_read, still_there
        self._daemon: Daemon | None = None
        self._ending = False
        self._has_lived_well = False

    async def live(self) -> None:
        """Until cancelled.

        Raises:
            UsageError: A daemon says that the configuration is wrong, or none comes up.
        """
        loop = asyncio.get_running_loop()
        backoff, stillborn = Backoff(_RESTART_S_MIN, _RESTART_S_MAX), 0
        await self._release_leader()  # of an earlier life that was killed with its host
        while True:
            began = loop.time()
            how, said, started = await self._life()
            lived_s = loop.time() - began
            self._died()
            await self._release_leader()
            stillborn = 0 if started else stillborn + 1
            if stillborn >= _STILLBORN_MAX and not self._has_worked:
                raise UsageError(f"KCL's daemon ends as soon as it starts ({how}): {said}")
            if lived_s >= _LIVED_WELL_S:
                backoff = Backoff(_RESTART_S_MIN, _RESTART_S_MAX)
            wait_s = backoff.wait_s(random.random())
            self._log.warning("daemon_died", how=how, lived_s=round(lived_s, 1), again_in_s=round(wait_s, 1), said=said)
            await asyncio.sleep(wait_s)

    async def _life(self) -> tuple[str, str, bool]:
        """How it ended, what it said last, and whether it had come up."""
        try:
            daemon, troubled = await self._start()
        except OSError as error:
            # Its Java is being replaced, or there is no memory for one more process just now.
            return f"{self._body.java} cannot be started", error.strerror or str(error), False
        how = _ended(await self._see_it_through(daemon, troubled))
        return how, daemon.log.said, daemon.log.started

    @property
    def _has_worked(self) -> bool:
        return self._has_read() or self._has_lived_well

    async def _start(self) -> tuple[Daemon, asyncio.Event]:
        body, troubled = self._body, asyncio.Event()
        daemon = self._daemon = await Daemon.start(
            java=body.java,
            jars=body.jars.folder,
            heap_bytes=body.heap_bytes,
            properties=body.properties,
            log=self._log,
            troubled=troubled.set,
        )
        self._log.info(
            "daemon_started",
            pid=daemon.pid,
            kcl=body.jars.version,
            worker_id=body.worker_id,
            heap_mib=body.heap_bytes >> 20,
            properties=str(body.properties),
        )
        return daemon, troubled

    async def _see_it_through(self, daemon: Daemon, in_trouble: asyncio.Event) -> int:
        """Its exit code, once it has died."""
        ended = asyncio.ensure_future(daemon.wait())
        troubled = asyncio.ensure_future(in_trouble.wait())
        try:
            await asyncio.wait((ended, troubled), timeout=_LIVED_WELL_S, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done() and not troubled.done():
                self._has_lived_well = True
                await asyncio.wait((ended, troubled), return_when=asyncio.FIRST_COMPLETED)
            if troubled.done():
                if not self._has_worked:
                    raise UsageError(f"the engine kcl cannot start: {daemon.log.trouble}")
                # Once running it is waited out: whoever took a permission away may give it back.
                await self._still_there()
            return await ended
        finally:
            for task in (ended, troubled):
                task.cancel()

    async def _release_leader(self) -> None:
        try:
            if await self._threads.call(lambda: self._tables.release_leader(self._body.worker_id)):
                self._log.info("leader_released", worker_id=self._body.worker_id)
        except (ClientError, BotoCoreError) as error:
            told = aws.explain(error, "release the leader's lock of a dead daemon")
            self._log.warning("leader_not_released", error=str(told))

    def pipe_broke(self, shard_id: str, why: str) -> None:
        """A pipe has ended before its time: unless the daemon is dead, it has lost a child, and is to die."""
        if self._daemon is not None:
            asyncio.get_running_loop().call_later(_DEATH_IS_TOLD_S, self._broke, self._daemon, shard_id, why)

    def _broke(self, daemon: Daemon, shard_id: str, why: str) -> None:
        if not daemon.ended and not self._ending:
            # It ends for a lost child anyway, but only when records come, and after its whole grace.
            self._log.warning("pipe_broke", shard_id=shard_id or None, why=why)
            daemon.kill()

    def ask_to_end(self) -> None:
        """It asks each shard to finish; pipes have to answer it meanwhile."""
        self._ending = True
        if self._daemon is not None:
            self._daemon.terminate()

    async def end(self, futile: asyncio.Event) -> None:
        """Nothing depends on it any more: it may end by itself for a while, or until that is `futile`."""
        self.ask_to_end()
        daemon = self._daemon
        if daemon is None:
            return
        if not daemon.ended:
            over, hurry = asyncio.ensure_future(daemon.wait()), asyncio.ensure_future(futile.wait())
            await asyncio.wait((over, hurry), timeout=_END_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
            daemon.kill()
            self._log.info("daemon_ended", how=_ended(await over))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._release_leader(), _RELEASED_WITHIN_S)


def _ended(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
