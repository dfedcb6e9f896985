"""One shard's pipe to the daemon: its lines read, its one open action answered when the time has come.

    line ──► wire.read ──► initialize         told; answered at once
                           processRecords     brought; answered when the runtime asks for the next
                           (empty)            a chance to checkpoint; answered at once
                           shardEnded         told; answered once SHARD_END is stored
                           shutdownRequested  told; answered once the runtime has left the shard
                           leaseLost          told; answered at once

The daemon takes a checkpoint only while an action is open, reads nothing in between, and sends its
next line only after our status (KCL 3.1.3 and 3.5.1, MultiLangProtocol). So checkpoints wait here for
an action, go out one at a time, and no action is answered while one is under way.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from typing import NamedTuple, Protocol

from streamheal import platform
from streamheal.engines.base import Slot
from streamheal.engines.kcl import wire
from streamheal.errors import Unavailable
from streamheal.records import Position

_READ_BYTES = 1 << 20
_SLOT_WAIT_S = 0.05

# What the daemon answers when the lease is another's (KCL 3.5.1, DynamoDBCheckpointer): leaseLost follows.
_LEASE_LOST = "ShutdownException"


class Host(Protocol):
    """Whom a pipe tells. Calls return at once."""

    def take_slot(self) -> Slot | None: ...

    def give_back(self, slot: Slot) -> None: ...

    def initialized(self, pipe: Pipe, after: Position | None) -> None:
        """The pipe is this shard's from now on."""

    def brought(self, pipe: Pipe, slot: Slot, length: int) -> None: ...

    def measured(self, pipe: Pipe, lag_s: float) -> None: ...

    def ended(self, pipe: Pipe) -> None: ...

    def lost(self, pipe: Pipe) -> None:
        """The lease is another's. Told once, however it became known."""

    def asked_to_leave(self, pipe: Pipe) -> None: ...

    def closed(self, pipe: Pipe, why: str | None) -> None:
        """Nothing more will come. `why`: it ended before its time, and the shard is lost."""


class _Wish(NamedTuple):
    """A checkpoint that somebody waits for; no position: the shard's end."""

    position: Position | None
    kept: asyncio.Future[None]


class _Held(NamedTuple):
    slot: Slot
    length: int
    lag_s: float | None


