"""One shard's pipe, over real pipes and a real socket, with the daemon's manners at the other end."""

from __future__ import annotations

import asyncio

import pytest

from streamheal.errors import Unavailable
from streamheal.records import Position
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


async def test_a_whole_life_from_initialize_to_the_lease_s_loss() -> None:
    async with standing() as stand:
        daemon, host, pipe = stand.daemon, stand.host, stand.pipe
        host.on_brought = lambda pipe: pipe.may_bring()
        pipe.may_bring()

        assert await daemon.act(initialize("12", 3)) == [status("initialize")]
        assert pipe.shard_id == "shardId-000000000000"
        first, second = batch([record(13)], 2000), batch([record(14), record(15)], 0)
        assert await daemon.act(first) == [status("processRecords")]
        assert await daemon.act(second) == [status("processRecords")]
        kept = stand.checkpoint(Position(15, 2))
        assert await daemon.act(batch([], 500)) == [checkpoint(15, 2), status("processRecords")]
        await kept

        waiting = asyncio.ensure_future(daemon.act(SHUTDOWN_REQUESTED))
        await stand.until(lambda: bool(host.all("asked_to_leave")))
        kept = stand.checkpoint(Position(16))
        await kept
        assert not waiting.done()
        pipe.leave()
        assert await waiting == [checkpoint(16), status("shutdownRequested")]
        assert await daemon.act(LEASE_LOST) == [status("leaseLost")]
        daemon.hang_up()
        await stand.until(lambda: stand.is_closed)

        assert host.told == [
            ("initialized", Position(12, 3)),
            ("brought", first),
            ("measured", 2.0),
            ("brought", second),
            ("measured", 0.0),
            ("measured", 0.5),
            ("asked_to_leave", None),
            ("closed", None),
        ]
        assert daemon.farewell() == b"0\n"


async def test_a_shard_that_ends_is_answered_once_its_end_is_stored() -> None:
    async with standing() as stand:
        daemon, host = stand.daemon, stand.host
        await daemon.act(initialize())
        answered = asyncio.ensure_future(daemon.act(SHARD_ENDED))
        await stand.until(lambda: bool(host.all("ended")))
        await stand.checkpoint(Position(7))  # what was still open when the end came
        daemon.errors.append("ThrottlingException")
        with pytest.raises(Unavailable, match="ThrottlingException"):
            await stand.checkpoint(None)
        stand.pipe.may_bring()
        await stand.quiet()
        assert not answered.done()

        await stand.checkpoint(None)
        said = [checkpoint(7), checkpoint(None), checkpoint(None), status("shardEnded")]
        assert await answered == said
        daemon.hang_up()
        await stand.until(lambda: stand.is_closed)
        assert (host.all("lost"), host.all("closed")) == ([], [None])
        assert daemon.farewell() == b"0\n"


async def test_a_batch_waits_until_the_runtime_asks_for_it_and_its_answer_until_it_asks_again() -> None:
    async with standing() as stand:
        daemon, host, pipe = stand.daemon, stand.host, stand.pipe
        await daemon.act(initialize())
        answered = asyncio.ensure_future(daemon.act(batch([record(1)])))
        await stand.quiet()
        assert host.batches == []
        pipe.may_bring()
        assert host.batches == [batch([record(1)])]
        await stand.quiet()
        assert not answered.done()
        pipe.may_bring()
        assert await answered == [status("processRecords")]


async def test_what_the_runtime_has_asked_for_once_is_brought_once() -> None:
    """The window may be open before the first batch, and then closes with it."""
    async with standing() as stand:
        stand.pipe.may_bring()
        await stand.daemon.act(initialize())
        answered = asyncio.ensure_future(stand.daemon.act(batch([record(1)])))
        await stand.until(lambda: len(stand.host.batches) == 1)
        await stand.quiet()
        assert not answered.done()
        stand.pipe.may_bring()
        await answered


async def test_an_empty_batch_is_answered_at_once_with_a_checkpoint_on_the_way() -> None:
    async with standing() as stand:
        daemon, host = stand.daemon, stand.host
        await daemon.act(initialize())
        kept = [stand.checkpoint(Position(5)), stand.checkpoint(Position(6))]
        await stand.quiet()
        assert daemon.heard_now() == b""  # outside an action nobody would read it
        assert await daemon.act(batch([], None)) == [checkpoint(5), checkpoint(6), status("processRecords")]
        await asyncio.gather(*kept)
        assert (host.batches, host.all("measured")) == ([], [])
        assert len(host.out) <= 1  # the one the next line is read into


async def test_an_empty_batch_does_not_answer_for_the_next_full_one() -> None:
    async with standing() as stand:
        await stand.daemon.act(initialize())
        await stand.daemon.act(batch([]))
        answered = asyncio.ensure_future(stand.daemon.act(batch([record(1)])))
        await stand.quiet()
        stand.pipe.may_bring()
        await stand.quiet()
        assert not answered.done()
        stand.pipe.may_bring()
        await answered


