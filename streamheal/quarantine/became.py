"""What became of envelopes that lie in a stream, where nothing can be changed: kept in the state.

kind APPLICATION#became   key ID   value {"status", "replays", "discard"}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from streamheal.errors import Conflict
from streamheal.quarantine.envelope import Discard, Envelope, Replay, Status

# DynamoDB keeps no more than 400 KB in an item; a failed try with its traceback and log may have 150.
_ROW_BYTES_MAX = 300_000


class Row(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def value(self) -> dict[str, Any]: ...
    @property
    def version(self) -> int: ...


class Memory(Protocol):
    """As much of a state as is needed here (see `state.base.State`)."""

    def read(self, kind: str, key: str) -> Row | None: ...
    def write(self, kind: str, key: str, value: dict[str, Any], *, replaces: int | None) -> int: ...
    def scan(self, kind: str, key_prefix: str = "") -> Iterator[Row]: ...


class _Became(msgspec.Struct):
    status: Status = "open"
    replays: list[Replay] = []
    discard: Discard | None = None


class Became:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def statuses(self, application: str) -> dict[str, Status]:
        """Of every envelope that something has become of, by id."""
        return {row.key: row.value["status"] for row in self._memory.scan(_kind(application))}

    def merged(self, envelope: Envelope) -> Envelope:
        return self._merged(envelope, self._memory.read(_kind(envelope.application), envelope.id))

    def amend(self, envelope: Envelope, change: Callable[[Envelope], Envelope]) -> Envelope:
        """As `Store.amend`, `envelope` being as it was stored."""
        kind = _kind(envelope.application)
        while True:
            row = self._memory.read(kind, envelope.id)
            amended = change(self._merged(envelope, row))
            value = _Became(amended.status, _within(amended.replays), amended.discard)
            try:
                plain = msgspec.to_builtins(value)
                self._memory.write(kind, envelope.id, plain, replaces=None if row is None else row.version)
            except Conflict:
                continue
            return amended

    def _merged(self, envelope: Envelope, row: Row | None) -> Envelope:
        if row is None:
            return msgspec.structs.replace(envelope)
        became = msgspec.convert(row.value, _Became)
        return msgspec.structs.replace(envelope, status=became.status, replays=became.replays, discard=became.discard)


def _within(replays: list[Replay]) -> list[Replay]:
    """What of the tries has room in a row: the oldest ones' details go first, their outcomes stay."""
    kept = list(replays)
    for nth, entry in enumerate(kept):
        if len(msgspec.json.encode(kept)) <= _ROW_BYTES_MAX:
            break
        kept[nth] = msgspec.structs.replace(entry, attempt=None)
    return kept


def _kind(application: str) -> str:
    return f"{application}#became"
