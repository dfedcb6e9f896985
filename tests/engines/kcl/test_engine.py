"""The engine with everything real but Java: stubs, sockets, pipes, DynamoDB; and a daemon that is a script of ours."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from streamheal.engines.base import Batch
from streamheal.engines.kcl import lives
from streamheal.engines.kcl.engine import KclEngine
from streamheal.engines.kcl.tables import Tables
from streamheal.errors import Unavailable, UsageError
from streamheal.records import Dialect, Position
from tests.engines.kcl.heard import HeardLog, until
from tests.engines.kcl.test_jars import CORE, MULTILANG, folder_of
from tests.engines.recorder import RecorderSink

pytestmark = pytest.mark.anyio

SHARDS = ["shardId-000000000000", "shardId-000000000001"]


class LeasingSink(RecorderSink):
    """Reads the daemon's lines, and leaves a shard as soon as it is asked to."""

    def batch_arrived(self, shard_id: str, batch: Batch) -> None:
        assert batch.dialect is Dialect.DAEMON
        self.slots_out -= 1
        self.records[shard_id] += json.loads(bytes(batch.slot.view[: batch.length]))["records"]
        self._note("batch", shard_id)
        self.engine.answer(shard_id)

    def shutdown_requested(self, shard_id: str) -> None:
        super().shutdown_requested(shard_id)
        self.engine.shard_left(shard_id)


class Reading:
    """An engine at work.

    Attributes:
        here: Where the daemon finds its plan and tells what it sees.
    """

    def __init__(self, engine: KclEngine, log: HeardLog, here: Path) -> None:
        self.engine, self.log, self.here = engine, log, here
        self.sink = LeasingSink(engine)
        self.task: asyncio.Task[None]

    def told(self, of: str) -> list[str]:
        return [line for line in (self.here / "told").read_text().splitlines() if line.startswith(of)]

    @property
    def daemon_pid(self) -> int:
        return int(self.log.named("daemon_started")[-1]["pid"])

    def has_read(self, records: int) -> bool:
        return all(len(self.sink.records[shard]) >= records for shard in SHARDS)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Shards are read all the time: what holds is asked whenever something comes."""
        await self.sink.until(lambda: holds() or self.task.done())
        assert holds(), f"it ended: {self.task}"


@pytest.fixture
def here(tmp_path: Path, aws: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a Java and jars, which are found there; temporary things lie in it, too."""
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    script = Path(__file__).with_name("fake_java.py")
    java.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    java.chmod(0o755)
    folder_of(tmp_path / "site" / "amazon_kclpy" / "jars", CORE, MULTILANG)
    (tmp_path / "site" / "amazon_kclpy" / "__init__.py").touch()
    (tmp_path / "tmp").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("FAKE_JAVA", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


@pytest.fixture
def reading(here: Path, stream: Callable[..., str]) -> Callable[..., Any]:
    """`reading("die live")`: an engine whose daemon lives these lives, the last of them for ever."""

    @asynccontextmanager
    async def reading(plan: str, application: str = "", **options: Any) -> AsyncIterator[Reading]:
        (here / "plan").write_text(plan)
        log = HeardLog()
        application = application or f"app-{uuid.uuid4().hex[:12]}"
        engine = KclEngine(stream(), application=application, log=log, **options)
        found = Reading(engine, log, here)
        try:
            await engine.open()
            found.task = asyncio.create_task(engine.run(found.sink))
            yield found
        finally:
            if hasattr(found, "task"):
                found.task.cancel()
                await asyncio.gather(found.task, return_exceptions=True)
            await engine.close()
        assert not any(_is_alive(int(line.split()[-1])) for line in found.told("life"))
        assert found.sink.slots_out == 0
        assert [path.name for path in (here / "tmp").iterdir() if not path.name.endswith(str(os.getuid()))] == []

    return reading


async def test_shards_are_read_checkpointed_and_left_in_order(reading: Callable[..., Any]) -> None:
    async with reading("live") as found:
        await found.until(lambda: found.has_read(3))
        assert [record["sequenceNumber"] for record in found.sink.records[SHARDS[1]]] == ["1", "2", "3"]
        await found.engine.checkpoint(SHARDS[0], Position(2))
        assert found.told("checkpoint") == [f"checkpoint {SHARDS[0]} 2"]
        found.task.cancel()
        await asyncio.gather(found.task, return_exceptions=True)
    assert sorted(found.told("child")) == [f"child {shard} exit 0" for shard in SHARDS]
    assert sorted(found.sink.events("shutdown")) == SHARDS
    assert found.sink.events("lost") == []
    with pytest.raises(Unavailable):
        await found.engine.checkpoint(SHARDS[0], Position(3))


async def test_the_door_for_stubs_lies_in_a_folder_that_is_ours_alone(reading: Callable[..., Any]) -> None:
    """What comes through it decides where records go."""
    async with reading("live") as found:
        await found.until(lambda: found.has_read(1))
        properties = Path(found.log.named("daemon_started")[0]["properties"])
        assert stat.S_IMODE(properties.parent.stat().st_mode) == 0o700
        assert stat.S_ISSOCK((properties.parent / "stubs").stat().st_mode)
    assert not properties.parent.exists()


async def test_a_temporary_folder_with_spaces_is_not_used_for_what_the_daemon_starts(
    reading: Callable[..., Any], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced = here / "tmp with spaces"
    spaced.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spaced))
    async with reading("live") as found:
        await found.until(lambda: found.has_read(1))