async def test_checkpoints_go_one_at_a_time_and_before_the_status() -> None:
    async with standing() as stand:
        daemon = stand.daemon
        stand.pipe.may_bring()
        await daemon.act(initialize())
        await daemon.write(batch([record(1)]))
        await stand.until(lambda: bool(stand.host.batches))
        kept = [stand.checkpoint(Position(1)), stand.checkpoint(Position(2))]
        await stand.quiet()
        stand.pipe.may_bring()
        first = await daemon.hear()
        await stand.quiet()
        assert first == checkpoint(1)
        assert daemon.heard_now() == b""
        await daemon.write(checkpointed(first))
        second = await daemon.hear()
        await stand.quiet()
        assert second == checkpoint(2)
        assert [one.done() for one in kept] == [True, False]
        assert daemon.heard_now() == b""
        await daemon.write(checkpointed(second))
        assert await daemon.hear() == status("processRecords")
        await asyncio.gather(*kept)


async def test_no_checkpoint_goes_out_while_the_shard_begins() -> None:
    """The daemon has no checkpointer then, and answers InvalidStateException."""
    async with standing() as stand:
        kept = stand.checkpoint(Position(1))
        await stand.quiet()
        assert await stand.daemon.act(initialize()) == [status("initialize")]
        assert await stand.daemon.act(batch([])) == [checkpoint(1), status("processRecords")]
        await kept


@pytest.mark.parametrize(
    "error",
    ["ThrottlingException", "KinesisClientLibDependencyException", "InvalidStateException", "NullPointerException"],
)
async def test_a_checkpoint_that_failed_is_unavailable_and_the_shard_goes_on(error: str) -> None:
    async with standing() as stand:
        daemon = stand.daemon
        await daemon.act(initialize())
        daemon.errors.append(error)
        kept = stand.checkpoint(Position(1))
        await daemon.act(batch([]))
        with pytest.raises(Unavailable, match=f"did not checkpoint shardId-000000000000: {error}"):
            await kept
        assert not stand.pipe.lost
        kept = stand.checkpoint(Position(1))
        await daemon.act(batch([]))
        await kept


async def test_a_shutdown_exception_loses_the_shard_once() -> None:
    """The lease is another's: what is under way is answered unread, and leaseLost follows."""
    async with standing() as stand:
        daemon, host, pipe = stand.daemon, stand.host, stand.pipe
        pipe.may_bring()
        await daemon.act(initialize())
        daemon.errors.append("ShutdownException")
        answered = asyncio.ensure_future(daemon.act(batch([record(1)])))
        await stand.until(lambda: bool(host.batches))
        both = [stand.checkpoint(Position(1)), stand.checkpoint(Position(2))]
        for kept in both:
            with pytest.raises(Unavailable, match="not ours any more"):
                await kept
        assert await answered == [checkpoint(1), status("processRecords")]
        assert pipe.lost
        with pytest.raises(Unavailable):
            await pipe.checkpoint(Position(3))

        assert await daemon.act(batch([record(2)], 9000)) == [status("processRecords")]
        assert await daemon.act(batch([], 9000)) == [status("processRecords")]
        assert await daemon.act(LEASE_LOST) == [status("leaseLost")]
        daemon.hang_up()
        await stand.until(lambda: stand.is_closed)
        assert [event for event, _ in host.told] == ["initialized", "brought", "measured", "lost", "closed"]
        assert daemon.farewell() == b"0\n"


@pytest.mark.parametrize("line", [SHARD_ENDED, SHUTDOWN_REQUESTED], ids=["shardEnded", "shutdownRequested"])
async def test_once_lost_nothing_is_told_or_waited_for(line: bytes) -> None:
    async with standing() as stand:
        await stand.daemon.act(initialize())
        stand.daemon.errors.append("ShutdownException")
        kept = stand.checkpoint(Position(1))
        await stand.daemon.act(batch([]))
        await asyncio.gather(kept, return_exceptions=True)
        assert len(await stand.daemon.act(line)) == 1
        assert not stand.host.all("ended") + stand.host.all("asked_to_leave")


async def test_a_drained_pipe_answers_batches_unread_and_still_checkpoints() -> None:
    async with standing() as stand:
        daemon, host = stand.daemon, stand.host
        await daemon.act(initialize())
        answered = asyncio.ensure_future(daemon.act(batch([record(1)])))
        await stand.quiet()
        stand.pipe.drain()
        await answered
        kept = stand.checkpoint(Position(9))
        stand.pipe.may_bring()
        assert await daemon.act(batch([record(2)], 4000)) == [checkpoint(9), status("processRecords")]
        await kept
        assert host.batches == []


async def test_one_that_was_left_before_it_is_asked_says_so_at_once() -> None:
    async with standing() as stand:
        await stand.daemon.act(initialize())
        stand.pipe.leave()
        assert await stand.daemon.act(SHUTDOWN_REQUESTED) == [status("shutdownRequested")]
        await stand.daemon.act(LEASE_LOST)
        stand.daemon.hang_up()
        await stand.until(lambda: stand.is_closed)
        assert stand.host.all("lost") == []


