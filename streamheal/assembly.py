"""Wires the parts together, and nothing else does: settings in, a running host out.

run     PollEngine, KclEngine ─┐
                               ├─► Runtime ─► WorkerPool, Keeper ─► Store
replay  ReplayEngine ──────────┘                            (a replay: ReplayDesk)
"""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import structlog
from rich.console import Console

from streamheal.attempts import utc_text
from streamheal.audit.audit import Audit, AuditOptions
from streamheal.config.aws import AwsOptions, client
from streamheal.config.load import Loaded
from streamheal.config.memory import together_bytes
from streamheal.config.replaying import ReplayOptions
from streamheal.config.settings import Settings, config_hash, for_application
from streamheal.core.policy import Policy
from streamheal.engines.base import Engine, StreamEngine
from streamheal.engines.poll import PollEngine
from streamheal.engines.replay import ReplayEngine
from streamheal.errors import AlreadyRunning, StateError, Unavailable, UsageError
from streamheal.people.listing import print_list
from streamheal.people.live import LiveView
from streamheal.people.proof import report
from streamheal.quarantine import open as quarantine
from streamheal.quarantine.base import Selection, Store
from streamheal.runtime.chronicle import Chronicle
from streamheal.runtime.desk import ReplayDesk
from streamheal.runtime.driving import DONE, NEEDS_HUMAN, drive, stoppable
from streamheal.runtime.keeper import Keeper, Shelf
from streamheal.runtime.replaying import Group, freeze, groups, refuse_many_for_one_payload
from streamheal.runtime.runtime import Runtime
from streamheal.runtime.sealing import Sealer
from streamheal.state import open as states
from streamheal.state.base import State
from streamheal.state.ledgers import Checkpoints, ReplayLedger, Starts
from streamheal.state.marks import Marks
from streamheal.web.emf import emitting
from streamheal.web.server import serving
from streamheal.workers.pool import WorkerPool
from streamheal.workers.port import TargetFacts, WorkerOptions

T = TypeVar("T")

# An endpoint that is only just coming up (a container beside ours) gets so long.
_START_PATIENCE_S = 10.0
_OWN_EVERY_S = 5.0
# Beyond patience: see docs/judging.md.
_HUMAN_S_MIN, _HUMAN_S_MAX = 5.0, 30.0  # last tries alone need their processes started first
_REPLAY_CHECKPOINT_S = 0.5
_DEMO_STREAM, _DEMO_APPLICATION = "orders", "demo"


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


async def _drive(parts: Parts, runtime: Runtime, title: str, noun: str = "record") -> int:
    """Run it, with the live view where somebody is there to see it."""
    with LiveView(runtime.figures, Console(stderr=True), title=title, noun=noun) as view:
        parts.chronicle.listen(view.event)
        return await drive(runtime, parts.keep_owning(), view.keep_fresh())


# -- streamheal run ------------------------------------------------------------------------


def run(loaded: Loaded) -> int:
    """Returns the exit code; wrong usage is raised."""
    return stoppable(run_stream(loaded.settings, kcl=loaded.kcl))


async def run_stream(
    settings: Settings,
    *,
    kcl: Mapping[str, str] | None = None,
    title: str | None = None,
    noun: str = "record",
    look: Callable[[Runtime], None] | None = None,
) -> int:
    """Read a stream. `kcl`: properties that are handed on to KCL. `look` is shown the runtime at the end."""
    assert settings.target is not None
    assert settings.stream is not None
    if urlsplit(settings.quarantine)[:2] == ("kinesis", settings.stream):
        raise UsageError(
            f"--quarantine {settings.quarantine} is the stream that is read: expected another one, "
            "or envelopes would be read as records"
        )
    parts = Parts(settings, settings.target)
    engine, own = _engine(parts, kcl)
    try:
        async with parts.opened(own, at_once=settings.engine == "kcl") as facts:
            await engine.open()
            runtime = parts.runtime(engine, facts, parts.store, retention_s=engine.retention_s)
            async with (
                serving(settings.http_address, runtime),
                emitting(settings.emf, settings.application, settings.stream, runtime),
            ):
                said = title or f"streamheal run   stream {settings.stream} · application {settings.application}"
                code = await _drive(parts, runtime, said, noun)
                if look is not None:
                    look(runtime)
                return code
    finally:
        await engine.close()


def _engine(parts: Parts, handed_on: Mapping[str, str] | None) -> tuple[StreamEngine, str]:
    """The engine, and what is owned while it runs: the application, or one worker's name in it."""
    settings = parts.settings
    assert settings.stream is not None
    options = AwsOptions.of(settings)
    if settings.engine == "poll":
        checkpoints = Checkpoints(parts.state, settings.application, settings.stream)
        poll = PollEngine(
            settings.stream, checkpoints=checkpoints, start_at=settings.start, aws=options, log=parts.chronicle
        )
        return poll, settings.application
    from streamheal.engines.kcl.engine import KclEngine

    kcl = KclEngine(
        settings.stream,
        application=settings.application,
        worker_id=settings.worker_id,
        start_at=settings.start,
        shutdown_s=settings.shutdown_s,
        heap_bytes=settings.kcl_heap,
        handed_on=handed_on,
        until_caught_up=settings.until_caught_up,
        aws=options,
        log=parts.chronicle,
    )
    return kcl, f"{settings.application} worker {kcl.worker_id}"


