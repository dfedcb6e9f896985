"""What comes down a pipe: no protocol, long lines, lines without a slot; and a daemon that reads slowly."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os

import pytest

from streamheal.engines.kcl import pipe as pipes
from streamheal.records import Position
from tests.engines.kcl.heard import until
from tests.engines.kcl.lines import (
    LEASE_LOST,
    SHARD_ENDED,
    SHUTDOWN_REQUESTED,
    batch,
    checkpoint,
    checkpointed,
    initialize,
    record,
    status,
)
from tests.engines.kcl.stand import standing

pytestmark = pytest.mark.anyio

KEEP_ALIVE = {"action": "shutdownRequested"}

BAD = "it brought a line that is not the protocol: "


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        pytest.param([b"{}\n"], "Object missing required field", id="malformed"),
        pytest.param([b"null\n"], "Expected `object`", id="null"),
        pytest.param([initialize("9" * 5000)], "Expected `str` of length <= 129", id="a number too long"),
        pytest.param([checkpointed(checkpoint(1))], "that was not asked for", id="an answer to nothing"),
        pytest.param([batch([record(1)]), batch([record(2)])], "processRecords was not answered", id="too early"),
        pytest.param([batch([record(1)]), LEASE_LOST], "leaseLost while processRecords", id="another too early"),
        pytest.param([batch([])[:-1] + batch([record(1)])], "malformed|trailing", id="two on one line"),
        pytest.param([initialize()], "initialize for the second time", id="initialize twice"),
        pytest.param(
            [b'{"action":"leaseLost","x":"' + b"x" * 9000 + b'"}\n'], "leaseLost in a line of", id="oversized"
        ),
    ],
)
async def test_what_is_not_the_protocol_ends_the_pipe(lines: list[bytes], why: str) -> None:
    async with standing(slot_bytes=6000) as stand:
        await stand.daemon.act(initialize())
        for line in lines:
            await stand.daemon.write(line)
            await stand.quiet()
        await stand.until(lambda: stand.is_closed)
        (said,) = stand.host.all("closed")
        assert said.startswith(BAD)
        assert any(part in said for part in why.split("|")), said
        assert stand.host.all("lost") == [None]
        assert stand.daemon.farewell() == b""


@pytest.mark.parametrize("line", [batch([record(1)]), batch([]), SHARD_ENDED, SHUTDOWN_REQUESTED, LEASE_LOST])
async def test_nothing_is_believed_of_a_shard_that_has_no_name_yet(line: bytes) -> None:
    async with standing() as stand:
        await stand.daemon.write(line)
        await stand.until(lambda: stand.is_closed)
        (said,) = stand.host.all("closed")
        assert said.startswith(BAD)
        assert "before initialize" in said
        assert [event for event, _ in stand.host.told] == ["lost", "closed"]


def numbers(lines: list[bytes]) -> list[int]:
    return [int(found["sequenceNumber"]) for line in lines for found in json.loads(line)["records"]]


@pytest.mark.parametrize("records", [30, 31, 32, 33, 34, 35, 100])
async def test_a_line_longer_than_a_slot_is_brought_in_parts_and_answered_after_the_last(records: int) -> None:
    async with standing(slots=40) as stand:
        await stand.daemon.act(initialize())
        long = batch([record(number) for number in range(records)])
        answered = asyncio.ensure_future(stand.daemon.act(long))
        parts = -(-len(long) // 4096)
        for part in range(1, parts + 1):
            stand.pipe.may_bring()
            await stand.until(lambda part=part: len(stand.host.batches) == part)  # type: ignore[misc]
            assert not answered.done()
        stand.pipe.may_bring()
        assert await answered == [status("processRecords")]
        assert numbers(stand.host.batches) == list(range(records))
        assert await stand.daemon.act(batch([])) == [status("processRecords")]


@pytest.mark.parametrize("spare", [-1, 0, 1])
async def test_a_line_may_end_where_its_slot_does(spare: int) -> None:
    line = batch([record(1, "A" * 3000)])
    async with standing(slot_bytes=len(line) + spare) as stand:
        stand.pipe.may_bring()
        await stand.daemon.act(initialize())
        await stand.daemon.write(line)
        await stand.until(lambda: bool(stand.host.batches))
        assert numbers(stand.host.batches) == [1]
        assert (stand.host.batches == [line]) == (spare >= 0)


async def test_a_long_line_is_drained_like_any_other() -> None:
    async with standing() as stand:
        await stand.daemon.act(initialize())
        stand.pipe.may_bring()
        answered = asyncio.ensure_future(stand.daemon.act(batch([record(number) for number in range(100)])))
        await stand.until(lambda: len(stand.host.batches) == 1)
        stand.pipe.drain()
        await answered
        stand.pipe.may_bring()
        await stand.daemon.act(batch([record(number) for number in range(100)]))
        assert len(stand.host.batches) == 1


async def test_without_a_free_slot_nothing_is_read_until_there_is_one() -> None:
    async with standing(slots=1) as stand:
        daemon, host = stand.daemon, stand.host
        await daemon.act(initialize())
        stand.pipe.may_bring()
        first = asyncio.ensure_future(daemon.act(batch([record(1)])))
        await stand.until(lambda: len(host.batches) == 1)
        stand.pipe.may_bring()
        await first
        second = asyncio.ensure_future(daemon.act(batch([record(2)])))
        await stand.quiet()
        assert len(host.batches) == 1
        assert 1 <= host.refused <= 2  # asked for again after a while, not all the time
        host.settle()
        await stand.until(lambda: len(host.batches) == 2)
        stand.pipe.may_bring()
        await stand.quiet()
        assert not host.out
        host.settle()
        await second


async def test_a_long_line_waits_for_the_slots_of_its_parts() -> None:
    """Its batches come as slots become free; the daemon notices nothing."""
    async with standing(slots=2) as stand:
        daemon, host = stand.daemon, stand.host
        await daemon.act(initialize())
        long = batch([record(number) for number in range(100)])
        answered = asyncio.ensure_future(daemon.act(long))
        for part in range(1, -(-len(long) // 4096) + 1):
            stand.pipe.may_bring()
            await stand.quiet()
            assert not answered.done()
            if part > 1:
                assert len(host.batches) == part - 1
                host.settle()
            await stand.until(lambda part=part: len(host.batches) == part)  # type: ignore[misc]
        stand.pipe.may_bring()
        await answered
        assert numbers(host.batches) == list(range(100))


async def test_without_a_slot_a_stub_s_death_is_still_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """And whoever has the descriptor's number afterwards is not listened to, when it is time to ask again."""
    monkeypatch.setattr(pipes, "_SLOT_WAIT_S", 0.01)
    async with standing(slots=0) as stand:
        await stand.daemon.write(initialize())
        await stand.quiet()
        stand.daemon.stub.close()
        await stand.until(lambda: stand.is_closed)
        stand.host.free = 5
        loop = asyncio.get_running_loop()
        due = loop.time() + 0.02
        await until(lambda: loop.time() > due)


