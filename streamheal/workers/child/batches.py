"""Processors that take many records at once: `process_records`, bisected when it raises.

    8 records fail ─► the first 4 succeed: done ─► 2 fail ─► 1 succeeds: done ─► the next fails alone

What succeeded is done and never runs again; who fails alone is the culprit, and is judged like
any other. Innocents of a failing call may run up to log2(n) times more for each culprit in it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from streamheal.core.halving import Halving
from streamheal.records import Position
from streamheal.workers import wire
from streamheal.workers.arena import SLOT_BYTES
from streamheal.workers.child.failures import Kind, kind_of, positions, refused
from streamheal.workers.child.intents import Intents
from streamheal.workers.child.lanes import Lanes
from streamheal.workers.child.sequential import Sequential
from streamheal.workers.child.spans import Item, Key
from streamheal.workers.child.target import Handler
from streamheal.workers.child.worker import Site, monotonic
from streamheal.workers.journal import CALLS_WORD, DONE, FILTERED, OPEN, RUNNING

_RECORDS_MAX = 500  # of one call: what Kinesis' and most others' bulk calls take
_CAUTIOUS_RECORDS_MAX = 10  # each has to run alone if the host dies in the call


class Batches(Sequential):
    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._runner: asyncio.Runner | None = None
        self._open: Counter[Key] = Counter()  # of this turn's records, by key

    def seated(self, take: wire.Take, handler: Handler) -> Lanes:
        if self.target.stating:
            handler.processor.owed.tell = lambda place, owes: self._state(take.seat, place, owes)
        return super().seated(take, handler)

    def _state(self, seat: int, place: tuple[int, int] | None, owes: bool) -> None:
        sequence, sub_sequence = (None, 0) if place is None else (str(place[0]), place[1])
        self.link.send(wire.Stated(seat, sequence, sub_sequence, owes))

    def obey(self, message: wire.ToWorker) -> None:
        if self.target.stating and isinstance(message, wire.Give):
            processor = self.lanes[message.seat].handler.processor
            processor.behind(self.arena[message.slot * SLOT_BYTES :][: message.length])
        super().obey(message)

    def finish(self, returned: object) -> object:
        """A processor may be `async` here, too: its loop is its own, and runs while it does."""
        if not hasattr(returned, "__await__"):
            return returned
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(awaited(returned))

    def turn(self, lanes: Lanes) -> bool:
        items = self._gather(lanes) if lanes.intents is None else self._permitted(lanes, lanes.intents)
        self._open = Counter(key for _, _, _, key in items)
        items = self._only_wanted(lanes, items)
        while items:
            items = self._run_to_culprit(lanes, items)
        if lanes.intents is not None:
            lanes.intents.all_over()
        return True

    # -- what goes into a call -------------------------------------------------------------

    def _gather(self, lanes: Lanes) -> list[Item]:
        """What may run now: records told to run again, else fresh ones, a key's in their order."""
        cautious = lanes.intents is not None
        most = 1 if lanes.one_at_a_time else _CAUTIOUS_RECORDS_MAX if cautious else _RECORDS_MAX
        following = lanes.pull if cautious else lanes.next
        items: list[Item] = []
        if lanes.forced:
            while lanes.forced and len(items) < most:
                items.append(lanes.forced.popleft())
            return items
        mine: set[Key] = set()
        while len(items) < most and (item := following(mine)) is not None:
            while item is not None:
                items.append(item)
                mine.add(item[3])
                item = lanes.next_queued(item[3]) if len(items) < most else None
        return items

    def _permitted(self, lanes: Lanes, intents: Intents) -> list[Item]:
        """A call's records that the host has permitted; if there are none, ask for the next call's."""
        if not intents.permitted and intents.room and (items := self._gather(lanes)):
            intents.ask(items)
        items = []
        while intents.permitted:
            items.append(intents.begin())
        return items

    def _only_wanted(self, lanes: Lanes, items: list[Item]) -> list[Item]:
        """Ask `wants` (and a `key` that raised, again) of each record by itself."""
        if lanes.handler.wants is None and lanes.handler.key is None:
            return items
        wanted: list[Item] = []
        while items:
            item, items = items[0], items[1:]
            key, began = item[3], monotonic()
            if any(other[3] == key for other in wanted) and item[1] in item[0].keyless:
                # It will fail, and must not before those of its key that come first.
                items = self._put_back(lanes, key, [item, *items])
                continue
            try:
                filtered = not self._ask(lanes, item)
            except BaseException as error:
                self.link.check_not_forked()
                items = self._fail(lanes, item, self._failure(lanes, item, error, began), items)
                continue
            if filtered:
                self._settle(lanes, item, filtered=True)
            else:
                wanted.append(item)
        return wanted

    def _ask(self, lanes: Lanes, item: Item) -> bool:
        handler, (span, nth, record, _) = lanes.handler, item
        mark = span.mark(nth)
        self.new_attempt()
        self.journal.marks[mark] = RUNNING
        if nth in span.keyless and handler.key is not None:
            handler.key(record)
        wanted = handler.wants is None or bool(handler.wants(record))
        self.journal.marks[mark] = OPEN if wanted else FILTERED
        return wanted

    # -- calls ---------------------------------------------------------------------------

    def _run_to_culprit(self, lanes: Lanes, items: list[Item]) -> list[Item]:
        """Call, and where that fails, halve. Returns what is left to run once somebody was found."""
        halving = Halving(0, len(items) - 1)
        while (bounds := halving.next_run()) is not None:
            first, last = bounds
            part, began = items[first : last + 1], monotonic()
            try:
                returned = self._call(lanes, part)
            except BaseException as error:
                self.link.check_not_forked()
                if self._throttled(lanes, error):
                    return self._fail_all(lanes, items[first:], error, began)
                culprit = halving.ran(False)
                if culprit is not None:
                    failure = self._failure(lanes, items[culprit], error, began)
                    return self._fail(lanes, items[culprit], failure, items[culprit + 1 :])
                continue
            sick = [item for item in part if item[2].position in returned] if returned else []
            if len(sick) < len(part):
                self._succeeded(lanes, began)
            for item in part:
                if item not in sick:
                    self._settle(lanes, item, filtered=False)
            if sick:
                return self._refused(lanes, sick, items[last + 1 :], began)
            halving.ran(True)
        return []

    def _call(self, lanes: Lanes, part: list[Item]) -> set[Position]:
        """One call; returns what the processor gave back as failed. The marks say who is in it."""
        marks, words = self.journal.marks, self.journal.words
        at = [span.mark(nth) for span, nth, _, _ in part]
        self.new_attempt()
        words[CALLS_WORD] += 1
        for mark in at:
            marks[mark] = RUNNING
        try:
            returned = positions(self.finish(lanes.handler.call([record for _, _, record, _ in part])))
        except BaseException:
            self.link.check_not_forked()
            for mark in at:
                marks[mark] = OPEN
            raise
        for mark, item in zip(at, part, strict=True):
            marks[mark] = OPEN if returned and item[2].position in returned else DONE
        return returned

    def _throttled(self, lanes: Lanes, error: BaseException) -> bool:
        return kind_of(error, lanes.handler.poison, lanes.handler.throttled).cause == "THROTTLED"

    def _succeeded(self, lanes: Lanes, began: float) -> None:
        if began > lanes.took.due:  # calls come one at a time
            lanes.took.begins(began)
            lanes.took.tell(began, monotonic())
        if lanes.witnesses.timing:
            lanes.witnesses.succeeded(began)
        else:
            lanes.witnesses.began, lanes.witnesses.ended = began, monotonic()

    # -- what became of records ------------------------------------------------------------

    def _settle(self, lanes: Lanes, item: Item, *, filtered: bool) -> None:
        span, nth, _, key = item
        lanes.settle_one(span, nth, filtered)
        self._less_open(lanes, key, 1)

    def _less_open(self, lanes: Lanes, key: Key, records: int) -> None:
        self._open[key] -= records
        if not self._open[key]:
            lanes.leave(key)

    def _fail(self, lanes: Lanes, item: Item, failure: wire.Failure, later: list[Item]) -> list[Item]:
        """Block its lane; those of its key that were to run after it wait there. Returns the others."""
        span, nth, _, key = item
        lanes.put_back(key, [other for other in later if other[3] == key])
        lanes.failed(span, nth, key, failure)
        return [other for other in later if other[3] != key]

    def _put_back(self, lanes: Lanes, key: Key, items: list[Item]) -> list[Item]:
        same = [other for other in items if other[3] == key]
        lanes.put_back(key, same)
        self._less_open(lanes, key, len(same))
        return [other for other in items if other[3] != key]

    def _failure(self, lanes: Lanes, item: Item, error: BaseException, began: float) -> wire.Failure:
        ended = self._found(item)
        return lanes.failure(item, error, began=began, ended=ended, log=self.tail.take())

    def _found(self, item: Item) -> float:
        """Its call is over. To tell of it is user code again (`__str__`, a mask), and may kill or hang: say whose."""
        ended = monotonic()
        self.journal.words[CALLS_WORD] += 1
        self.journal.marks[item[0].mark(item[1])] = RUNNING
        return ended

    def _fail_all(self, lanes: Lanes, items: list[Item], error: BaseException, began: float) -> list[Item]:
        """The world is busy: to look for a culprit would only make it busier."""
        while items:
            items = self._fail(lanes, items[0], self._failure(lanes, items[0], error, began), items[1:])
        return []

    def _refused(self, lanes: Lanes, sick: list[Item], rest: list[Item], began: float) -> list[Item]:
        """The processor returned these as failed; the others of the call are done."""
        raised, ended, left = refused(self.tail.take()), monotonic(), [*sick, *rest]
        while left and left[0] in sick:
            self._found(left[0])
            failure = lanes.failure_in_words(left[0], Kind("exception", "RAISED"), raised, began=began, ended=ended)
            left = self._fail(lanes, left[0], failure, left[1:])
        return left


async def awaited(returned: Any) -> Any:
    return await returned