# -- streamheal replay -----------------------------------------------------------------------


def replay(loaded: Loaded, selection: Selection, options: ReplayOptions) -> int:
    """Records of several processors or streams are replayed one group after another."""
    store = open_store(loaded.settings)
    say = Console(stderr=True, highlight=False).print
    if selection.ids:
        named = [store.get(id) for id in selection.ids]
        for envelope in named:
            if envelope.status != "open":
                say(f"{envelope.id} is {envelope.status} already")
        chosen = [envelope for envelope in named if envelope.status == "open"]
    else:
        chosen = list(store.scan(selection))
    if not chosen:
        say("nothing to replay: no open record is selected")
        return DONE
    refuse_many_for_one_payload(chosen, options.data)
    if options.dry_run:
        print_list(chosen, Console())
        return DONE
    code = DONE
    for group in groups(chosen, loaded.settings.target):
        settings = replace(for_application(loaded.settings, group.application), stream=group.stream)
        code = max(code, stoppable(_replay(settings, group, selection, options)))
    return code


async def _replay(settings: Settings, group: Group, selection: Selection, options: ReplayOptions) -> int:
    parts = Parts(settings, group.target)
    # Under a name of its own: records are replayed while the application goes on reading.
    async with parts.opened(f"{settings.application} replay") as facts:
        ledger = ReplayLedger(parts.state, settings.application)
        now = utc_text(datetime.now(UTC))
        frozen = await asyncio.to_thread(freeze, group, selection, options.data, ledger, now=now)
        desk = ReplayDesk(parts.store, ledger, frozen.replay_id, facts.version, options.data)
        total = len(group.ids)

        def progress(records: int) -> None:
            done = desk.healed_records + desk.failed_records
            parts.chronicle.info("replay_progress", done=done, total=total, failed=desk.failed_records)

        engine = ReplayEngine(group.stream, group.ids_by_shard, desk, rate=options.rate, progress=progress)
        runtime = parts.runtime(engine, facts, desk, replaying=True)
        parts.chronicle.info("replay_started", records=total, resumed=frozen.resumed)
        code = await _drive(parts, runtime, f"streamheal replay   {total} records of {group.stream}")
        parts.chronicle.info("replay_ended", healed=desk.healed_records, failed=desk.failed_records)
        return NEEDS_HUMAN if desk.failed_records else code


# -- streamheal audit ------------------------------------------------------------------------


def audit(loaded: Loaded, options: AuditOptions, *, as_json: bool) -> int:
    """Returns 3 where a human should look."""
    settings = loaded.settings
    audited = Audit(settings, open_state(settings), loaded.kcl, options)
    return NEEDS_HUMAN if report(audited, open_store(settings), as_json=as_json).total.sick else DONE


# -- streamheal demo -------------------------------------------------------------------------


def demo(picture: Path | None = None) -> int:
    """A stream of orders, some of them sick, from an embedded AWS; 0 only if all of it adds up.

    `picture`: where to keep what it said at its end, as SVG.
    """
    from streamheal.demo import produce
    from streamheal.local import LocalAws

    aws = LocalAws()
    with aws, tempfile.TemporaryDirectory() as folder:
        os.environ.update(aws.environment())
        kinesis = client("kinesis")
        kinesis.create_stream(StreamName=_DEMO_STREAM, ShardCount=produce.SHARDS)
        kinesis.get_waiter("stream_exists").wait(StreamName=_DEMO_STREAM, WaiterConfig={"Delay": 1})
        produce.put(kinesis, _DEMO_STREAM, produce.orders())
        # What is set aside stays here, where the next commands look for it; the stream does not.
        settings = Settings(
            target="streamheal.demo.orders:Orders",
            stream=_DEMO_STREAM,
            application=_DEMO_APPLICATION,
            state=f"sqlite:{folder}/demo.db",
            until_caught_up=True,
            deadline_s=2.0,
            retry_s_min=0.2,
            http="off",
        )
        return stoppable(_demo(settings, aws.url, picture))


async def _demo(settings: Settings, endpoint: str, picture: Path | None) -> int:
    from streamheal.demo import produce, screen
    from streamheal.people.live import Totals
    from streamheal.people.picture import save_picture

    ended: list[Totals] = []
    since = utc_text(datetime.now(UTC))
    began = time.monotonic()
    code = await run_stream(
        settings,
        title=screen.header(_DEMO_STREAM, produce.SHARDS, endpoint),
        noun="order",
        look=lambda runtime: ended.append(Totals.of(runtime.figures())),
    )
    took_s = time.monotonic() - began
    envelopes = list(
        open_store(settings).scan(Selection(stream=_DEMO_STREAM, application=_DEMO_APPLICATION, since=since))
    )
    (totals,) = ended
    wrong = screen.faults(totals, envelopes, produce.expected(), orders=produce.ORDERS)

    def draw(console: Console) -> None:
        screen.print_end(console, totals, envelopes, orders=produce.ORDERS, took_s=took_s, wrong=wrong)

    draw(Console())
    if picture is not None:
        save_picture(draw, picture, title="streamheal demo")
    return 1 if wrong and code == DONE else code
