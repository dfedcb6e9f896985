"""Effects and quarantined records by position, in a file of the temporary folder.

Millions of effects come in the order in which they happened, and are asked for in the order of the
stream. SQLite sorts them on disk, so that memory does not grow with them.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from streamheal.audit.effects import Effect
from streamheal.records import Position

_TABLES = """
    CREATE TABLE effects (
        sequence BLOB, sub INTEGER, shard TEXT, times INTEGER, filtered INTEGER, file INTEGER, line INTEGER, at REAL,
        PRIMARY KEY (sequence, sub, shard)
    ) WITHOUT ROWID;
    CREATE TABLE aside (
        sequence BLOB, sub INTEGER, shard TEXT, status TEXT, id TEXT, PRIMARY KEY (sequence, sub, shard)
    ) WITHOUT ROWID;
"""
# The first effect is the one that order is judged by: the earliest, where the log tells times.
_ADD = """
    INSERT INTO effects VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
        file = CASE WHEN excluded.times AND (NOT times OR excluded.at < at) THEN excluded.file ELSE file END,
        line = CASE WHEN excluded.times AND (NOT times OR excluded.at < at) THEN excluded.line ELSE line END,
        at = CASE WHEN excluded.times AND (NOT times OR excluded.at < at) THEN excluded.at ELSE at END,
        times = times + excluded.times, filtered = max(filtered, excluded.filtered)
"""
_FIND = """
    SELECT sequence, sub, times, filtered, file, line, at FROM effects
    WHERE shard IN (?, '') AND sequence BETWEEN ? AND ? ORDER BY sequence, sub
"""
_FIND_ASIDE = "SELECT sequence, sub, status, id FROM aside WHERE shard = ? AND sequence BETWEEN ? AND ?"


class Told(NamedTuple):
    """What the log tells of one record; `file`, `line` and `at` are its first effect's."""

    times: int
    filtered: bool
    file: int
    line: int
    at: float | None


class Aside(NamedTuple):
    status: str
    id: str


class Scratch:
    """Attributes:
    effects: Records that the log tells of.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="streamheal-audit-")
        self._sql = sqlite3.connect(Path(self._folder.name) / "audit.db", isolation_level=None)
        # Nothing here outlives the command: it need not survive anything.
        self._sql.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536;")
        self._sql.executescript(_TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._sql.close()
        self._folder.cleanup()

    def add_effects(self, effects: Iterable[Effect]) -> None:
        self._sql.execute("BEGIN")
        rows = (
            (_sorts(one.position), one.position.sub_sequence, one.shard_id, int(not one.filtered), one.filtered,
             one.file, one.line, one.at)
            for one in effects
        )  # fmt: skip
        self._sql.executemany(_ADD, rows)
        self._sql.execute("COMMIT")

    def add_aside(self, position: Position, shard_id: str, status: str, id: str) -> None:
        row = _sorts(position), position.sub_sequence, shard_id, status, id
        self._sql.execute("INSERT OR REPLACE INTO aside VALUES (?, ?, ?, ?, ?)", row)

    def effects(self) -> int:
        (count,) = self._sql.execute("SELECT count(*) FROM effects").fetchone()
        return int(count)

    def told(self, shard_id: str, first: Position, last: Position) -> dict[Position, Told]:
        """What the log tells of records from `first` to `last`; lines that name no shard go by position alone."""
        found: dict[Position, Told] = {}
        for sequence, sub, times, filtered, file, line, at in self._sql.execute(
            _FIND, (shard_id, _sorts(first), _sorts(last))
        ):
            position = Position(_number(sequence), sub)
            one = Told(times, bool(filtered), file, line, at)
            found[position] = _both(found[position], one) if position in found else one
        return found

    def aside(self, shard_id: str, first: Position, last: Position) -> dict[Position, Aside]:
        rows = self._sql.execute(_FIND_ASIDE, (shard_id, _sorts(first), _sorts(last)))
        return {Position(_number(sequence), sub): Aside(status, id) for sequence, sub, status, id in rows}


def _both(one: Told, other: Told) -> Told:
    """One record, told of with and without its shard."""
    first = one if one.times and (not other.times or (one.file, one.line) < (other.file, other.line)) else other
    return first._replace(times=one.times + other.times, filtered=one.filtered or other.filtered)


def _sorts(position: Position) -> bytes:
    """A sequence number, up to 429 bits long, as bytes that sort as numbers do."""
    length = (position.sequence.bit_length() + 7) // 8
    return bytes([length]) + position.sequence.to_bytes(length)


def _number(sorts: bytes) -> int:
    return int.from_bytes(sorts[1:])
