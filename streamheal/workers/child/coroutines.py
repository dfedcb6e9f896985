"""Coroutine functions: up to `concurrency` records of a shard at once, a key's one after another.

Each lane is a task that runs record after record; a task a record would cost more than most
handlers, and keep no order.
"""

from __future__ import annotations

import asyncio
import os
import select
import selectors
from typing import Any

from streamheal import platform
from streamheal.workers import wire
from streamheal.workers.child.failures import Kind, overran
from streamheal.workers.child.intents import Steps
from streamheal.workers.child.lanes import Lanes
from streamheal.workers.child.spans import Item, Span
from streamheal.workers.child.stacks import stack_text, write_stack
from streamheal.workers.child.target import Handler
from streamheal.workers.child.tee import Tail, set_lane
from streamheal.workers.child.worker import Site, Worker, make_handler, monotonic
from streamheal.workers.frames import task_title
from streamheal.workers.journal import DONE, FILTERED, RUNNING

# A processor that never waits must not starve the loop: other lanes, and messages.
_BREATH_S = 0.02


class FineSelector(selectors.DefaultSelector):
    """Waits for microseconds where epoll counts whole milliseconds, rounded up.

    `select` on epoll's own descriptor does: with a 5 ms handler that is 92 times the sequential
    speed in 100 lanes, instead of 77.
    """

    def __init__(self) -> None:
        super().__init__()
        # Out of reach of user code that closes what it takes for left-over descriptors.
        mine: Any = self
        low, kind = mine._selector, type(mine._selector)
        if hasattr(kind, "fromfd"):
            mine._selector = kind.fromfd(platform.high_descriptor(os.dup(low.fileno())))
            low.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and 0 < timeout < 0.1 and hasattr(self, "fileno"):
            fd = self.fileno()
            if fd < 1024:  # select's own limit
                select.select((fd,), (), (), timeout)
                timeout = 0
        return super().select(timeout)


