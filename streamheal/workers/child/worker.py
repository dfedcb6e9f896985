"""What every kind of worker has in common: shards come, are given spans, and leave."""

from __future__ import annotations

import os
import sys
import time
import traceback
from typing import NamedTuple, NoReturn

from streamheal.records import Shard
from streamheal.workers import wire
from streamheal.workers.child.failures import describe
from streamheal.workers.child.given import Means
from streamheal.workers.child.lanes import Lanes
from streamheal.workers.child.link import Link
from streamheal.workers.child.spans import Item, Tickets
from streamheal.workers.child.target import Handler, Target
from streamheal.workers.child.tee import Tail
from streamheal.workers.decode import decoder
from streamheal.workers.journal import Journal

monotonic = time.monotonic


class Site(NamedTuple):
    """What the process was started with."""

    link: Link
    arena: memoryview
    journal: Journal
    target: Target
    dump: int


class Worker:
    """Carries out the host's messages. Subclasses run what the lanes hold, each in its way."""

    def __init__(self, site: Site) -> None:
        self.link, self.journal, self.target = site.link, site.journal, site.target
        self.tail = Tail(self.attempt)  # of what is printed outside of any lane
        self.lanes: dict[int, Lanes] = {}
        self.arena, self.dump = site.arena, site.dump
        self._tickets = Tickets()

    def run(self, first: wire.Take) -> None:
        raise NotImplementedError(f"{type(self).__name__} runs nothing")

    def attempt(self) -> object:
        """Names what runs now, for whoever prints."""
        return self

    def at_once(self, seat: int) -> tuple[int, list[Item]]:
        """How many records of the shard run at once at most, and what runs of it now."""
        return 1, []  # messages are read between records

    def seated(self, take: wire.Take, handler: Handler) -> Lanes:
        """The processor is initialized: its shard's lanes may be given to."""
        means = Means(decoder(take.shard_id), self.arena, self.journal, self._tickets, self.link.send)
        lanes = self.lanes[take.seat] = Lanes(take, handler, self.target.facts.ordering, means)
        self.link.send(wire.Ready(take.seat))
        return lanes

    def unready(self, take: wire.Take, error: BaseException, began: float, handler: Handler | None) -> None:
        raised = self.in_words(error, handler)
        self.link.send(wire.Unready(take.seat, began, monotonic(), raised))

    def in_words(self, error: BaseException, handler: Handler | None) -> wire.Raised:
        mask_text = handler.mask_text if handler else None
        return describe(error, "exception", log=self.tail.take(), mask_text=mask_text)

    def ended(self, end: wire.End, error: BaseException | None, began: float) -> None:
        lanes = self.lanes.pop(end.seat)
        raised = None if error is None else self.in_words(error, lanes.handler)
        self.link.send(wire.Ended(end.seat, began, monotonic(), raised))

    def give_up(self, error: BaseException | None = None) -> NoReturn:
        """Something is wrong with ourselves: die loudly rather than be waited for."""
        self.link.check_not_forked()
        traceback.print_exception(error) if error is not None else traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)

    def obey(self, message: wire.ToWorker) -> None:
        """Carry out a message that needs no user code but `key`."""
        match message:
            case wire.Give():
                self.lanes[message.seat].give(message)
            case wire.Regive():
                self.lanes[message.seat].regive(message)
            case wire.Limit(seat, starts):
                self.lanes[seat].limit_to(starts)
            case wire.Again():
                self.lanes[message.seat].again(message)
            case wire.Settled(seat, span, nth):
                self.lanes[seat].settled(span, nth)
            case wire.Curious(seat, wanted):
                self.lanes[seat].witnesses.curious(wanted)
            case wire.Ping(seat):
                self.link.send(wire.Heeded(seat))
            case wire.Drain(seat):
                self.lanes[seat].drain()
                self.link.send(wire.Drained(seat))
            case wire.Cautious(seat, wanted):
                self.lanes[seat].be_cautious(wanted, *self.at_once(seat))
            case wire.Permit(seat, span, nth):
                if intents := self.lanes[seat].intents:
                    intents.permit((span, nth))
            case wire.Leave(seat):
                self.lanes.pop(seat, None)
            case _:
                raise AssertionError(f"{type(message).__name__} came to a worker")


def make_handler(target: Target, take: wire.Take | wire.Alone) -> Handler:
    handler = Handler(target, Shard(shard_id=take.shard_id, stream=take.stream))
    if target.stating and take.after is not None:
        handler.processor.owed.after = int(take.after[0]), take.after[1]
    return handler
