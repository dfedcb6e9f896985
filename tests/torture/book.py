"""The one file that everybody appends to, and what it says happened."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

# Sequence and sub-sequence number; they compare as positions in a shard do.
At = tuple[int, int]


class Line(NamedTuple):
    event: str
    pid: int
    at: At | None
    key: str
    attempt: int
    rest: dict[str, Any]


class Book:
    """Reads on from where it was, so that a look costs what is new."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        self._file = os.open(path, os.O_RDWR | os.O_APPEND)
        self._read = 0
        self._begun = b""
        self.lines: list[Line] = []
        self.effects = 0
        self.running: dict[int, dict[At, int]] = {}  # by pid, what it has begun and not done, with the attempt
        self.initialized: set[int] = set()
        self.struck: set[At] = set()  # they ran where a blow fell
        self.struck_alone: Counter[At] = Counter()  # how often its cell was killed, or stopped beyond its deadline

    def write(self, event: str, pid: int = 0, **fields: Any) -> None:
        os.write(self._file, f"{json.dumps({'event': event, 'pid': pid, **fields})}\n".encode())

    def look(self) -> None:
        """Take in what was written since."""
        found = os.pread(self._file, 1 << 24, self._read)
        self._read += len(found)
        *whole, self._begun = (self._begun + found).split(b"\n")
        for text in whole:
            self._take(_line(json.loads(text)))

    def _take(self, line: Line) -> None:
        self.lines.append(line)
        if line.event == "initialize":
            self.initialized.add(line.pid)
        elif line.event == "start":
            assert line.at is not None
            self.running.setdefault(line.pid, {})[line.at] = line.attempt
        elif line.event == "struck":
            everywhere = line.rest["whom"] in ("host", "all", "daemon", "stub")
            for pid in list(self.running) if everywhere else [line.pid]:
                self.struck.update(self.running.get(pid, ()))
        elif line.event in ("done", "failed"):
            assert line.at is not None
            self.effects += line.event == "done"
            self.running.get(line.pid, {}).pop(line.at, None)

    def begun_in(self, pid: int) -> set[At]:
        """All that this process has ever begun."""
        return {line.at for line in self.lines if line.pid == pid and line.event == "start" and line.at is not None}

    def lives(self) -> Iterator[list[Line]]:
        """What happened in each life of a host."""
        life: list[Line] = []
        for line in self.lines:
            if line.event == "life" and life:
                yield life
                life = []
            life.append(line)
        yield life

    def close(self) -> None:
        os.close(self._file)


def _line(told: dict[str, Any]) -> Line:
    at = told.pop("at", None)
    return Line(
        told.pop("event"),
        told.pop("pid"),
        None if at is None else (int(at[0]), int(at[1])),
        told.pop("key", ""),
        told.pop("attempt", 0),
        told,
    )
