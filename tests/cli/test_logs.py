"""What log lines look like, and that what libraries log looks the same."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from streamheal.cli import logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()


def test_away_from_a_terminal_each_line_is_an_object() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    structlog.get_logger("streamheal").info("shard_started", stream="orders", shard_id="shardId-000000000000")
    line = json.loads(stream.getvalue())
    assert list(line)[:3] == ["time", "level", "event"]
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "shard_started", "level": "info", "stream": "orders", "shard_id": "shardId-000000000000",
    }  # fmt: skip


def test_on_a_terminal_lines_are_for_people() -> None:
    stream = Terminal()
    logs.configure(stream=stream)
    structlog.get_logger("streamheal").info("shard_started", shard_id="shardId-000000000000")
    assert "shard_started" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_what_libraries_log_comes_out_the_same_way() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    logging.getLogger("somebody").warning("%s is low", "disk")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["logger"]) == ("disk is low", "warning", "somebody")


@pytest.mark.parametrize(("level", "seen"), [("debug", 3), ("info", 2), ("warning", 1), ("error", 0)])
def test_the_level_holds_for_ours_and_theirs(level: str, seen: int) -> None:
    for log in (structlog.get_logger("streamheal"), logging.getLogger("somebody")):
        stream = io.StringIO()
        logs.configure(level, stream)
        for say in (log.debug, log.info, log.warning):
            say("said")
        assert len(stream.getvalue().splitlines()) == seen


def test_libraries_that_tell_of_every_request_do_not() -> None:
    stream = io.StringIO()
    logs.configure("debug", stream)
    logging.getLogger("botocore.endpoint").debug("Making request")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_traceback_shows_no_local_variables(stream: io.StringIO) -> None:
    """They may hold payloads."""
    logs.configure(stream=stream)
    try:
        secret = "4711-" * 2
        raise ValueError(len(secret))
    except ValueError:
        structlog.get_logger("streamheal").exception("failed")
    assert "ValueError: 10" in stream.getvalue()
    assert "4711-4711" not in stream.getvalue()
