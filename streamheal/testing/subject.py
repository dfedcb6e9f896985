"""The processor under test, called as a worker would call it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, cast

from streamheal.processor import Ordering, RecordProcessor
from streamheal.records import Record, Shard
from streamheal.workers.child.kclpy import KclpyProcessor, is_kclpy
from streamheal.workers.child.target import refuse_awaitable

_BATCH_SHAPE = "process_records returned {} that it was not given: it may return those of its records that failed"


class Subject:
    """One processor for one shard: a class is made here, an instance is taken as it is.

    An async processor runs in an event loop of its own, kept for all its records, so that clients
    opened for one record serve the next.
    """

    def __init__(self, target: Any) -> None:
        self.processor: Any = _processor(target)
        self.batches = callable(getattr(self.processor, "process_records", None))
        self.name = target.__name__ if hasattr(target, "__name__") else type(target).__name__
        self.wants: Callable[[Record], object] | None = self._method("wants")
        self.key: Callable[[Record], object] | None = self._method("key")
        self.mask: Callable[[Record], bytes] | None = self._method("mask")
        self.mask_text: Callable[[str], str] | None = self._method("mask_text")
        self.poison = self._classes("poison")
        self.throttled = self._classes("throttled")
        self.attempts_max: int | None = getattr(self.processor, "attempts_max", None)
        self.ordering: Ordering | None = getattr(self.processor, "ordering", None)
        self._awaits = _is_coroutine_function(
            self.processor.process_records if self.batches else self.processor.process_record
        )
        if self._awaits:
            _refuse_running_loop()
        self._runner: asyncio.Runner | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._runner is not None:
            self._runner.close()

    def initialize(self, shard: Shard) -> None:
        if initialize := self._method("initialize"):
            self._finish(initialize(shard))

    def hook(self, name: str) -> None:
        if hook := self._method(name):
            self._finish(hook())

    def handle(self, record: Record) -> bool:
        """Handle one record to its end. True: the processor does not want it."""
        if self.wants is not None and not self.wants(record):
            return True
        self._finish(self.processor.process_record(record))
        return False

    def handle_all(self, records: list[Record]) -> list[int]:
        """Handle records in one call. Returns the places of those that it says have failed."""
        returned = self._finish(self.processor.process_records(list(records)))
        return [] if returned is None else _places(returned, records)

    def lane(self, record: Record, ordering: str) -> object:
        """What the record waits in line by. A key that cannot be told is told again when it is tried."""
        if ordering == "shard":
            return None
        if ordering == "none":
            return record.position
        if self.key is None:
            return record.partition_key
        return self.key(record)

    def _finish(self, returned: Any) -> Any:
        if not self._awaits:
            refuse_awaitable(returned)
            return returned
        if not inspect.isawaitable(returned):
            return returned
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(_awaited(returned))

    def _method(self, name: str) -> Callable[..., Any] | None:
        found = getattr(self.processor, name, None)
        return found if callable(found) else None

    def _classes(self, name: str) -> tuple[type[BaseException], ...]:
        found = getattr(self.processor, name, ())
        return found if isinstance(found, tuple) else ()


class _FunctionProcessor:
    def __init__(self, function: Callable[[Record], Any]) -> None:
        self.process_record = function


def _processor(target: Any) -> Any:
    """The object to call.

    Raises:
        TypeError: It is no processor; what it lacks.
        TargetError: It is one of amazon_kclpy's that cannot be run.
    """
    name = getattr(target, "__name__", type(target).__name__)
    if inspect.isclass(target) and is_kclpy(target, name):
        return KclpyProcessor(target())
    processor = target() if inspect.isclass(target) else target
    if callable(getattr(processor, "process_records", None)):
        return processor
    if not callable(process_record := getattr(processor, "process_record", None)):
        if callable(processor) and not inspect.isclass(target):
            return _FunctionProcessor(processor)
        raise TypeError(f"{name} has neither process_record nor process_records, and is no function of one record")
    if (
        getattr(type(processor), "process_record", None)
        is RecordProcessor.process_record
        == getattr(process_record, "__func__", None)
    ):
        raise TypeError(f"{name} overrides neither process_record nor process_records")
    return processor


def _places(returned: Any, records: list[Record]) -> list[int]:
    """Which of the records were returned as failed: the same objects, or copies with their positions."""
    places = set()
    for failed in cast("Sequence[Record]", returned):
        same = [n for n, one in enumerate(records) if one is failed]
        if not same and isinstance(failed, Record):
            same = [n for n, one in enumerate(records) if one.position == failed.position]
        if not same:
            raise TypeError(_BATCH_SHAPE.format(repr(failed)[:80]))
        places.add(same[0])
    return sorted(places)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def _is_coroutine_function(found: Any) -> bool:
    return inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(type(found).__call__)


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "heal runs async processors in an event loop of its own, and this thread's loop is running: "
        "call it from a plain test, or with `await asyncio.to_thread(heal, …)`"
    )
