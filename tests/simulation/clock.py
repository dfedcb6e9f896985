"""An event loop whose time is made up: nothing waits, and one seed decides what asyncio leaves open.

    ready    callbacks, in the order in which they were asked for: asyncio promises that
    timers   by their time; of those due at one time the dice say which comes first
    threads  calls of `run_in_executor`: begun after a while, answered after another

Between any two callbacks the host may die. A loop that died is thrown away: its tasks are
cancelled, so that Python can put them away in peace, and nothing they still say is heard.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from typing import Any, Protocol


class Timer:
    """What `call_later` returns."""

    __slots__ = ("off",)

    def __init__(self) -> None:
        self.off = False

    def cancel(self) -> None:
        self.off = True


# When, and which comes first of those due at one time; what to call, with what, unless the timer is off: most can be
# taken back by nobody.
_Callback = tuple[float, float, Callable[..., object], tuple[Any, ...], Timer | None]


class Clock(Protocol):
    """It outlives the loops that move it on.

    Attributes:
        now: The time, in seconds; it goes on only when nothing is ready.
        steps: Callbacks run so far.
    """

    now: float
    steps: int


class Loop(asyncio.AbstractEventLoop):
    """The part of a loop that asyncio's tasks, futures and the runtime use.

    Attributes:
        alarm_at: At this step `alarm` is called, which says when it wants to be called next.
    """

    def __init__(
        self, clock: Clock, dice: random.Random, thread_s: Callable[[], float], alarm: Callable[[], int]
    ) -> None:
        self._clock = clock
        self.alarm_at = 0
        self._dice, self._thread_s, self._alarm = dice.random, thread_s, alarm
        self._ready: deque[_Callback] = deque()
        self._timers: list[_Callback] = []
        self._threads: dict[asyncio.Future[Any], Callable[[], Any]] = {}
        self._heard: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None
        self._dead = False

    # -- what asyncio asks for -----------------------------------------------------------

    get_debug = staticmethod(bool)  # false; asked by every future and task, to which it must cost nothing

    def time(self) -> float:
        return self._clock.now

    def is_running(self) -> bool:
        return True

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], *, name: Any = None, context: Any = None) -> Any:
        return asyncio.Task(coro, loop=self, name=name)

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        self._ready.append((0.0, 0.0, callback, args, None))

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        timer = Timer()
        if not self._dead:
            heappush(self._timers, (self._clock.now + delay, self._dice(), callback, args, timer))
        return timer

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        timer = Timer()
        if not self._dead:
            heappush(self._timers, (when, self._dice(), callback, args, timer))
        return timer

    def after(self, delay_s: float, call: Callable[..., object], *args: Any) -> None:
        """As `call_later`, for good. Most of what happens in a world is asked for here."""
        if not self._dead:
            heappush(self._timers, (self._clock.now + delay_s, self._dice(), call, args, None))

    def set_exception_handler(self, handler: Any) -> None:
        self._heard = handler

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._heard is not None and not self._dead:
            self._heard(self, context)

    # -- threads -------------------------------------------------------------------------

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        future = self.create_future()
        if self._dead:
            return future
        self._threads[future] = lambda: func(*args)
        self.after(self._thread_s(), self._in_thread, future)
        return future

    def _in_thread(self, future: asyncio.Future[Any]) -> None:
        result, error = None, None
        try:
            result = self._threads.pop(future)()
        except Exception as raised:
            error = raised
        self.after(self._thread_s(), self._answer, future, result, error)

    @staticmethod
    def _answer(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    # -- time ----------------------------------------------------------------------------

    def run_until(self, main: asyncio.Future[Any]) -> None:
        """Run until it is done. Raises what the alarm raises, and nothing else."""
        clock, ready, timers, done = self._clock, self._ready, self._timers, main.done
        asyncio._set_running_loop(self)
        try:
            while not done():
                if not ready and timers[0][0] > clock.now:
                    clock.now = timers[0][0]
                now = clock.now
                while timers and timers[0][0] <= now:
                    ready.append(heappop(timers))
                for _ in range(len(ready)):
                    if clock.steps >= self.alarm_at:
                        self.alarm_at = self._alarm()  # while the next callback is still in its place
                    _, _, call, args, timer = ready.popleft()
                    if timer is not None and timer.off:
                        continue
                    clock.steps += 1
                    try:
                        call(*args)
                    except Exception as error:
                        self.call_exception_handler({"message": "a callback failed", "exception": error})
        finally:
            asyncio._set_running_loop(None)

    def die(self) -> None:
        """The host is gone. What its threads had sent on its way may arrive all the same."""
        self._dead = True
        for call in self._threads.values():
            if self._dice() < 0.5:
                try:
                    call()
                except Exception:
                    pass  # nobody is left to hear of it
        self._timers.clear()
        self._dice = lambda: 0.0  # what is said from here on must not turn on the order in which tasks end
        asyncio._set_running_loop(self)
        try:
            while tasks := asyncio.all_tasks(self):  # some wait once more while they are cancelled
                for task in tasks:
                    task.cancel()
                self._run_ready()
        finally:
            asyncio._set_running_loop(None)

    def _run_ready(self) -> None:
        while self._ready:
            _, _, call, args, timer = self._ready.popleft()
            if timer is None or not timer.off:
                try:
                    call(*args)
                except Exception:
                    pass  # as above