class Pipe:
    """Speaks for one shard, from its stub's arrival to the daemon's closing of the pipe.

    Attributes:
        shard_id: Empty until the daemon has said `initialize`.
        lost: The lease is not ours, or the pipe has ended: nothing is checkpointed any more.
    """

    def __init__(self, host: Host, stub: socket.socket, lines_in: int, lines_out: int) -> None:
        self.shard_id = ""
        self.lost = False
        self._host = host
        self._stub, self._in, self._out = stub, lines_in, lines_out
        self._loop = asyncio.get_running_loop()
        self._slot: Slot | None = None  # into which the next line is read
        self._end = 0
        self._longer = bytearray()  # what has come of a line that is longer than a slot
        self._action: str | None = None  # whose status the daemon waits for
        self._held: _Held | None = None  # read, and not brought yet
        self._parts: deque[bytes] = deque()  # of a line longer than a slot, what comes after it
        self._may_bring = self._empty = self._paused = False
        self._draining = self._left = self._end_stored = self._finished = self._gone = False
        self._wishes: deque[_Wish] = deque()
        self._asked: _Wish | None = None
        self._unwritten = b""
        for descriptor in (lines_in, lines_out):
            os.set_blocking(descriptor, False)
        stub.setblocking(False)
        platform.widen_pipe(lines_in, _READ_BYTES)
        self._loop.add_reader(lines_in, self._readable)
        self._loop.add_reader(stub, self.close, "its stub died")

    # -- what the runtime and the engine say ------------------------------------------------

    def may_bring(self) -> None:
        """The next batch may come."""
        self._may_bring = True
        self._bring()
        self._go_on()

    async def checkpoint(self, position: Position | None) -> None:
        """Kept in the lease table when this returns; None stores the shard's end.

        Raises:
            Unavailable: It was not, or nobody knows.
        """
        if self.lost:
            raise self._not_ours()
        wish = _Wish(position, self._loop.create_future())
        self._wishes.append(wish)
        self._go_on()
        await wish.kept

    def drain(self) -> None:
        """Nothing more is brought, and batches are answered unread; checkpoints still go."""
        self._draining = True
        if self._held is not None:
            self._host.give_back(self._held.slot)
        self._held = None
        self._parts.clear()
        self._go_on()

    def leave(self) -> None:
        """The runtime is through with the shard: when the daemon asks for it, it may have it."""
        self._left = True
        self.drain()

    def pause(self) -> None:
        """Say nothing more of the open action, until `resume`."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._go_on()

    def keep_alive(self) -> None:
        """Tell the daemon that an action is still worked on; never more than it reads."""
        if self._action is not None and not self._unwritten and not self._gone:
            self._write(wire.KEEP_ALIVE)

    # -- lines ------------------------------------------------------------------------------

    def _readable(self) -> None:
        if self._slot is None and not self._take_slot():
            return
        assert self._slot is not None
        view = self._slot.view
        try:
            got = os.readv(self._in, [view[self._end : min(self._end + _READ_BYTES, len(view))]])
        except BlockingIOError:
            return
        except OSError:
            got = 0
        if not got:
            self.close(None if self._finished else "the daemon closed its pipe")
            return
        self._end += got
        # The daemon waits for our status before its next line: a newline can only be the last byte.
        if view[self._end - 1] == 10:
            self._line_ended()
        elif self._end == len(view):
            self._longer += view
            self._end = 0

    def _take_slot(self) -> bool:
        self._slot = self._host.take_slot()
        if self._slot is None:
            self._loop.remove_reader(self._in)
            self._loop.call_later(_SLOT_WAIT_S, self._listen_again)
        return self._slot is not None

    def _listen_again(self) -> None:
        if not self._gone:
            self._loop.add_reader(self._in, self._readable)

    def _line_ended(self) -> None:
        assert self._slot is not None
        length, self._end = self._end, 0
        try:
            if self._longer:
                self._long_line(self._longer + self._slot.view[:length])
            else:
                self._line(self._slot, length)
        except wire.BadLine as error:
            self.close(f"it brought a line that is not the protocol: {error}")
            return
        self._bring()
        self._go_on()

    def _line(self, slot: Slot, length: int) -> None:
        said = wire.read(slot.view[:length])
        if isinstance(said, wire.Message):
            self._told(said)
            return
        self._opened("processRecords")
        if not self._draining:
            self._slot = None
            self._held = _Held(slot, length, said.lag_s)

    def _long_line(self, line: bytearray) -> None:
        """Rare: brought as several batches, one after another, and answered after the last."""
        assert self._slot is not None
        self._longer = bytearray()
        self._opened("processRecords")
        if not self._draining:
            self._parts.extend(wire.cut(line, len(self._slot.view)))

    def _told(self, message: wire.Message) -> None:
        if message.action == "checkpoint":
            self._checkpoint_answered(message.error)
            return
        self._opened(message.action)
        match message.action:
            case "initialize":
                assert message.shard_id is not None
                self.shard_id = message.shard_id
                self._host.initialized(self, wire.begin(message))
            case "processRecords":
                self._empty = True
                self._measure(wire.lag_s(message))
            case "shardEnded" if not self.lost:
                self._host.ended(self)
            case "shutdownRequested" if not self.lost:
                self._host.asked_to_leave(self)
            case "leaseLost":
                self._lose()

    def _opened(self, action: str) -> None:
        if self._action is not None:
            raise wire.BadLine(f"{action} while {self._action} was not answered")
        if (action == "initialize") == bool(self.shard_id):
            raise wire.BadLine(f"{action} {'for the second time' if self.shard_id else 'before initialize'}")
        self._action, self._empty = action, False

    def _measure(self, lag_s: float | None) -> None:
        if lag_s is not None and not self.lost:
            self._host.measured(self, lag_s)

    def _bring(self) -> None:
        """One batch; the next when the runtime has asked for it."""
        if not self._may_bring:
            return
        if self._held is None and self._parts:
            self._hold_a_part()
        if self._held is not None:
            self._may_bring = False
            (slot, length, lag_s), self._held = self._held, None
            self._host.brought(self, slot, length)
            self._measure(lag_s)

    def _hold_a_part(self) -> None:
        slot = self._host.take_slot()
        if slot is None:
            self._loop.call_later(_SLOT_WAIT_S, self._bring)
            return
        part = self._parts.popleft()
        slot.view[: len(part)] = part
        self._held = _Held(slot, len(part), None)

    # -- answers ------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Say what may be said now: a checkpoint within an action, or the status that ends it."""
        if self._action is None or self._asked is not None or self._gone or self._paused:
            return
        if self._wishes and self._action not in ("initialize", "leaseLost"):
            self._asked = self._wishes.popleft()
            position = self._asked.position
            self._write(wire.CHECKPOINT_END if position is None else wire.checkpoint(position))
        elif self._is_done(self._action):
            action, self._action = self._action, None
            self._finished = action in ("shardEnded", "leaseLost")
            self._write(wire.status(action))

    def _is_done(self, action: str) -> bool:
        match action:
            case "processRecords":
                return self._empty or self._draining or (self._may_bring and self._held is None and not self._parts)
            case "shardEnded":
                # Without SHARD_END in the table its children never start, and the daemon asks a
                # processor that has gone, for ever (KCL 3.5.1, ShutdownTask).
                return self._end_stored or self.lost
            case "shutdownRequested":
                return self._left or self.lost
        return True

    def _checkpoint_answered(self, error: str | None) -> None:
        if self._asked is None:
            raise wire.BadLine("the answer to a checkpoint that was not asked for")
        (position, kept), self._asked = self._asked, None
        if error == _LEASE_LOST:
            self._settle(kept, self._not_ours())
            self._lose()
        elif error is not None:
            self._settle(kept, Unavailable(f"the daemon did not checkpoint {self.shard_id}: {error}"))
        else:
            self._end_stored = self._end_stored or position is None
            self._settle(kept, None)

    def _settle(self, kept: asyncio.Future[None], error: Unavailable | None) -> None:
        if kept.done():
            return  # whoever waited has given up
        if error is None:
            kept.set_result(None)
        else:
            kept.set_exception(error)

    def _not_ours(self) -> Unavailable:
        return Unavailable(f"{self.shard_id or 'the shard'} is not ours any more: its next owner checkpoints")

    def _write(self, message: bytes) -> None:
        self._unwritten += message
        self._flush()

    def _flush(self) -> None:
        try:
            self._unwritten = self._unwritten[os.write(self._out, self._unwritten) :]
        except BlockingIOError:
            pass
        except OSError:
            self._unwritten = b""  # the reading side will tell
        if self._unwritten:
            self._loop.add_writer(self._out, self._flush)
        else:
            self._loop.remove_writer(self._out)

    # -- ends -----------------------------------------------------------------------------------

    def _lose(self) -> None:
        if self.lost:
            return
        self.lost = True
        for _, kept in self._wishes:
            self._settle(kept, self._not_ours())
        self._wishes.clear()
        self.drain()
        if not self._left:
            self._host.lost(self)

    def close(self, why: str | None = None) -> None:
        """Give the pipe up. `why`: before its time; the daemon is to notice, and the shard is lost."""
        if self._gone:
            return
        self._gone = True
        for reader in (self._in, self._stub):
            self._loop.remove_reader(reader)
        self._loop.remove_writer(self._out)
        if self._slot is not None:
            self._host.give_back(self._slot)
        if self._asked is not None:
            self._settle(self._asked.kept, self._not_ours())
        self._left = self._left or self._finished
        self._lose()
        # The order matters: the daemon reads its child's output to the end before it waits for the
        # child itself.
        for descriptor in (self._in, self._out):
            os.close(descriptor)
        if why is None:
            self._say_goodbye()
        self._stub.close()
        self._host.closed(self, why)

    def _say_goodbye(self) -> None:
        try:
            self._stub.send(b"0\n")
        except OSError:
            pass  # it has died already
