"""Calls the command line in this process, and hands back what its user would see."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import structlog

from streamheal.cli.main import main


class Called(NamedTuple):
    code: int | str | None
    out: str
    err: str


def call(*arguments: str) -> Called:
    out, err = io.StringIO(), io.StringIO()
    with _logging_as_it_was(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        with pytest.raises(SystemExit) as exited:
            main(arguments)
        return Called(exited.value.code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _logging_as_it_was() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        structlog.reset_defaults()
