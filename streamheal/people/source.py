"""The line that failed, shown as it stands in the file here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from streamheal.attempts import Attempt

# Both as `traceback` writes a frame and as `faulthandler` does.
_FRAME = re.compile(r'^\s*File "(?P<path>[^"\n]+)", line (?P<line>\d+),? in (?P<name>\S+)$', re.MULTILINE)
_WHERE = re.compile(r"^(?P<file>.+):(?P<line>\d+) in (?P<name>.+)$")

_AROUND = 2
_FILE_BYTES_MAX = 4 << 20


class Excerpt(NamedTuple):
    """`lines` are numbered; `number` is the one that failed."""

    path: str
    number: int
    lines: list[tuple[int, str]]


def excerpt(attempt: Attempt) -> Excerpt | None:
    """The application's innermost line, or None where its file cannot be read here, or has changed since.

    A changed file is known by its line no longer being the one in the traceback; a dump of
    faulthandler holds no source, so there the file is believed.
    """
    frame = _frame(attempt)
    if frame is None:
        return None
    path, number, wanted = frame
    lines = _read(path)
    if lines is None or number > len(lines):
        return None
    if wanted is not None and lines[number - 1].strip() != wanted:
        return None
    first = max(1, number - _AROUND)
    return Excerpt(path.name, number, [(n, lines[n - 1]) for n in range(first, number + 1)])


def _frame(attempt: Attempt) -> tuple[Path, int, str | None] | None:
    """The frame that `where` speaks of, and the source line that stood there."""
    where = _WHERE.match(attempt.where or "")
    text = attempt.traceback or attempt.stack or ""
    if where is None:
        return None
    for found in reversed(list(_FRAME.finditer(text))):
        path = Path(found["path"])
        if found["line"] == where["line"] and path.as_posix().endswith(where["file"]):
            after = text[found.end() :].split("\n", 2)
            source = after[1].strip() if attempt.traceback and len(after) > 1 else None
            return path, int(found["line"]), source or None
    return None


def _read(path: Path) -> list[str] | None:
    # The path comes out of an envelope: only what is plainly a Python file is opened.
    try:
        if path.suffix != ".py" or not path.is_file() or path.stat().st_size > _FILE_BYTES_MAX:
            return None
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
