"""The log of effects: JSON Lines that the processor under audit has written itself.

    {"sequence_number": "4959…", "sub_sequence_number": 0, "shard_id": "shardId-…", "at": 1795424770.7}

One line an effect, written after it and before the processor returns. Only `sequence_number` must be
there. `filtered`: true says that the record was not wanted. docs/audit.md tells it to users.
"""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from streamheal.errors import UsageError
from streamheal.records import Position

STDIN = "-"


class Effect(NamedTuple):
    """`file` and `line` say where it stands; `at` is Unix time, where the log has it."""

    position: Position
    shard_id: str
    filtered: bool
    file: int
    line: int
    at: float | None


class _Line(msgspec.Struct):
    sequence_number: str
    sub_sequence_number: int = 0
    shard_id: str = ""
    filtered: bool = False
    at: float | str | None = None


class EffectsLog:
    """Files of effects, read one after the other.

    Attributes:
        unreadable: Lines that are not an effect: a process that was killed may leave half a line.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        """
        Raises:
            UsageError: No file is named so.
        """
        self._paths = [path for given in paths for path in _expanded(given)]
        self._decode = msgspec.json.Decoder(_Line).decode
        self.lines = self.unreadable = 0

    def __iter__(self) -> Iterator[Effect]:
        for nth, path in enumerate(self._paths):
            if path == STDIN:
                yield from self._read(nth, sys.stdin.buffer)
                continue
            try:
                with Path(path).open("rb") as file:
                    yield from self._read(nth, file)
            except OSError as error:
                raise UsageError(f"--effects: {path} cannot be read: {error.strerror}") from error
        if self.lines and self.lines == self.unreadable:
            raise UsageError(
                f"--effects: none of {self.lines:,} lines is an effect: expected JSON lines such as "
                '{"sequence_number": "4959…"}'
            )

    def _read(self, nth: int, file: Iterable[bytes] | IO[bytes]) -> Iterator[Effect]:
        for number, raw in enumerate(file):
            if raw.isspace():
                continue
            self.lines += 1
            try:
                line = self._decode(raw)
                position = Position(int(line.sequence_number), line.sub_sequence_number)
                at = _unix(line.at)
            except (msgspec.MsgspecError, ValueError):
                self.unreadable += 1
                continue
            yield Effect(position, line.shard_id, line.filtered, nth, number, at)


def _expanded(given: str) -> list[str]:
    if given == STDIN or Path(given).exists():
        return [given]
    found = sorted(glob.glob(given, recursive=True))
    if not found:
        raise UsageError(f"--effects: there is no file {given}")
    return found


def _unix(at: float | str | None) -> float | None:
    if not isinstance(at, str):
        return at
    moment = datetime.fromisoformat(at)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
