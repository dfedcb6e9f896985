"""A log that keeps what it hears, and a wait for something to hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

PATIENCE_S = 20.0


class Event(NamedTuple):
    level: str
    name: str
    fields: dict[str, Any]


class HeardLog:
    """Implements `engines.base.Log`."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def debug(self, event: str, **fields: Any) -> None:
        self.events.append(Event("debug", event, fields))

    def info(self, event: str, **fields: Any) -> None:
        self.events.append(Event("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.events.append(Event("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        self.events.append(Event("error", event, fields))

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event.fields for event in self.events if event.name == name]


async def until(holds: Callable[[], bool], told: Callable[[], object] = lambda: "") -> None:
    """Wait while the loop goes round; fail with what `told` says when it does not come to hold."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                await go_round()
    except TimeoutError:
        raise AssertionError(f"it did not come to hold; {told()}") from None


async def go_round() -> None:
    """All that is ready now has been handled."""
    for _ in range(6):
        await asyncio.sleep(0)
