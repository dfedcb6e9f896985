"""Plain functions, one record at a time, in the main thread; its shards take turns.

While nothing is out of the ordinary a record costs its decoding and one store. From the first
failure to the end of a span each record is marked and timed by itself, and again for as long as
a lane is blocked or the host is curious.
"""

from __future__ import annotations

from collections import deque

from streamheal.workers import wire
from streamheal.workers.child.lanes import Lanes
from streamheal.workers.child.spans import Item, Span
from streamheal.workers.child.target import Handler, refuse_awaitable
from streamheal.workers.child.tee import set_main
from streamheal.workers.child.worker import Site, Worker, make_handler, monotonic
from streamheal.workers.journal import CURRENT, DONE, FILTERED, PAUSED, RUNNING, SERIAL

# A shard's turn, after which messages are read and other shards have theirs.
_TURN_S = 0.01
_CHUNK_MIN, _CHUNK_MAX = 16, 1 << 16


class Sequential(Worker):
    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._turns: deque[Lanes] = deque()
        self._chunk = _CHUNK_MIN
        self._record_s = float("inf")
        self._page = -1  # header of the page whose CURRENT says which record runs; -1: none does
        self._runs = 0
        set_main(self.tail)

    def attempt(self) -> object:
        page, words = self._page, self.journal.words
        return (words[page + SERIAL], words[page + CURRENT]) if page >= 0 else self._runs

    def run(self, first: wire.Take) -> None:
        self._heed(first)
        while True:
            lanes = self._next_turn()
            if lanes is None:
                for idle in self.lanes.values():
                    idle.witnesses.tell()
                self._read(wait=True)
                continue
            slow = self.turn(lanes)
            # A fast shard's next span is read when this one is done: what lies decoded and
            # unused falls out of the processor's cache. A slow one's are read to be counted.
            if slow or not self._read(wait=False):
                self._read_all()

    def turn(self, lanes: Lanes) -> bool:
        """Run for a while. Returns whether it was slow, so that messages are best looked after."""
        if lanes.clean and lanes.spans and not lanes.spans[0].slow:
            return self._run_fast(lanes)
        return self._run_slowly(lanes)

    def _next_turn(self) -> Lanes | None:
        for _ in range(len(self._turns)):
            lanes = self._turns[0]
            self._turns.rotate(-1)
            if lanes.waiting:
                return lanes
        return None

    # -- messages ------------------------------------------------------------------------

    def _read_all(self) -> None:
        while self._read(wait=False):
            pass

    def _read(self, *, wait: bool) -> bool:
        message = self.link.receive(wait=wait)
        if message is not None:
            self._heed(message)
        return message is not None

    def _heed(self, message: wire.ToWorker) -> None:
        match message:
            case wire.Take():
                self._take(message)
            case wire.End():
                self._end(message)
            case _:
                self.obey(message)
        if isinstance(message, wire.Take | wire.End | wire.Leave):
            self._turns = deque(self.lanes.values())

    def _take(self, take: wire.Take) -> None:
        began, handler = monotonic(), None
        self.new_attempt()
        try:
            handler = make_handler(self.target, take)
            self.finish(handler.initialize())
        except BaseException as error:
            self.link.check_not_forked()
            self.unready(take, error, began, handler)
            return
        self.seated(take, handler)

    def _end(self, end: wire.End) -> None:
        began, failed = monotonic(), None
        self.new_attempt()
        try:
            self.finish(self.lanes[end.seat].handler.hook(end.hook))
        except BaseException as error:
            self.link.check_not_forked()
            failed = error
        self.ended(end, failed, began)

    def finish(self, returned: object) -> object:
        """What user code returned: nothing is to be awaited in a plain processor."""
        if returned is not None:
            refuse_awaitable(returned)
        return returned

    def new_attempt(self) -> None:
        self._page = -1
        self._runs += 1

    # -- records -------------------------------------------------------------------------

    def _run_fast(self, lanes: Lanes) -> bool:
        """Run a turn's worth of a clean span. Returns whether the span goes on."""
        span, call, words = lanes.spans[0], lanes.handler.call, self.journal.words
        first, n = span.start, span.n
        upto = min(n, first + self._chunk)
        self._page, at = span.words, span.words + CURRENT
        nth, began = first, monotonic()
        if sampled := began > lanes.took.due:
            lanes.took.begins(began)
            upto = first + 1  # a turn of one record, which is timed by that
        try:
            for nth, record in enumerate(span.records if upto - first == n else span.records[first:upto], first):
                words[at] = nth  # this one runs, all before it are done
                if (returned := call(record)) is not None:
                    refuse_awaitable(returned)
        except BaseException as error:
            self._broke(lanes, span, nth, began, error)
            return True
        words[at] = upto | PAUSED
        ended = monotonic()
        if sampled:
            lanes.took.tell(began, ended)
        else:
            self._pace(ended - began, upto - first)
        lanes.witnesses.began, lanes.witnesses.ended = began, ended
        if upto < n:
            span.start = upto
            return True
        lanes.finish_fast(span)
        return False

    def _pace(self, took_s: float, records: int) -> None:
        self._record_s = took_s / records
        if took_s < _TURN_S / 2 and self._chunk < _CHUNK_MAX:
            self._chunk *= 2
        elif took_s > _TURN_S * 2 and self._chunk > _CHUNK_MIN:
            self._chunk //= 2

    def _broke(self, lanes: Lanes, span: Span, nth: int, began: float, error: BaseException) -> None:
        """The first failure of a clean span: from here on it is marked record by record."""
        self.link.check_not_forked()
        ended = monotonic()
        log = self.tail.take()
        self._page = -1
        if before := nth - span.start:
            # Nobody took this record's own time. Those before it in this turn took what
            # others took, and a turn is short, so that its begin is not far wrong.
            lanes.witnesses.began = began
            began += before * min(self._record_s, (ended - began) / (before + 1))
            lanes.witnesses.ended = began
        record = span.records[nth]
        lanes.slow_down(span, nth, running=True)
        key = lanes.key_of(span, nth, record)
        lanes.busy[key] = None
        failure = lanes.failure((span, nth, record, key), error, began=began, ended=ended, log=log)
        lanes.failed(span, nth, key, failure)

    def _run_slowly(self, lanes: Lanes) -> bool:
        until = monotonic() + _TURN_S
        item: Item | None = None
        while item is not None or (item := lanes.next()) is not None:
            item = self._run_one(lanes, lanes.handler, item)
            if monotonic() > until:
                if item is not None:
                    lanes.make_ready(item)
                return True
        return False

    def _run_one(self, lanes: Lanes, handler: Handler, item: Item) -> Item | None:
        span, nth, record, key = item
        mark = span.mark(nth)
        self.new_attempt()
        marks = self.journal.marks
        marks[mark] = RUNNING
        began = monotonic()
        if sampled := began > lanes.took.due:
            lanes.took.begins(began)
        try:
            if nth in span.keyless and handler.key is not None:
                handler.key(record)
            filtered = handler.handle(record)
        except BaseException as error:
            self.link.check_not_forked()
            ended = monotonic()
            failure = lanes.failure(item, error, began=began, ended=ended, log=self.tail.take())
            lanes.failed(span, nth, key, failure)
            return None
        marks[mark] = FILTERED if filtered else DONE
        if not filtered:
            if sampled:
                lanes.took.tell(began, monotonic())
            lanes.witnesses.saw(began)
        return lanes.done(span, nth, key, filtered)
