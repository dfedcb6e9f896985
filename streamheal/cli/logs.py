"""Where log lines go and what they look like: pretty on a terminal, JSON lines elsewhere, on stderr."""

from __future__ import annotations

import io
import logging
import os
import sys
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict

# Libraries that tell of every request, or of what is routine to us.
_QUIET = ("botocore", "boto3", "urllib3", "s3transfer", "asyncio", "uvicorn", "hypercorn", "werkzeug")


class _Stderr(io.TextIOBase):
    """Standard error as it is at each write: the live view puts itself in its place while it is shown."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Set structlog up, and let what libraries log through `logging` come out the same way."""
    stream = stream or cast(TextIO, _Stderr())
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _clock(stream),
        structlog.processors.StackInfoRenderer(),
    ]
    rendered = _rendering(stream)
    structlog.configure(
        processors=[*shared, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(number)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def _clock(stream: TextIO) -> Any:
    if stream.isatty():
        return structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False, key="time")
    return structlog.processors.TimeStamper(fmt="iso", utc=True, key="time")


def _rendering(stream: TextIO) -> list[Any]:
    if stream.isatty():
        # The plain formatter: frames with their local variables would print payloads.
        pretty = structlog.dev.ConsoleRenderer(
            colors=not os.environ.get("NO_COLOR"),
            timestamp_key="time",
            sort_keys=False,
            exception_formatter=structlog.dev.plain_traceback,
        )
        return [pretty]
    return [
        structlog.processors.format_exc_info,
        _what_and_when_first,
        structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
    ]


def _what_and_when_first(_logger: Any, _method: str, fields: EventDict) -> EventDict:
    return {name: fields.pop(name) for name in ("time", "level", "event") if name in fields} | dict(fields)
