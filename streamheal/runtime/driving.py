"""Runs a runtime as a process does: until it is done, or a signal asks it to stop."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from streamheal.runtime.runtime import Runtime

DONE, NEEDS_HUMAN = 0, 3


def stoppable(work: Coroutine[Any, Any, int]) -> int:
    """Run to an exit code. A signal that comes before `drive` listens stops it, as asked: nothing was read yet."""

    async def listening() -> int:
        task = asyncio.get_running_loop().create_task(work)

        def stop(number: int) -> None:
            task.cancel()

        _listen(stop)
        try:
            return await task
        except asyncio.CancelledError:
            return DONE

    try:
        return asyncio.run(listening())
    finally:
        _listen_to_the_end()


def _listen_to_the_end() -> None:
    """The loop has closed and listens no more, and Python takes its time to end. Who asks for that now asks for
    what is being done; by default the process would die of the signal, and its exit code be lost."""
    asked: list[int] = []

    def heard(number: int, frame: object) -> None:
        asked.append(number)
        if len(asked) > 1:
            os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, heard)
        # Handlers of ours are taken away before the process is gone; what is ignored stays so.
        atexit.register(signal.signal, number, signal.SIG_IGN)


def _listen(stop: Callable[[int], None]) -> None:
    """Call `stop` for the first signal that asks to stop; end everything at once for the second."""
    loop = asyncio.get_running_loop()
    asked: list[int] = []

    def heard(number: int) -> None:
        asked.append(number)
        if len(asked) > 1:
            # Workers and cells die with us: the kernel sees to it.
            os._exit(128 + number)
        stop(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heard, number)


async def drive(runtime: Runtime, *beside: Awaitable[None]) -> int:
    """Run until done or told to stop by a signal; a second signal ends everything at once.

    What runs `beside` may end before; if it fails, the run is stopped as if asked, and the
    failure is raised. Signals are listened to for as long as the loop lives: giving back what
    was opened takes seconds, and one that comes then asks for what is being done.
    """

    def stop(number: int) -> None:
        runtime.chronicle.info("stop_requested", signal=signal.Signals(number).name)
        runtime.stop()

    _listen(stop)
    main = asyncio.ensure_future(runtime.run())
    companions = [asyncio.ensure_future(one) for one in beside]
    try:
        await _until_done(main, companions, runtime)
    finally:
        for one in (main, *companions):
            one.cancel()
        await asyncio.gather(main, *companions, return_exceptions=True)
        await runtime.keeper.close()
    return NEEDS_HUMAN if runtime.needs_human else DONE


async def _until_done(main: asyncio.Future[None], companions: Sequence[asyncio.Future[None]], runtime: Runtime) -> None:
    waiting = {main, *companions}
    failure: BaseException | None = None
    while not main.done():
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for one in done - {main}:
            if error := one.exception():
                failure = failure or error
                runtime.stop()
    main.result()
    if failure is not None:
        raise failure
