"""Cautious mode in the worker: nothing begins before the host has permitted it.

    next of its lane ──► asked for ──► permitted ──► begun ──► over
                         (the host writes who is about to run)

A lane holds its record meanwhile as if it ran, so that no order changes.

A processor's own `key` is asked in order to find a record's lane, before anything is asked for, and might
be what kills the host. So where a shard begins cautiously it is not asked: there is one lane. The shard's order
is the order of every key, too, and each record is asked for its key as a part of its run. Once caution is over
the host has the process replaced, and in the next there are lanes again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Final

from streamheal.workers import wire
from streamheal.workers.child.spans import Item, Lane
from streamheal.workers.journal import STEP_WORD

if TYPE_CHECKING:
    from streamheal.workers.child.lanes import Lanes

Place = tuple[int, int]
ALL: Final = object()  # the key of the one lane; no processor's own is it


def place(item: Item) -> Place:
    return item[0].number, item[1]


class Intents:
    """What of one shard is asked for, permitted, or begun.

    Args:
        size: How many records, or calls of a batch processor, may be so at once.
        running: What runs already; the host is told of it.
    """

    def __init__(self, lanes: Lanes, size: int, running: Sequence[Item], send: Callable[[wire.Message], None]) -> None:
        self._lanes, self._size, self._send = lanes, size, send
        self._asked: dict[Place, list[Item]] = {}
        self._permitted: deque[Item] = deque()
        self._begun = {place(item) for item in running}
        for item in running:
            self._hold_lane(item)
        self._send(wire.Heeds(lanes.seat, tuple(sorted(self._begun))))

    @property
    def permitted(self) -> bool:
        return bool(self._permitted)

    @property
    def room(self) -> bool:
        return len(self._asked) + len(self._permitted) + len(self._begun) < self._size

    def next(self) -> Item | None:
        """What may begin now. Asks for as much more as there is room for."""
        while self.room and (item := self._lanes.pull()) is not None:
            self.ask([item])
        return self.begin() if self._permitted else None

    def ask(self, items: list[Item]) -> None:
        """Ask for records that run together: one, or a call of a batch processor."""
        for item in items:
            self._hold_lane(item)
        self._asked[place(items[0])] = items
        self._send(wire.Intends(self._lanes.seat, tuple(place(item) for item in items)))

    def permit(self, at: Place) -> None:
        self._permitted += self._asked.pop(at, ())

    def begin(self) -> Item:
        item = self._permitted.popleft()
        self._begun.add(place(item))
        return item

    def over(self, at: Place) -> None:
        """It has ended, whatever became of it."""
        if at in self._begun:
            self._begun.discard(at)
            self._send(wire.Over(self._lanes.seat, (at,)))

    def all_over(self) -> None:
        if self._begun:
            self._send(wire.Over(self._lanes.seat, tuple(sorted(self._begun))))
            self._begun.clear()

    def let_go(self) -> list[Item]:
        """At full speed again: what was asked for may all begin."""
        return [*self._permitted, *(item for items in self._asked.values() for item in items)]

    def _hold_lane(self, item: Item) -> None:
        """A key with a lane of its own is not left by the runners' short cuts: `Lanes.done` hears of it."""
        busy, key = self._lanes.busy, item[3]
        if busy.get(key) is None:
            busy[key] = Lane()


class Steps:
    """Awaits something, and marks whose it is for as long as it is being resumed.

    Of many coroutines that wait, one runs. If the process dies then, the mark says whose it was.
    """

    def __init__(self, awaitable: Any, words: memoryview, mark: int) -> None:
        self._awaitable, self._words, self._mark = awaitable, words, mark + 1

    def __await__(self) -> Generator[Any, Any, Any]:
        inner, words = self._awaitable.__await__(), self._words
        thrown: BaseException | None = None
        while True:
            words[STEP_WORD] = self._mark
            try:
                wanted = next(inner) if thrown is None else inner.throw(thrown)
            except StopIteration as ended:
                return ended.value
            finally:
                words[STEP_WORD] = 0
            thrown = None
            try:
                yield wanted
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as error:
                thrown = error
