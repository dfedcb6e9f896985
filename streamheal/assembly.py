"""Wires the parts together, and nothing else does: settings in, a running host out.

run     PollEngine, KclEngine ─┐
                               ├─► Runtime ─► WorkerPool, Keeper ─► Store
replay  ReplayEngine ──────────┘                            (a replay: ReplayDesk)
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from streamheal.attempts import utc_text
from streamheal.audit.audit import Audit, AuditOptions
from streamheal.config.aws import AwsOptions, client
from streamheal.config.load import Loaded
from streamheal.config.replaying import ReplayOptions
from streamheal.config.settings import Settings, for_application
from streamheal.engines.base import StreamEngine
from streamheal.engines.poll import PollEngine
from streamheal.engines.replay import ReplayEngine
from streamheal.errors import UsageError
from streamheal.parts import Parts, open_state, open_store
from streamheal.people.listing import print_list
from streamheal.people.live import LiveView
from streamheal.people.proof import report
from streamheal.quarantine.base import Selection
from streamheal.runtime.desk import ReplayDesk
from streamheal.runtime.driving import DONE, NEEDS_HUMAN, drive, stoppable
from streamheal.runtime.replaying import Group, freeze, groups, refuse_many_for_one_payload
from streamheal.runtime.runtime import Runtime
from streamheal.state.ledgers import Checkpoints, ReplayLedger
from streamheal.web.emf import emitting
from streamheal.web.server import serving

_DEMO_STREAM, _DEMO_APPLICATION = "orders", "demo"


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
