"""What one run is made of: settings in; the pool, the state, the store and the runtime out."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import structlog

from streamheal.config.aws import AwsOptions
from streamheal.config.memory import together_bytes
from streamheal.config.settings import Settings, config_hash
from streamheal.core.policy import Policy
from streamheal.engines.base import Engine
from streamheal.errors import AlreadyRunning, StateError, Unavailable, UsageError
from streamheal.quarantine import open as quarantine
from streamheal.quarantine.base import Store
from streamheal.runtime.chronicle import Chronicle
from streamheal.runtime.keeper import Keeper, Shelf
from streamheal.runtime.runtime import Runtime
from streamheal.runtime.sealing import Sealer
from streamheal.state import open as states
from streamheal.state.base import State
from streamheal.state.ledgers import Starts
from streamheal.state.marks import Marks
from streamheal.workers.pool import WorkerPool
from streamheal.workers.port import TargetFacts, WorkerOptions

T = TypeVar("T")

# An endpoint that is only just coming up (a container beside ours) gets so long.
_START_PATIENCE_S = 10.0
_OWN_EVERY_S = 5.0
# Beyond patience: see docs/judging.md.
_HUMAN_S_MIN, _HUMAN_S_MAX = 5.0, 30.0  # last tries alone need their processes started first
_REPLAY_CHECKPOINT_S = 0.5


def policy(settings: Settings, facts: TargetFacts, *, replaying: bool = False) -> Policy:
    """The numbers the core decides by; the processor's own win over the configured."""
    return Policy(
        attempts_max=facts.attempts_max or settings.attempts_max,
        retry_s_min=settings.retry_s_min,
        retry_s_max=settings.retry_s_max,
        patience_s=settings.patience_s,
        human_s=min(_HUMAN_S_MAX, max(_HUMAN_S_MIN, settings.patience_s / 2)),
        checkpoint_s=min(settings.checkpoint_s, _REPLAY_CHECKPOINT_S) if replaying else settings.checkpoint_s,
        shutdown_s=settings.shutdown_s,
        open_records_max=settings.open_records_max,
        open_bytes_max=settings.open_bytes_max,
        replaying=replaying,
        batches=facts.mode == "batch",
    )


def worker_options(settings: Settings, target: str) -> WorkerOptions:
    return WorkerOptions(
        target=target,
        workers=settings.workers,
        ordering=settings.ordering,
        concurrency=settings.concurrency,
        deadline_s=settings.deadline_s,
        memory_each=settings.worker_memory or None,
        memory_together=together_bytes(settings),
    )


def open_state(settings: Settings) -> State:
    return states.open_state(settings.state, application=settings.application, aws=AwsOptions.of(settings))


def open_store(settings: Settings) -> Store:
    """The quarantine, for commands that look at it. A stream's keeps in the state what became of its records."""
    where = settings.state or _only_state()
    state = states.open_state(where, application=settings.application, aws=AwsOptions.of(settings)) if where else None
    return quarantine.open_store(settings.quarantine, state=state, aws=AwsOptions.of(settings))


def _only_state() -> str | None:
    """The state that runs have left in this folder, for commands that were told of no application."""
    found = sorted(Path(".streamheal").glob("*.db"))
    return f"sqlite:{found[0]}" if len(found) == 1 else None


class Parts:
    """One run's parts: opened in the order in which they can fail, given back in the other."""

    def __init__(self, settings: Settings, target: str) -> None:
        AwsOptions.of(settings).export(os.environ)
        self.settings = settings
        self.chronicle = Chronicle(structlog.get_logger("streamheal"))
        self.pool = WorkerPool(worker_options(settings, target), self.chronicle)
        self.state = open_state(settings)
        self.store = quarantine.open_store(settings.quarantine, state=self.state, aws=AwsOptions.of(settings))

    @asynccontextmanager
    async def opened(self, own: str, *, at_once: bool = False) -> AsyncIterator[TargetFacts]:
        """The processor imported, the state ours under the name `own`, the store tried."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.pool.close)
            facts = await self.pool.open()
            stack.callback(self.state.close)
            await _patiently(self.state.check)
            await _patiently(lambda: self.state.own(own, _owner(), at_once=at_once))
            stack.callback(self.state.disown)
            await _patiently(self.store.check)
            yield facts

    def runtime(
        self,
        engine: Engine,
        facts: TargetFacts,
        shelf: Shelf,
        *,
        replaying: bool = False,
        retention_s: float | None = None,
    ) -> Runtime:
        settings = self.settings
        # A replay's starts are no sign of a host that dies again and again at one checkpoint.
        kind = f"{settings.application}#replaying" if replaying else settings.application
        return Runtime(
            engine=engine,
            pool=self.pool,
            policy=policy(settings, facts, replaying=replaying),
            keeper=Keeper(shelf, self.chronicle),
            seal=Sealer(settings.application, facts, config_hash(settings)),
            starts=Starts(self.state, kind, settings.stream or ""),
            marks=Marks(self.state, kind, settings.stream or ""),
            chronicle=self.chronicle,
            until_caught_up=settings.until_caught_up,
            retention_s=retention_s,
            blocked_s=settings.blocked_s,
        )

    async def keep_owning(self) -> None:
        """
        Raises:
            StateError: Another host has taken the application over; it is not for us to go on.
        """
        while True:
            await asyncio.sleep(_OWN_EVERY_S)
            try:
                await asyncio.to_thread(self.state.keep_owning)
            except Unavailable as error:
                self.chronicle.warning("state_unavailable", error=str(error))
            except AlreadyRunning as error:
                raise StateError(self._lost_to_another(error)) from error

    def _lost_to_another(self, error: AlreadyRunning) -> str:
        if self.settings.engine == "kcl":
            return "lost the worker id to another host, which has started under it: give each host its own --worker-id"
        return f"lost the application to another host: {error}"


async def _patiently(call: Callable[[], T]) -> T:
    """At the start an endpoint that refuses is tried for a while; then it is a matter of configuration."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + _START_PATIENCE_S
    while True:
        try:
            return await asyncio.to_thread(call)
        except Unavailable as error:
            if loop.time() >= give_up_at:
                raise UsageError(f"{error} (tried for {_START_PATIENCE_S:.0f} s)") from error
            await asyncio.sleep(0.5)


def _owner() -> str:
    return f"{socket.gethostname()} pid {os.getpid()}"
