"""Plain functions in threads: up to `concurrency` records of a shard at once, a key's one after another.

Threads that only compute would fight over the interpreter, and each hand-over costs more than a
small record. So one lane runs at first; for every lane that is still on the same record a
millisecond later, one more is started. After a death as many run at first as ran then.
"""

from __future__ import annotations

import select
import threading
from collections import deque

from streamheal.workers import wire
from streamheal.workers.child.lanes import Lanes
from streamheal.workers.child.spans import Item, Span
from streamheal.workers.child.target import Handler, refuse_awaitable
from streamheal.workers.child.tee import Tail, set_lane, set_main
from streamheal.workers.child.worker import Site, Worker, make_handler, monotonic
from streamheal.workers.journal import DONE, FILTERED, RUNNING

_TICK_S = 0.001


class Crew:
    """The lanes of one shard: threads, made as they are needed. `first`: so many begin with its first span."""

    def __init__(self, lanes: Lanes, size: int, first: int, mutex: threading.Lock) -> None:
        self.lanes, self.size, self.first = lanes, size, first
        self.current: list[Item | None] = []  # what each thread runs
        self.before: list[Item | None] = []  # what it ran a tick ago
        self.more = threading.Condition(mutex)
        self.idle = 0
        self.over = False

    @property
    def may_grow(self) -> bool:
        return self.lanes.waiting and (self.idle > 0 or len(self.current) < self.size)