async def test_a_daemon_whose_grace_is_over_ends_a_shard_that_was_left_without_its_lease_s_loss() -> None:
    """Nobody is told of a loss: the runtime was through with it. But it was no good end either."""
    async with standing() as stand:
        await stand.daemon.act(initialize())
        stand.pipe.leave()
        await stand.daemon.act(SHUTDOWN_REQUESTED)
        stand.daemon.hang_up()
        await stand.until(lambda: stand.is_closed)
        assert stand.host.told[1:] == [("asked_to_leave", None), ("closed", "the daemon closed its pipe")]
        assert stand.daemon.farewell() == b""


async def test_a_lease_lost_by_surprise_is_told_and_its_batch_given_back() -> None:
    async with standing() as stand:
        await stand.daemon.act(initialize())
        kept = stand.checkpoint(Position(1))
        assert await stand.daemon.act(LEASE_LOST) == [status("leaseLost")]
        with pytest.raises(Unavailable, match="its next owner checkpoints"):
            await kept
        assert stand.host.all("lost") == [None]


async def test_a_daemon_that_dies_mid_action_loses_the_shard_and_everybody_who_waits_hears_it() -> None:
    async with standing() as stand:
        daemon, host = stand.daemon, stand.host
        await daemon.act(initialize())
        await daemon.write(batch([record(1)]))
        under_way, waiting = stand.checkpoint(Position(1)), stand.checkpoint(Position(2))
        await daemon.hear()
        daemon.hang_up()
        for kept in (under_way, waiting):
            with pytest.raises(Unavailable):
                await kept
        await stand.until(lambda: stand.is_closed)
        assert host.told[-2:] == [("lost", None), ("closed", "the daemon closed its pipe")]
        assert daemon.farewell() == b""  # a stub that hears nothing fails, and so does its daemon
        with pytest.raises(Unavailable):
            await stand.pipe.checkpoint(Position(3))


LIFE = (initialize(), batch([record(1)]), batch([]), batch([record(2), record(3)]), SHARD_ENDED)


@pytest.mark.parametrize("bytes_written", range(0, sum(map(len, LIFE)) + 1, 7))
async def test_a_daemon_may_die_after_any_byte(bytes_written: int) -> None:
    async with standing() as stand:
        stand.host.on_brought = lambda pipe: pipe.may_bring()
        stand.pipe.may_bring()
        left = bytes_written
        for line in LIFE:
            if len(line) > left:
                await stand.daemon.write(line[:left])
                break
            left -= len(line)
            if line is SHARD_ENDED:
                await stand.daemon.write(line)
            else:
                await stand.daemon.act(line)
        stand.checkpoint(Position(1))
        stand.daemon.hang_up()
        await stand.until(lambda: stand.is_closed)
        assert stand.host.told[-2:] == [("lost", None), ("closed", "the daemon closed its pipe")]


async def test_a_stub_s_death_is_seen_while_the_shard_is_quiet() -> None:
    """The daemon would notice only when records come. Our ends are closed, so that it notices now."""
    async with standing() as stand:
        await stand.daemon.act(initialize())
        stand.daemon.stub.close()
        await stand.until(lambda: stand.is_closed)
        assert stand.host.told[-2:] == [("lost", None), ("closed", "its stub died")]
        with pytest.raises(BrokenPipeError):
            await stand.daemon.write(batch([]))


async def test_whoever_gave_up_a_checkpoint_is_not_told_and_disturbs_nobody() -> None:
    async with standing() as stand:
        daemon = stand.daemon
        await daemon.act(initialize())
        given_up = stand.checkpoint(Position(1))
        await daemon.write(batch([]))
        assert await daemon.hear() == checkpoint(1)
        given_up.cancel()
        kept = stand.checkpoint(Position(2))
        await stand.quiet()
        await daemon.write(checkpointed(checkpoint(1)))
        assert await daemon.waits_for("processRecords") == [checkpoint(2), status("processRecords")]
        await kept


async def test_a_goodbye_that_nobody_hears_is_no_matter() -> None:
    async with standing() as stand:
        await stand.daemon.act(initialize())
        await stand.daemon.act(LEASE_LOST)
        stand.daemon.hang_up()
        stand.daemon.stub.close()
        await stand.until(lambda: stand.is_closed)


async def test_a_daemon_that_dies_between_its_line_and_our_answer_is_no_matter() -> None:
    """Nobody reads what we write; its end is seen where we read."""
    async with standing() as stand:
        stand.daemon.stop_reading()
        await stand.daemon.write(initialize())
        await stand.until(lambda: bool(stand.host.all("initialized")))
        assert not stand.is_closed
        stand.daemon.hang_up()
        await stand.until(lambda: stand.is_closed)
        assert stand.host.told[-2:] == [("lost", None), ("closed", "the daemon closed its pipe")]
