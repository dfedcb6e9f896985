"""One shard's records in this process, in lanes: where the records of a key are put in order.

    span ──► key free? ──► runs ──► done                 next of its lane
              │ no           └──► failed: the lane blocks, then the host hears of it
              ▼
            queued behind it, for as long as it takes

The host never queues records and never learns the keys of clean ones. Of the head of a blocked
lane it only says "again" or "settled". Nothing of one key can overtake another that way, in
whatever order messages cross.

An uncontended key is only an entry in `busy`; a `Lane` is made when somebody queues or fails.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Container

from streamheal.records import Record
from streamheal.workers import wire
from streamheal.workers.child.failures import Kind, describe, kind_of
from streamheal.workers.child.given import GivenSpans, Means
from streamheal.workers.child.intents import ALL, Intents
from streamheal.workers.child.spans import Item, Key, Lane, Span
from streamheal.workers.child.target import Handler
from streamheal.workers.child.took import Took
from streamheal.workers.child.witnesses import Witnesses
from streamheal.workers.journal import FAILED, KEYING

_FREE = object()


class Lanes(GivenSpans):
    """Everything of one shard. Runners call `next`, `done` and `failed`; messages come by the rest.

    In a process with several threads all calls are made under one mutex.
    """

    def __init__(self, take: wire.Take, handler: Handler, ordering: str, means: Means) -> None:
        super().__init__(take.seat, means)
        self.handler = handler
        self.ordering = ordering
        self.limit = take.limit
        # Nothing but fresh records to run, by their partition keys, as many as there are: the
        # way of nearly all records, kept short.
        self.plain = False
        self._by_partition_key = ordering == "key" and handler.key is None
        self.one_at_a_time = take.lanes_max == 1
        self.ready: deque[Item] = deque()  # heads of lanes, to be started as the limit allows
        self.forced: deque[Item] = deque()  # told to run again, whatever the limit
        self.busy: dict[Key, Lane | None] = {}
        self.took = Took(take.seat, means.send)
        self.draining = False
        self.witnesses = Witnesses(take.seat, means.send)
        self.intents: Intents | None = None  # in cautious mode
        self._one_lane = False  # see `intents.ALL`

    # -- what the host says --------------------------------------------------------------

    def again(self, again: wire.Again) -> None:
        """Run a blocked record again, in its lane. One not yet come to is simply no longer held."""
        found = self.heads.pop((again.span, again.nth), None)
        if found is None:
            span = self._known[again.span]
            span.hold.discard(again.nth)
            span.again[again.nth] = again.record
            return
        key, lane = found
        assert lane.head is not None
        span = lane.head[0]
        self._unblock(lane)
        span.able += 1
        self.forced.append((span, again.nth, again.record, key))
        self.plain = False

    def settled(self, span_number: int, nth: int) -> None:
        """A blocked record is settled: its lane goes on with the next."""
        found = self.heads.pop((span_number, nth), None)
        if found is None:
            span = self._known[span_number]
            span.hold.discard(nth)
            span.skip.add(nth)
            span.named = True
            return
        key, lane = found
        assert lane.head is not None
        self._drop_ticket(lane.head[0], nth)
        self._unblock(lane)
        item = self._advance(key, lane)
        if item is not None:
            self.make_ready(item)

    def limit_to(self, starts: int | None) -> None:
        self.limit, self.plain = starts, False

    def drain(self) -> None:
        """Nothing more starts here: another process will be given it all."""
        self.limit_to(0)
        self.forced.clear()
        self.draining = True

    def be_cautious(self, wanted: bool, size: int, running: list[Item]) -> None:
        """See `Intents`."""
        self.plain = False
        if wanted and self.intents is None:
            # Not while there are other lanes: what is open in them would be overtaken.
            self._one_lane |= self.ordering == "key" and self.handler.key is not None and not self.busy
            self.intents = Intents(self, size, running, self._send)
        elif not wanted and self.intents is not None:
            self.forced.extend(self.intents.let_go())
            self.intents = None

    def make_ready(self, item: Item) -> None:
        """Its lane is free for it: it is among the next to run."""
        self.ready.append(item)
        self.plain = False

    # -- what a runner asks ----------------------------------------------------------------

    @property
    def clean(self) -> bool:
        """Nothing is out of the ordinary, so that records may run one after another, unmarked but for one word."""
        return not (
            self.busy or self.forced or self.ready or self.witnesses.timing or self.limit is not None
            or self.handler.wants is not None or self.handler.key is not None or self.intents is not None
        )  # fmt: skip

    @property
    def plain_span(self) -> Span | None:
        """Whose next records may run by their partition keys, marked in its page, without asking here. None: ask."""
        if self.plain and self.spans and (span := self.spans[0]).slow and not span.named and span.tickets is None:
            return span
        return None

    def passed(self, span: Span) -> None:
        """Whoever ran its records has come to its end."""
        if self.spans and self.spans[0] is span:
            self.spans.popleft()

    @property
    def waiting(self) -> bool:
        """Whether `next` may have something."""
        if self.draining:
            return False
        some = bool(self.forced or self.spans or (self.ready and self.limit != 0))
        intents = self.intents
        return some if intents is None else intents.permitted or (some and intents.room)

    def next(self, mine: Container[Key] = ()) -> Item | None:
        """The next record that may run now. `mine`: keys held by the caller, who takes more of them."""
        if self.plain and not mine:
            return self._pull_plain()
        if self.draining:
            return None  # not what was permitted, either
        if self.intents is not None:
            return self.intents.next()
        return self.pull(mine)

    def pull(self, mine: Container[Key] = ()) -> Item | None:
        """As `next`, whether it is permitted or not."""
        if self.forced:
            return self.forced.popleft()
        if self.limit is None:
            if self.ready:
                return self.ready.popleft()
            self.plain = self._by_partition_key and self.intents is None
            return self._pull(mine)
        if self.limit <= 0:
            if not self.draining:
                self.dispatch()
            return None
        item = self.ready.popleft() if self.ready else self._pull(mine)
        if item is not None:
            self.limit -= 1
        return item

    def dispatch(self) -> None:
        """Put all that was given into lanes, without starting any: heads that the host holds block there."""
        while (item := self._pull()) is not None:
            self.make_ready(item)

    def _pull_plain(self) -> Item | None:
        """As `_pull` does, where no record is out of the ordinary."""
        busy = self.busy
        while self.spans:
            span = self.spans[0]
            if span.named or not span.slow:
                return self._pull()
            for nth, record in span.todo:
                key = record.partition_key
                if key not in busy:
                    busy[key] = None
                    return span, nth, record, key
                self.queue(key, span, nth, record)
            self.spans.popleft()
        return None

    def _pull(self, mine: Container[Key] = ()) -> Item | None:
        """The next record whose key is free; those whose key is not are queued on the way."""
        busy = self.busy
        while self.spans:
            span = self.spans[0]
            if not span.slow:
                self.slow_down(span, span.start)
            for nth, record in span.todo:
                if nth in span.skip:
                    self._dropped(span, nth)
                    continue
                key = self.key_of(span, nth, record)
                lane = busy.get(key, _FREE)
                if lane is None and mine and key in mine and nth not in span.hold and nth not in span.ask:
                    return span, nth, span.as_told(nth, record), key
                if lane is not _FREE:
                    self.queue(key, span, nth, record)
                elif (span.hold and nth in span.hold) or (span.ask and nth in span.ask):
                    busy[key] = lane = Lane()
                    self._block_unrun(span, nth, key, lane)
                else:
                    busy[key] = None
                    return span, nth, span.as_told(nth, record), key
            self.spans.popleft()
        return None

    def key_of(self, span: Span, nth: int, record: Record) -> Key:
        """The record's lane. While a processor's own `key` runs, the record counts as running.

        One whose `key` raises goes by its partition key, and fails when its turn comes; so does
        one whose `key` killed a process or hung in it, which a cell will show again.
        """
        if self.ordering == "shard":
            return ""
        if self.ordering == "none":
            return span.number, nth
        if self._one_lane:
            span.keyless.add(nth)
            return ALL
        if self.handler.key is None or nth in span.keyless:
            return record.partition_key
        mark = span.mark(nth)
        before = self.journal.marks[mark]
        self.journal.marks[mark] = KEYING
        try:
            return str(self.handler.key(record))
        except BaseException:
            span.keyless.add(nth)
            return record.partition_key
        finally:
            self.journal.marks[mark] = before

    def queue(self, key: Key, span: Span, nth: int, record: Record) -> None:
        lane = self.busy[key]
        if lane is None:
            lane = self.busy[key] = Lane()
        lane.queue.append((span, nth, record))
        if lane.blocked:
            lane.waiting += 1
            lane.since += time.monotonic()
        if span.tickets is None:
            lane.pending[span] = lane.pending.get(span, 0) + 1
            if lane.blocked:
                self._unable(span, 1)

    def done(self, span: Span, nth: int, key: Key, filtered: bool) -> Item | None:
        """The record is done and marked so. Returns the next of its lane, if it may run now."""
        if self.intents is not None:
            self.intents.over((span.number, nth))
        if span.known and nth in span.known:
            self._send(wire.Succeeded(self.seat, span.number, nth, filtered))
            self._drop_ticket(span, nth)
        span.able -= 1
        if not span.able:
            self.report(span)
        lane = self.busy[key]
        if lane is None:
            del self.busy[key]
            return None
        item = self._advance(key, lane)
        if item is None or (self.limit is None and self.intents is None):
            return item
        self.make_ready(item)
        return None

    # A batch holds several records of a key at once, and finishes with them one by one.

    def next_queued(self, key: Key) -> Item | None:
        """The next in the queue of a lane whose head the caller has, where it may run too."""
        lane = self.busy[key]
        if lane is None or not lane.queue or self.limit is not None:
            return None
        span, nth, record = lane.queue[0]
        if nth in span.hold or nth in span.ask or nth in span.skip:
            return None
        lane.unqueued(span)
        lane.queue.popleft()
        return span, nth, span.as_told(nth, record), key

    def settle_one(self, span: Span, nth: int, filtered: bool) -> None:
        """As `done`, but its lane is not left yet."""
        if span.known and nth in span.known:
            self._send(wire.Succeeded(self.seat, span.number, nth, filtered))
            self._drop_ticket(span, nth)
        self._unable(span, 1)

    def leave(self, key: Key) -> None:
        """The caller has nothing of this lane any more."""
        lane = self.busy[key]
        if lane is None:
            del self.busy[key]
        elif (item := self._advance(key, lane)) is not None:
            self.make_ready(item)

    def put_back(self, key: Key, items: list[Item]) -> None:
        """Records that were to run come first in their lane's queue again."""
        lane = self.busy[key]
        if lane is None and items:
            lane = self.busy[key] = Lane()
        for span, nth, record, _ in reversed(items):
            assert lane is not None
            lane.queue.appendleft((span, nth, record))
            if span.tickets is None:
                lane.pending[span] = lane.pending.get(span, 0) + 1

    def failed(self, span: Span, nth: int, key: Key, failure: wire.Failure) -> None:
        """Block the lane, tell the host, mark: in this order, or a quick answer would find no blocked lane."""
        lane = self.busy.get(key)
        if lane is None:
            lane = self.busy[key] = Lane()
        span.known.add(nth)
        lane.block((span, nth), time.monotonic())
        self.heads[span.number, nth] = key, lane
        failure.since, failure.until = self.witnesses.last(failure.ended)
        self.witnesses.trouble()
        self._send(failure)
        self.journal.marks[span.mark(nth)] = FAILED
        if self.intents is not None:
            self.intents.over((span.number, nth))
        self._unable_lane(span, lane)

    def _block_unrun(self, span: Span, nth: int, key: Key, lane: Lane) -> None:
        """The head of this lane is the host's: given so (`hold`), or to be told of first (`ask`)."""
        lane.block((span, nth), time.monotonic())
        self.heads[span.number, nth] = key, lane
        span.known.add(nth)
        if nth in span.ask:
            span.ask.discard(nth)
            now = time.monotonic()
            since, until = self.witnesses.last(now)
            self._send(wire.Failure(self.seat, span.number, nth, "SUSPECTED", now, now, since=since, until=until))
        span.hold.discard(nth)
        self._unable_lane(span, lane)

    def _advance(self, key: Key, lane: Lane) -> Item | None:
        """The next of a lane, now that its head has left it; None: it is empty, or blocked again."""
        lane.head = None
        while lane.queue:
            span, nth, record = lane.queue.popleft()
            lane.unqueued(span)
            if nth in span.skip:
                self._dropped(span, nth)
            elif nth in span.hold or nth in span.ask:
                self._block_unrun(span, nth, key, lane)
                return None
            else:
                return span, nth, span.as_told(nth, record), key
        del self.busy[key]
        return None

    def _unblock(self, lane: Lane) -> None:
        if waited_s := lane.unblock(time.monotonic()):
            self._send(wire.Waited(self.seat, waited_s))
        for span, queued in lane.pending.items():
            span.able += queued

    def _unable_lane(self, span: Span, lane: Lane) -> None:
        for other, queued in list(lane.pending.items()):
            if other is not span:
                self._unable(other, queued)
        self._unable(span, 1 + lane.pending.get(span, 0))

    # -- failures ------------------------------------------------------------------------

    def failure(self, item: Item, error: BaseException, *, began: float, ended: float, log: str | None) -> wire.Failure:
        """The failure of one try, in words. User code (masks) runs here: call it without the mutex."""
        handler = self.handler
        kind = kind_of(error, handler.poison, handler.throttled)
        raised = describe(error, kind.outcome, log=log, mask_text=handler.mask_text)
        return self.failure_in_words(item, kind, raised, began=began, ended=ended)

    def failure_in_words(
        self, item: Item, kind: Kind, raised: wire.Raised, *, began: float, ended: float
    ) -> wire.Failure:
        span, nth, record, _ = item
        masked = self.handler.masked(record)
        return wire.Failure(self.seat, span.number, nth, kind.cause, began, ended, kind.retry_after_s, raised, masked)