def _lead(aws: Any, application: str, owner: str) -> None:
    dynamodb = aws.client("dynamodb")
    dynamodb.create_table(
        TableName=f"{application}-CoordinatorState",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
    )
    dynamodb.put_item(
        TableName=f"{application}-CoordinatorState", Item={"key": {"S": "Leader"}, "ownerName": {"S": owner}}
    )


def _leads(aws: Any, application: str) -> bool:
    return bool(aws.client("dynamodb").scan(TableName=f"{application}-CoordinatorState")["Items"])


async def test_a_daemon_that_dies_is_started_again_and_its_lock_released(aws: Any, reading: Callable[..., Any]) -> None:
    application = f"app-{uuid.uuid4().hex[:12]}"
    async with reading("die live", application, worker_id="till-1") as found:
        await found.until(lambda: found.has_read(1))
        _lead(aws, application, "till-1")
        await found.until(lambda: len(found.sink.events("started")) == 4 and found.has_read(6))
        assert sorted(found.sink.events("lost")) == SHARDS
        assert not _leads(aws, application)
        assert found.log.named("daemon_died")[0]["how"] == "exit code 1"


def _hold(aws: Any, application: str, owner: str) -> None:
    """Every shard's lease is this owner's."""
    dynamodb = aws.client("dynamodb")
    dynamodb.create_table(
        TableName=application,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
    )
    for shard in SHARDS:
        lease = {"leaseKey": shard, "leaseOwner": owner, "checkpoint": "TRIM_HORIZON"}
        item = {name: {"S": text} for name, text in lease.items()}
        dynamodb.put_item(TableName=application, Item={**item, "leaseCounter": {"N": "0"}})


async def test_who_has_just_lost_a_shard_has_not_brought_all(aws: Any, reading: Callable[..., Any]) -> None:
    """Or the runtime, which then has no shard and nothing open, would take itself for caught up."""
    application = f"app-{uuid.uuid4().hex[:12]}"
    _hold(aws, application, "till-1")
    async with reading("live", application, worker_id="till-1", until_caught_up=True) as found:
        await found.until(lambda: found.engine.has_brought_all)
        brought_all: list[bool] = []
        lost = found.sink.lease_lost

        def lease_lost(shard_id: str) -> None:
            brought_all.append(found.engine.has_brought_all)
            lost(shard_id)

        found.sink.lease_lost = lease_lost
        os.kill(found.daemon_pid, signal.SIGKILL)
        await found.until(lambda: len(brought_all) == 2)
        assert brought_all == [False, False]
        await found.until(lambda: found.engine.has_brought_all)


