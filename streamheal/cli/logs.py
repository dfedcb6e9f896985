"""Where log lines go and what they look like: pretty on a terminal, JSON lines elsewhere, on stderr."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog

# Libraries that tell of every request, or of what is routine to us.
_QUIET = ("botocore", "boto3", "urllib3", "s3transfer", "asyncio", "uvicorn", "hypercorn", "werkzeug")


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Set structlog up, and let what libraries log through `logging` come out the same way."""
    stream = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
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


def _rendering(stream: TextIO) -> list[Any]:
    if stream.isatty():
        # The plain formatter: frames with their local variables would print payloads.
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(sort_keys=False, ensure_ascii=False, default=str),
    ]
