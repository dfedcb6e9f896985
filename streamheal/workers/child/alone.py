"""A cell: one record at a time, and nothing else. Of most cells it is the only one."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from streamheal.workers import wire
from streamheal.workers.child.failures import describe, kind_of, positions, refused
from streamheal.workers.child.stacks import write_stack
from streamheal.workers.child.target import Handler, refuse_awaitable
from streamheal.workers.child.tee import Tail, set_main
from streamheal.workers.child.worker import Site, make_handler, monotonic
from streamheal.workers.frames import task_title

if TYPE_CHECKING:
    import asyncio


class _Refused(Exception):
    """A batch processor returned the record as failed."""


class Alone:
    def __init__(self, site: Site) -> None:
        self._link, self._target, self._dump = site.link, site.target, site.dump
        self._stage: object = "initialize"
        self._tail = Tail(lambda: self._stage)
        set_main(self._tail)

    def run(self, alone: wire.Alone) -> None:
        """Initialize, wait for the word, run the record, say what came of it; then the next, or the host ends us."""
        if self._target.mode == "plain":
            self._run(alone, _finish)
        else:
            import asyncio

            with asyncio.Runner() as runner:
                self._run(alone, lambda returned: runner.run(self._await(returned, runner.get_loop())))

    def _run(self, alone: wire.Alone, finish: Any) -> None:
        began, handler = monotonic(), None
        try:
            handler = make_handler(self._target, alone)
            finish(handler.initialize())
        except BaseException as error:
            self._link.check_not_forked()
            mask_text = handler.mask_text if handler else None
            raised = describe(error, "throttled", log=self._tail.take(), mask_text=mask_text)
            self._link.send(wire.Unready(0, began, monotonic(), raised))
            self._next()
            return
        while True:
            self._link.send(wire.Ready(0))
            self._link.receive(wait=True)
            self._stage = object()  # an attempt of its own, with a log of its own
            self._try(handler, alone, finish)
            self._stage = None
            alone = self._next()

    def _try(self, handler: Handler, alone: wire.Alone, finish: Any) -> None:
        began = monotonic()
        try:
            filtered = self._handle(handler, alone, finish)
        except BaseException as error:
            self._link.check_not_forked()
            ended, log = monotonic(), self._tail.take()
            kind = kind_of(error, handler.poison, handler.throttled)
            if isinstance(error, _Refused):
                raised = refused(log)
            else:
                raised = describe(error, kind.outcome, log=log, mask_text=handler.mask_text)
            masked = handler.masked(alone.record)
            self._link.send(wire.Failure(0, 0, 0, kind.cause, began, ended, kind.retry_after_s, raised, masked))
        else:
            self._link.check_not_forked()
            if self._target.stating and handler.processor.owed.owes:
                self._link.send(wire.Stated(0, owes=True))
            _flush()
            # One that states its progress was told that it ends, so that it could.
            self._link.send(wire.Succeeded(0, 0, 0, filtered, again=not self._target.stating))

    def _handle(self, handler: Handler, alone: wire.Alone, finish: Any) -> bool:
        record = alone.record
        if handler.key is not None:
            handler.key(record)
        if handler.wants is not None and not handler.wants(record):
            return True
        if self._target.mode == "batch":
            if positions(finish(handler.call([record]))):
                raise _Refused
            if self._target.stating:
                handler.processor.finish_alone()
        else:
            finish(handler.call(record))
        return False

    async def _await(self, returned: Any, loop: asyncio.AbstractEventLoop) -> Any:
        if not hasattr(returned, "__await__"):
            return returned
        loop.add_reader(self._link.fileno(), self._show, returned)
        try:
            return await returned
        finally:
            loop.remove_reader(self._link.fileno())

    def _show(self, coroutine: Any) -> None:
        if isinstance(self._link.receive(wait=False), wire.Show):
            write_stack(self._dump, task_title(0, 0, 0), coroutine)

    def _next(self) -> wire.Alone:
        while True:
            message = self._link.receive(wait=True)
            if isinstance(message, wire.Alone):
                return message


def _flush() -> None:
    """What it printed is to be seen as its own, before another runs here. User code may have closed its streams."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


def _finish(returned: object) -> object:
    if returned is not None:
        refuse_awaitable(returned)
    return returned
