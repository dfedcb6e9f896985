"""Rows of one kind, read and changed under their versions. What they mean is said in `ledgers.py` and `marks.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamheal.state.base import Conflict, Row, State


class Rows:
    """Rows of one kind, with the versions they were last seen at. Any thread may change any."""

    def __init__(self, state: State, kind: str) -> None:
        self._state = state
        self._kind = kind
        self._seen: dict[str, Row] = {}

    def read_all(self, key_prefix: str = "") -> list[Row]:
        rows = list(self._state.scan(self._kind, key_prefix))
        self._seen.update({row.key: row for row in rows})
        return rows

    def read(self, key: str) -> dict[str, Any]:
        """What is there; `{}` where nothing is."""
        row = self._state.read(self._kind, key)
        return {} if row is None else row.value

    def look_anew(self, key: str) -> None:
        """Whatever was seen of this row may be long ago: somebody else may own it meanwhile."""
        self._seen.pop(key, None)

    def change(self, key: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        """Write `change` of what is there, and return it.

        A conflict is no alarm by itself: a write whose answer was lost is found done when it is
        tried again. `change` is then called once more, so doing one twice must do no harm.
        """
        # Seen no more until it is known again what is there: a write may arrive and its answer not.
        row = self._seen.pop(key, None) or self._state.read(self._kind, key)
        while True:
            old = {} if row is None else row.value
            new = change(dict(old))
            if new == old:
                if row is not None:
                    self._seen[key] = row
                return new
            try:
                version = self._state.write(self._kind, key, new, replaces=None if row is None else row.version)
            except Conflict:
                row = self._state.read(self._kind, key)
                continue
            self._seen[key] = Row(key, new, version)
            return new

    def delete(self, key: str) -> None:
        self._state.delete(self._kind, key)
        self._seen.pop(key, None)