async def test_a_daemon_that_does_not_read_blocks_nobody_and_loses_nothing() -> None:
    """Its pipe is filled with signs of life, which stop there; the status follows when it reads again."""
    async with standing() as stand:
        fcntl.fcntl(stand.daemon.lines_out, 1031, 4096)  # F_SETPIPE_SZ
        stand.pipe.may_bring()
        await stand.daemon.act(initialize())
        await stand.daemon.write(batch([record(1)]))
        await stand.until(lambda: bool(stand.host.batches))
        for _ in range(1000):
            stand.pipe.keep_alive()
        kept = stand.checkpoint(Position(1))
        await stand.quiet()
        stand.pipe.may_bring()
        heard = await stand.daemon.waits_for("processRecords")
        await kept
        alive = 4096 // len(b'\n{"action":"shutdownRequested"}\n')
        assert heard[:-2] == [KEEP_ALIVE] * (alive + 1)  # and the one that did not fit
        assert heard[-2:] == [checkpoint(1), status("processRecords")]
        assert not asyncio.get_running_loop().remove_writer(stand.daemon.lines_out)  # or it would be called for ever
        assert await stand.daemon.act(batch([])) == [status("processRecords")]


async def test_a_sign_of_life_is_given_only_within_an_action() -> None:
    async with standing() as stand:
        stand.pipe.keep_alive()
        await stand.daemon.act(initialize())
        stand.pipe.keep_alive()
        await stand.quiet()
        assert stand.daemon.heard_now() == b""
        stand.pipe.may_bring()
        await stand.daemon.write(batch([record(1)]))
        await stand.until(lambda: bool(stand.host.batches))
        stand.pipe.keep_alive()
        stand.pipe.may_bring()
        assert await stand.daemon.waits_for("processRecords") == [KEEP_ALIVE, status("processRecords")]
        stand.pipe.keep_alive()
        await stand.quiet()
        assert stand.daemon.heard_now() == b""


async def test_a_closed_pipe_writes_nothing_to_whoever_has_its_number_now() -> None:
    async with standing() as stand:
        await stand.daemon.act(initialize())
        stand.pipe.may_bring()
        await stand.daemon.write(batch([record(1)]))
        await stand.until(lambda: len(stand.host.batches) == 1)
        stand.pipe.close("enough")
        reading, writing = os.pipe()
        os.dup2(writing, stand.daemon.lines_out)
        os.set_blocking(reading, False)
        try:
            stand.pipe.keep_alive()
            stand.pipe.may_bring()
            stand.pipe.leave()
            await stand.quiet()
            with pytest.raises(BlockingIOError):
                os.read(reading, 100)
        finally:
            for descriptor in {reading, writing, stand.daemon.lines_out}:
                os.close(descriptor)


async def test_a_line_comes_whole_however_it_is_cut_up() -> None:
    async with standing() as stand:
        stand.pipe.may_bring()
        await stand.daemon.act(initialize())
        line = batch([record(number) for number in range(20)])
        for at in range(len(line)):
            await stand.daemon.write(line[at : at + 1])
            await stand.quiet()
        assert stand.host.batches == [line]
