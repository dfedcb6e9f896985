"""What happens is told once, and heard by the log, the live view and whoever else listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Listener = Callable[[str, dict[str, Any]], None]


class Log(Protocol):
    """The part of a structlog logger that is used here."""

    def debug(self, event: str, **fields: Any) -> Any: ...
    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...


class Chronicle:
    """A logger that others can listen to. Events are short names in the past tense, with fields.

    Payloads never come here: an event names a record by its position and its id.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def debug(self, event: str, **fields: Any) -> None:
        self._log.debug(event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        self._log.info(event, **fields)
        self._tell(event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._log.warning(event, **fields)
        self._tell(event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._log.error(event, **fields)
        self._tell(event, fields)

    def _tell(self, event: str, fields: dict[str, Any]) -> None:
        for listener in self._listeners:
            listener(event, fields)