async def test_another_s_lock_stays(aws: Any, reading: Callable[..., Any]) -> None:
    application = f"app-{uuid.uuid4().hex[:12]}"
    _lead(aws, application, "till-2")
    async with reading("live", application, worker_id="till-1") as found:
        await found.until(lambda: found.has_read(1))
    assert _leads(aws, application)


async def test_an_end_does_not_wait_for_a_table_that_does_not_answer(
    reading: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock then runs out by itself; whoever stopped the host kills it after 30 s."""
    answers = threading.Event()
    async with reading("live") as found:
        await found.until(lambda: found.has_read(1))
        monkeypatch.setattr(Tables, "release_leader", lambda tables, worker_id: answers.wait(60))
        began = time.monotonic()
    assert time.monotonic() - began < 20
    answers.set()


async def test_a_daemon_that_is_killed_is_started_again(reading: Callable[..., Any]) -> None:
    async with reading("live") as found:
        await found.until(lambda: found.has_read(3))
        os.kill(found.daemon_pid, signal.SIGKILL)
        await found.until(lambda: found.has_read(6))
        assert [died["how"] for died in found.log.named("daemon_died")] == ["SIGKILL"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
async def test_a_daemon_that_has_lost_a_child_does_not_wait_out_its_grace(reading: Callable[..., Any]) -> None:
    """By itself it would notice when the next record comes, and then sleep for all of `shutdownGraceMillis`."""
    async with reading("live") as found:
        await found.until(lambda: found.has_read(3))
        stub = _children(found.daemon_pid)[0]
        os.kill(stub, signal.SIGKILL)
        await found.until(lambda: found.has_read(6))
        assert len(found.log.named("daemon_died")) == 1
        assert {broke["why"] for broke in found.log.named("pipe_broke")} <= {
            "its stub died", "the daemon closed its pipe",
        }  # fmt: skip


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_a_java_that_is_gone_for_a_moment_is_waited_for(reading: Callable[..., Any], here: Path) -> None:
    """As while a package of the system's is replaced by a newer one."""
    java = here / "bin" / "java"
    async with reading("live") as found:
        await found.until(lambda: found.has_read(3))
        java.rename(here / "older")
        os.kill(found.daemon_pid, signal.SIGKILL)
        await until(lambda: len(found.log.named("daemon_died")) == 2)
        assert found.log.named("daemon_died")[1]["how"] == f"{java} cannot be started"
        (here / "older").rename(java)
        await found.until(lambda: found.has_read(6))


async def test_one_that_never_comes_up_ends_the_run_with_its_last_words(reading: Callable[..., Any]) -> None:
    async with reading("stillborn") as found:
        with pytest.raises(UsageError, match=r"ends as soon as it starts \(exit code 1\): nothing works today"):
            await asyncio.wait_for(found.task, 30)
        assert len(found.told("life")) == 3


async def test_what_it_says_of_the_configuration_ends_the_run_at_once(reading: Callable[..., Any]) -> None:
    async with reading("denied") as found:
        with pytest.raises(UsageError, match=r"cannot start: AWS does not allow what KCL needs: User: .*CreateTable"):
            await asyncio.wait_for(found.task, 30)
        assert len(found.told("life")) == 1


async def test_a_host_that_only_stands_by_waits_out_what_is_taken_away(
    reading: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others read every shard. What its daemon complains of after having lived well is no wrong configuration."""
    monkeypatch.setattr(lives, "_LIVED_WELL_S", 0.5)
    async with reading("spare live") as found:
        await until(lambda: bool(found.log.named("daemon_said")))
        os.kill(found.daemon_pid, signal.SIGKILL)
        await found.until(lambda: found.has_read(1))


async def test_shards_that_are_handed_out_once_more_at_the_end_are_not_waited_for(reading: Callable[..., Any]) -> None:
    """KCL 3.1.3 soon after a reshard: it would sleep for its whole grace."""
    async with reading("again") as found:
        await found.until(lambda: found.has_read(3))
        found.task.cancel()
        await asyncio.gather(found.task, return_exceptions=True)
        began = time.monotonic()
    assert time.monotonic() - began < 4
    assert len(found.sink.events("started")) == 2
    assert sorted(found.told("child")) == [f"child {shard} exit 0" for shard in SHARDS]