class Threads(Worker):
    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._mutex = threading.Lock()
        self._crews: dict[int, Crew] = {}
        self._unstarted: deque[threading.Thread] = deque()
        self._runs = 0
        set_main(self.tail)

    def attempt(self) -> object:
        return self._runs

    def run(self, first: wire.Take) -> None:
        self._heed(first)
        while True:
            growing = any(crew.may_grow for crew in self._crews.values())
            if growing and not select.select((self.link,), (), (), _TICK_S)[0]:
                with self._mutex:
                    for crew in self._crews.values():
                        self._grow(crew)
                self._start()
                continue
            message = self.link.receive(wait=True)
            assert message is not None
            self._heed(message)

    def _grow(self, crew: Crew) -> None:
        """One lane more for each that has not come on since the last tick."""
        stalled = sum(now is then and now is not None for now, then in zip(crew.current, crew.before, strict=False))
        crew.before = crew.current[:]
        self._wake(crew, stalled)

    def _wake(self, crew: Crew, lanes: int) -> None:
        woken = min(lanes, crew.idle)
        crew.more.notify(woken)
        for _ in range(min(lanes - woken, crew.size - len(crew.current))):
            crew.current.append(None)
            number = len(crew.current) - 1
            lane = threading.Thread(target=self._thread, args=(crew, number), name=f"lane {number}", daemon=True)
            self._unstarted.append(lane)

    def _start(self) -> None:
        """Without the mutex: each is waited for until it runs, and those before it have records to run meanwhile."""
        while self._unstarted:
            self._unstarted.popleft().start()

    # -- messages ------------------------------------------------------------------------

    def _heed(self, message: wire.ToWorker) -> None:
        match message:
            case wire.Take():
                self._take(message)
            case wire.End():
                self._end(message)
            case wire.Go() | wire.Alone() | wire.Show():
                pass
            case _:
                with self._mutex:
                    self._obey(message)
                self._start()

    def _obey(self, message: wire.ToWorker) -> None:
        self.obey(message)
        if isinstance(message, wire.Leave):
            self._dismiss(message.seat)
        for crew in self._crews.values():
            if crew.lanes.waiting and crew.idle == len(crew.current):
                lanes = 1
                if isinstance(message, wire.Give):
                    lanes, crew.first = crew.first, 1
                self._wake(crew, lanes)

    def _dismiss(self, seat: int) -> Crew:
        crew = self._crews.pop(seat)
        crew.over = True
        crew.more.notify_all()
        return crew

    def _take(self, take: wire.Take) -> None:
        began, handler = monotonic(), None
        self._runs += 1
        try:
            handler = make_handler(self.target, take)
            if (returned := handler.initialize()) is not None:
                refuse_awaitable(returned)
        except BaseException as error:
            self.link.check_not_forked()
            with self._mutex:
                self.unready(take, error, began, handler)
            return
        with self._mutex:
            lanes = self.seated(take, handler)
            size = take.lanes_max or self.target.facts.concurrency
            self._crews[take.seat] = Crew(lanes, size, max(1, take.ran), self._mutex)

    def _end(self, end: wire.End) -> None:
        began, failed = monotonic(), None
        self._runs += 1
        with self._mutex:
            handler = self._dismiss(end.seat).lanes.handler
        try:
            handler.hook(end.hook)
        except BaseException as error:
            self.link.check_not_forked()
            failed = error
        with self._mutex:
            self.ended(end, failed, began)

    def at_once(self, seat: int) -> tuple[int, list[Item]]:
        crew = self._crews[seat]
        return crew.size, [item for item in crew.current if item is not None]

    # -- records -------------------------------------------------------------------------

    def _thread(self, crew: Crew, number: int) -> None:
        try:
            self._lane(crew, number)
        except BaseException:
            self.give_up()  # with the mutex held, perhaps: nothing could go on

    def _lane(self, crew: Crew, number: int) -> None:
        """Run record after record, without the mutex."""
        lanes, current = crew.lanes, crew.current
        simple = lanes.handler.wants is None and lanes.handler.key is None
        tail = Tail(lambda: current[number])
        set_lane(tail)
        item: Item | None = None
        with self._mutex:
            while not crew.over:
                if item is None and simple and (span := lanes.plain_span) is not None:
                    item = self._run_plainly(crew, number, span, tail)
                elif item is None and (item := lanes.next()) is None:
                    self._rest(crew, number)
                else:
                    item = self._run_one(crew, number, item, tail)

    def _run_plainly(self, crew: Crew, number: int, span: Span, tail: Tail) -> Item | None:
        """Run one plain record after another, until there is anything to look at; returns what is to run next.

        It comes to the same as `Lanes.next`, `_run_one` and `Lanes.done`. What a clean record needs
        stands here, not in calls: each would be felt. Comes and goes with the mutex held.
        """
        lanes, current, busy = crew.lanes, crew.current, crew.lanes.busy
        call, marks, base = lanes.handler.call, self.journal.marks, span.base
        witnesses, took = lanes.witnesses, lanes.took
        release, acquire = self._mutex.release, self._mutex.acquire
        for nth, record in span.todo:
            if (key := record.partition_key) in busy:
                lanes.queue(key, span, nth, record)
                continue
            busy[key] = None
            current[number] = item = span, nth, record, key
            marks[base + nth] = RUNNING  # with the mutex: what was taken to be run is never unmarked for others
            release()
            began = monotonic()
            if sampled := began > took.due:
                took.begins(began)
            try:
                if (returned := call(record)) is not None:
                    refuse_awaitable(returned)
                marks[base + nth] = DONE
            except BaseException as error:
                self._failed(crew, item, error, began, tail)
                return None
            ended = monotonic() if sampled else 0.0
            acquire()
            if crew.over:
                return None
            if sampled:
                took.tell(began, ended)
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
            if not lanes.plain or span.named:
                return None
        lanes.passed(span)
        return None

    def _run_one(self, crew: Crew, number: int, item: Item, tail: Tail) -> Item | None:
        """Run one record, whatever it is; returns what is to run next in its lane."""
        lanes, (span, nth, _, key) = crew.lanes, item
        crew.current[number] = item
        mark = span.mark(nth)
        self.journal.marks[mark] = RUNNING  # with the mutex, as above
        self._mutex.release()
        began = monotonic()
        if sampled := began > lanes.took.due:
            lanes.took.begins(began)
        try:
            filtered = self._unwanted(lanes.handler, item)
            self.journal.marks[mark] = FILTERED if filtered else DONE
        except BaseException as error:
            self._failed(crew, item, error, began, tail)
            return None
        ended = monotonic() if sampled else 0.0
        self._mutex.acquire()
        if crew.over:
            return None
        if not filtered:
            if sampled:
                lanes.took.tell(began, ended)
            lanes.witnesses.saw(began)
        return lanes.done(span, nth, key, filtered)

    def _failed(self, crew: Crew, item: Item, error: BaseException, began: float, tail: Tail) -> None:
        """Comes without the mutex, because masks are user code, and goes with it."""
        self.link.check_not_forked()
        failure = crew.lanes.failure(item, error, began=began, ended=monotonic(), log=tail.take())
        self._mutex.acquire()
        if not crew.over:
            span, nth, _, key = item
            crew.lanes.failed(span, nth, key, failure)

    def _unwanted(self, handler: Handler, item: Item) -> bool:
        """Run one record of a processor with `wants` or `key`. True: it did not want the record."""
        span, nth, record, _ = item
        if nth in span.keyless and handler.key is not None:
            handler.key(record)
        return handler.handle(record)

    def _rest(self, crew: Crew, number: int) -> None:
        crew.current[number] = None
        crew.idle += 1
        if crew.idle == len(crew.current):
            crew.lanes.witnesses.tell()
        crew.more.wait()
        crew.idle -= 1