class Crew:
    """The lanes of one shard, and those of them that have nothing to do."""

    def __init__(self, lanes: Lanes, size: int) -> None:
        self.lanes, self.size = lanes, size
        self.current: list[Item | None] = [None] * size
        self.stepping: dict[int, Any] = {}  # coroutines that are resumed step by step, by lane
        self.idle: list[asyncio.Future[None]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.hung: dict[int, tuple[Item, str]] = {}  # by lane: what was cancelled, and where it waited
        self.waking = False
        self.over = False

    def coroutine(self, number: int) -> Any:
        """What this lane awaits."""
        return self.stepping.get(number) or self.tasks[number].get_coro()

    def rouse(self) -> None:
        """Wake one idle lane; it wakes the next when it has found work. All at once costs more than the records."""
        if self.idle and not self.waking and self.lanes.waiting:
            self.waking = True
            self.idle.pop().set_result(None)


class Coroutines(Worker):
    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._crews: dict[int, Crew] = {}
        self._chores: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop

    def run(self, first: wire.Take) -> None:
        self._loop = asyncio.SelectorEventLoop(FineSelector())
        asyncio.set_event_loop(self._loop)
        self._loop.add_reader(self.link.fileno(), self._read_all)
        self._heed(first)
        try:
            self._loop.run_forever()
        except BaseException:
            # A task of the processor's own raised SystemExit. Lanes must not be cancelled, as
            # asyncio would: their records have done nothing.
            self.give_up()

    # -- messages ------------------------------------------------------------------------

    def _read_all(self) -> None:
        try:
            while (message := self.link.receive(wait=False)) is not None:
                self._heed(message)
        except BaseException:
            self.give_up()  # asyncio would log it and go on

    def _heed(self, message: wire.ToWorker) -> None:
        match message:
            case wire.Take():
                self._chore(self._take(message))
            case wire.End():
                self._chore(self._end(message))
            case wire.Show(seat, span, nth):
                self._show(self._crews[seat], span, nth)
            case wire.Cancel(seat, span, nth):
                self.link.send(wire.Heeded(seat))
                if seat in self._crews:
                    self._cancel(self._crews[seat], span, nth)
            case wire.Leave(seat):
                self.obey(message)
                self._crews.pop(seat).over = True
            case wire.Go() | wire.Alone():
                raise AssertionError(f"{type(message).__name__} came to a worker")
            case _:
                self.obey(message)
                if crew := self._crews.get(message.seat):
                    crew.rouse()

    def _chore(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    async def _take(self, take: wire.Take) -> None:
        began, handler = monotonic(), None
        set_lane(self.tail)
        try:
            handler = make_handler(self.target, take)
            await finished(handler.initialize())
        except BaseException as error:
            self.link.check_not_forked()
            self.unready(take, error, began, handler)
            return
        lanes = self.seated(take, handler)
        crew = self._crews[take.seat] = Crew(lanes, take.lanes_max or self.target.facts.concurrency)
        for number in range(crew.size):
            crew.tasks.append(self._loop.create_task(self._lane(crew, number)))
            crew.tasks[-1].add_done_callback(lambda lane: None if crew.over else self.give_up(lane.exception()))

    async def _end(self, end: wire.End) -> None:
        began, failed = monotonic(), None
        crew = self._crews.pop(end.seat)
        crew.over = True
        set_lane(self.tail)
        try:
            await finished(crew.lanes.handler.hook(end.hook))
        except BaseException as error:
            self.link.check_not_forked()
            failed = error
        self.ended(end, failed, began)

    def at_once(self, seat: int) -> tuple[int, list[Item]]:
        crew = self._crews[seat]
        return crew.size, [item for item in crew.current if item is not None]

    # -- records -------------------------------------------------------------------------

    async def _lane(self, crew: Crew, number: int) -> None:
        """Run record after record."""
        lanes, current = crew.lanes, crew.current
        simple = lanes.handler.wants is None and lanes.handler.key is None
        tail = Tail(lambda: current[number])
        set_lane(tail)
        task = asyncio.current_task()
        assert task is not None
        breathe_at = monotonic() + _BREATH_S
        item: Item | None = None
        while not crew.over:
            if item is None and simple and (span := lanes.plain_span) is not None:
                item = await self._run_plainly(crew, number, span, breathe_at, tail)
            elif item is None and (item := lanes.next()) is None:
                current[number] = None
                await self._rest(crew)
                continue
            elif lanes.intents is not None:
                await self._run_cautiously(crew, number, item, tail)
                item = None
                continue
            else:
                item = await self._run_one(crew, number, item, tail)
            if task.cancelling() or monotonic() > breathe_at:
                current[number] = None
                await _not_cancelled()
                breathe_at = monotonic() + _BREATH_S
                if item is not None and lanes.intents is not None:
                    lanes.make_ready(item)  # it has to be asked for by now
                    item = None

    async def _run_plainly(self, crew: Crew, number: int, span: Span, breathe_at: float, tail: Tail) -> Item | None:
        """Run one plain record after another, until there is anything to look at; returns what is to run next.

        It comes to the same as `Lanes.next`, `_run_one` and `Lanes.done`. What a clean record needs
        stands here, not in calls: each would be felt.
        """
        lanes, current, busy, idle = crew.lanes, crew.current, crew.lanes.busy, crew.idle
        call, marks, base = lanes.handler.call, self.journal.marks, span.base
        witnesses, took = lanes.witnesses, lanes.took
        task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling
        for nth, record in span.todo:
            if (key := record.partition_key) in busy:
                lanes.queue(key, span, nth, record)
                continue
            busy[key] = None
            current[number] = span, nth, record, key
            marks[base + nth] = RUNNING
            if idle and not crew.waking:
                crew.rouse()
            began = monotonic()
            if sampled := began > took.due:
                took.begins(began)
            try:
                await call(record)
                marks[base + nth] = DONE
            except BaseException as error:
                await self._failed(crew, number, error, began, tail)
                return None
            if sampled:
                took.tell(began, monotonic())
            if witnesses.timing:
                witnesses.succeeded(began)
            else:
                witnesses.began, witnesses.ended = began, None
            if busy[key] is not None or span.known:
                return lanes.done(span, nth, key, False)
            # What that comes to for a record that nobody knows and nobody waits for.
            del busy[key]
            span.able -= 1
            if not span.able:
                lanes.report(span)
            if began > breathe_at or cancelling() or not lanes.plain or span.named or crew.over:
                return None
        lanes.passed(span)
        return None

    async def _run_one(self, crew: Crew, number: int, item: Item, tail: Tail) -> Item | None:
        """Run one record, whatever it is; returns what is to run next in its lane."""
        lanes, (span, nth, _, key) = crew.lanes, item
        crew.rouse()
        crew.current[number] = item
        mark = span.mark(nth)
        self.journal.marks[mark] = RUNNING
        began = monotonic()
        if sampled := began > lanes.took.due:
            lanes.took.begins(began)
        try:
            filtered = await self._unwanted(lanes.handler, item)
            self.journal.marks[mark] = FILTERED if filtered else DONE
        except BaseException as error:
            await self._failed(crew, number, error, began, tail)
            return None
        if not filtered:
            if sampled:
                lanes.took.tell(began, monotonic())
            lanes.witnesses.saw(began)
        return lanes.done(span, nth, key, filtered)

    async def _failed(self, crew: Crew, number: int, error: BaseException, began: float, tail: Tail) -> None:
        self.link.check_not_forked()
        item = crew.current[number]
        assert item is not None
        span, nth, _, key = item
        crew.lanes.failed(span, nth, key, self._failure(crew, number, error, began, tail.take()))
        crew.current[number] = None
        await _not_cancelled()

    async def _run_cautiously(self, crew: Crew, number: int, item: Item, tail: Tail) -> None:
        """One record, with a mark for as long as its coroutine is being resumed."""
        lanes, (span, nth, _, key) = crew.lanes, item
        crew.rouse()
        crew.current[number] = item
        mark = span.mark(nth)
        self.journal.marks[mark] = RUNNING
        began = monotonic()
        coroutine = self._unwanted(lanes.handler, item)
        crew.stepping[number] = coroutine
        try:
            filtered = await Steps(coroutine, self.journal.words, mark)
        except BaseException as error:
            self.link.check_not_forked()
            lanes.failed(span, nth, key, self._failure(crew, number, error, began, tail.take()))
        else:
            self.journal.marks[mark] = FILTERED if filtered else DONE
            if not filtered:
                lanes.witnesses.saw(began)
            if (following := lanes.done(span, nth, key, filtered)) is not None:
                lanes.make_ready(following)
        crew.current[number] = None
        del crew.stepping[number]
        await _not_cancelled()

    def _failure(self, crew: Crew, number: int, error: BaseException, began: float, log: str | None) -> wire.Failure:
        lanes, item, ended = crew.lanes, crew.current[number], monotonic()
        assert item is not None
        hung, stack = crew.hung.pop(number, (None, ""))
        if hung is not item:
            return lanes.failure(item, error, began=began, ended=ended, log=log)
        raised = overran(error, stack, ended - began, log=log, mask_text=lanes.handler.mask_text)
        return lanes.failure_in_words(item, Kind("deadline", "OVERRAN"), raised, began=began, ended=ended)

    async def _unwanted(self, handler: Handler, item: Item) -> bool:
        """Run one record of a processor with `wants` or `key`. True: it did not want the record."""
        span, nth, record, _ = item
        if nth in span.keyless and handler.key is not None:
            handler.key(record)
        if handler.wants is not None and not handler.wants(record):
            return True
        await handler.call(record)
        return False

    async def _rest(self, crew: Crew) -> None:
        """Until there is something to do, for one lane of us."""
        if len(crew.idle) == crew.size - 1:
            crew.lanes.witnesses.tell()
        wake = self._loop.create_future()
        crew.idle.append(wake)
        try:
            await wake
        except asyncio.CancelledError:
            # User code kept our task and cancelled it after its record was done.
            if not wake.done() or wake.cancelled():
                crew.idle[:] = [other for other in crew.idle if other is not wake]
            await _not_cancelled()
        crew.waking = False

    # -- past the deadline ---------------------------------------------------------------

    def _lane_of(self, crew: Crew, span: int, nth: int) -> int | None:
        """Which lane runs the record now."""
        for number, item in enumerate(crew.current):
            if item is not None and (item[0].number, item[1]) == (span, nth):
                settled = item[0].tickets is not None and nth not in item[0].tickets
                return number if not settled and self.journal.marks[item[0].mark(nth)] == RUNNING else None
        return None

    def _show(self, crew: Crew, span: int, nth: int) -> None:
        """Write where this record waits: a coroutine that waits is on no thread's stack."""
        if (number := self._lane_of(crew, span, nth)) is not None:
            write_stack(self.dump, task_title(crew.lanes.seat, span, nth), crew.coroutine(number))

    def _cancel(self, crew: Crew, span: int, nth: int) -> None:
        """Its neighbours in the process are not disturbed, if it ends; else the host ends the process."""
        number = self._lane_of(crew, span, nth)
        if number is None or (item := crew.current[number]) is None:
            return  # it has just ended by itself
        stack = stack_text(task_title(crew.lanes.seat, span, nth), crew.coroutine(number))
        crew.hung[number] = item, stack
        crew.tasks[number].cancel()


async def finished(returned: Any) -> Any:
    return await returned if hasattr(returned, "__await__") else returned


async def _not_cancelled() -> None:
    """Let others run; and let no cancellation of ours outlive the record that asked for it."""
    task = asyncio.current_task()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        pass
    while task is not None and task.cancelling():
        task.uncancel()
