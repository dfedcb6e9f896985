"""Whatever the daemon sends and the runtime calls, in whatever order: a pipe keeps to the protocol and its promises.

What may not be left over at the end (slots, waiting checkpoints, descriptors, faults of the loop) is looked at
by `standing`; the judge here looks at each line when it is written.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamheal.engines.kcl import pipe as pipes
from streamheal.records import Position
from tests.engines.kcl import lines
from tests.engines.kcl.stand import Said, Stand, standing

SLOT_BYTES = 512
STATUS, CHECKPOINT, KEEP_ALIVE = "status", "checkpoint", "shutdownRequested"
FIELDS = {
    STATUS: {"action", "responseFor"},
    CHECKPOINT: {"action", "sequenceNumber", "subSequenceNumber"},
    KEEP_ALIVE: {"action"},
}


@pytest.fixture(autouse=True, scope="module")
def _slots_are_asked_for_again_at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipes, "_SLOT_WAIT_S", 0.0)
        yield


class Judge:
    """The daemon: sends what is its turn, and holds each line against what is allowed at that moment.

    Attributes:
        action: Whose status it waits for.
        may_answer: The runtime has asked for another batch since the last was brought.
    """

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self.action: str | None = None
        self.under_way: Said | None = None
        self.may_answer = self.released = self.left = self.fenced = self.end_stored = False
        self.life = "new"
        self.sent: list[int] = []
        self._empty = False
        self._heard = b""
        stand.host.on_brought = self._brought

    def _brought(self, pipe: pipes.Pipe) -> None:
        assert self.may_answer, "brought before it was asked for"
        assert not self.released, "brought after the drain"
        self.may_answer = False

    def may_send(self, action: str) -> bool:
        if self.action is not None or self._stand.is_closed:
            return False
        turns = {"new": ("initialize",), "live": ("processRecords", "shardEnded", "shutdownRequested", "leaseLost")}
        return action in turns.get(self.life, ("leaseLost",) if self.life == "asked" else ())

    def opened(self, action: str, records: list[int] | None = None) -> None:
        self.action, self._empty = action, not records
        self.sent += records or []
        self.fenced = self.fenced or action == "leaseLost"

    def hear(self) -> None:
        self._heard += self._stand.daemon.heard_now()
        *whole, self._heard = self._heard.split(b"\n")
        for line in filter(None, whole):
            said = json.loads(line.decode("ascii"))
            assert set(said) == FIELDS[said["action"]]
            assert self.action is not None, f"{said} outside an action"
            if said["action"] == CHECKPOINT:
                self._judge_checkpoint(said)
            elif said["action"] == STATUS:
                self._judge_status(said)

    def _judge_checkpoint(self, said: Said) -> None:
        assert self.under_way is None, "two checkpoints under way"
        assert self.action not in ("initialize", "leaseLost")
        assert said["sequenceNumber"] is not None or self.action == "shardEnded"
        assert not self.fenced, "a checkpoint of a lost lease"
        self.under_way = said

    def _judge_status(self, said: Said) -> None:
        assert said["responseFor"] == self.action
        assert self.under_way is None, "answered with a checkpoint under way"
        released = self.released or self.fenced
        if self.action == "processRecords" and not self._empty and not released:
            assert self.may_answer
            assert self.brought() == self.sent, "answered before all was brought"
        if self.action == "shardEnded":
            assert self.end_stored or self.fenced
        if self.action == "shutdownRequested":
            assert self.left or self.fenced
        self.life = {"shutdownRequested": "asked", "shardEnded": "over", "leaseLost": "over"}.get(
            str(self.action), "live"
        )
        self.action = None

    def brought(self) -> list[int]:
        batches = map(json.loads, self._stand.host.batches)
        return [int(record["sequenceNumber"]) for batch in batches for record in batch["records"]]


def send(stand: Stand, line: bytes) -> None:
    try:
        stand.daemon.write_now(line)
    except OSError:
        pass  # the pipe has closed its end


def call(stand: Stand, judge: Judge, what: str, number: int) -> None:
    """What a runtime may call, whenever it likes."""
    match what:
        case "may bring":
            judge.may_answer = True
            stand.pipe.may_bring()
        case "checkpoint":
            stand.checkpoint(Position(number, number % 3))
        case "complete" if judge.action == "shardEnded":
            stand.checkpoint(None)
        case "give up" if stand.checkpoints:
            stand.checkpoints[number % len(stand.checkpoints)].cancel()
        case "drain" | "leave":
            judge.released = True
            judge.left = judge.left or what == "leave"
            getattr(stand.pipe, what)()
        case "keep alive":
            stand.pipe.keep_alive()
        case "close":
            stand.pipe.close("it was told to" if number % 2 else None)
        case "settle":
            stand.host.settle()


CALLS = st.sampled_from(
    ["may bring"] * 8 + ["checkpoint"] * 4 + ["complete"] * 4 + ["settle"] * 4 + ["keep alive"] * 2
    + ["give up", "drain", "leave", "close"]
)  # fmt: skip
NUMBERS = st.integers(0, 12)
LINES = st.sampled_from(
    ["initialize"] * 3 + ["processRecords"] * 9 + ["shardEnded"] * 2 + ["shutdownRequested"] * 2 + ["leaseLost"]
)
ERRORS = st.sampled_from([None] * 6 + ["ThrottlingException"] * 2 + ["ShutdownException"])
STEPS = st.one_of(
    st.tuples(st.just("send"), LINES, NUMBERS),
    st.tuples(st.just("call"), CALLS, NUMBERS),
    st.tuples(st.just("answer"), ERRORS, NUMBERS),
    st.tuples(st.just("end"), st.sampled_from(["daemon", "stub"]), st.just(0)),
)


def line_of(action: str, records: list[int]) -> bytes:
    match action:
        case "initialize":
            return lines.initialize("5")
        case "processRecords":
            return lines.batch([lines.record(number) for number in records])
    return b'{"action":"%s"}\n' % action.encode()


async def _play(slots: int, steps: list[tuple[str, str | None, int]]) -> None:
    async with standing(slots=slots, slot_bytes=SLOT_BYTES) as stand:
        judge = Judge(stand)
        for kind, what, number in [("send", "initialize", 0), *steps]:
            if kind == "send" and judge.may_send(str(what)):
                records = list(range(len(judge.sent), len(judge.sent) + number)) if what == "processRecords" else []
                judge.opened(str(what), records)
                line = line_of(str(what), records)
                cut = number * len(line) // 13
                send(stand, line[:cut])
                await stand.quiet()
                send(stand, line[cut:])
            elif kind == "answer" and judge.under_way is not None:
                said, judge.under_way = judge.under_way, None
                judge.fenced = judge.fenced or what == "ShutdownException"
                judge.end_stored = judge.end_stored or (what is None and said["sequenceNumber"] is None)
                send(stand, lines.checkpointed(said, what))
            elif kind == "call":
                call(stand, judge, str(what), number)
            elif kind == "end" and what == "stub":
                stand.daemon.stub.close()
            elif kind == "end":
                break
            await stand.quiet()
            judge.hear()
        assert judge.brought() == judge.sent[: len(judge.brought())]
        stand.host.settle()
        stand.host.free += 1  # what it holds itself may be all there is, and the end is read into a slot, too
        stand.daemon.hang_up()
        await stand.until(lambda: stand.is_closed)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 3), st.lists(STEPS, max_size=40))
def test_whatever_is_called_the_protocol_is_kept_and_nothing_is_left_over(
    slots: int, steps: list[tuple[str, str | None, int]]
) -> None:
    asyncio.run(_play(slots, steps))


SPOKEN = [
    lines.initialize(),
    lines.batch([lines.record(1)]),
    lines.batch([lines.record(number) for number in range(9)]),
    lines.batch([]),
    lines.SHARD_ENDED,
    lines.SHUTDOWN_REQUESTED,
    lines.LEASE_LOST,
    lines.checkpointed({"action": "checkpoint", "sequenceNumber": None, "subSequenceNumber": None}),
    lines.checkpointed({"action": "checkpoint"}, "ShutdownException"),
    lines.checkpointed({"action": "checkpoint"}, "ThrottlingException"),
]
PIECES = (
    st.sampled_from(SPOKEN)
    | st.binary(max_size=30)
    | st.builds(lambda line, end: line[: end % len(line)], st.sampled_from(SPOKEN), st.integers(0, 10_000))
    | st.just(b"\n")
)


async def _endure(slots: int, steps: list[bytes | tuple[str, int]]) -> None:
    async with standing(slots=slots, slot_bytes=SLOT_BYTES) as stand:
        judge = Judge(stand)
        stand.host.on_brought = None
        written = b""
        for step in [lines.initialize(), *steps]:
            if isinstance(step, bytes):
                send(stand, step)
            else:
                call(stand, judge, *step)
            await stand.quiet()
            written += stand.daemon.heard_now()
        for line in filter(None, written.split(b"\n")):
            said = json.loads(line.decode("ascii"))
            assert set(said) == FIELDS[said["action"]]
        stand.host.settle()
        stand.host.free += 1  # what it holds itself may be all there is, and the end is read into a slot, too
        stand.daemon.hang_up()
        await stand.until(lambda: stand.is_closed)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 3), st.lists(PIECES | st.tuples(CALLS, NUMBERS), max_size=25))
def test_whatever_comes_down_the_pipe_the_host_stands_and_writes_protocol(
    slots: int, steps: list[bytes | tuple[str, int]]
) -> None:
    asyncio.run(_endure(slots, steps))
