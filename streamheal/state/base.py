"""What must outlive the host: small rows, read and written under a version.

Every state keeps rows of JSON-able values by kind and key. A write names the version it
replaces, so that two hosts can never both believe they wrote. What the rows mean (checkpoints,
start counters, replay ledgers) is said once, in `ledgers.py`, over this interface.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from streamheal.errors import Conflict

__all__ = ["Conflict", "Row", "State"]


class Row(NamedTuple):
    key: str
    value: dict[str, Any]
    version: int


class State(Protocol):
    """Methods block, and may be called from any thread. All but `check` raise `StateUnavailable`
    when trying again may help, and `StateError` when it will not."""

    url: str

    def check(self) -> None:
        """Try that rows can be read and written here; make the file or table where that is ours to do.

        Raises:
            UsageError: Not writable, no permission, a table with another schema.
        """

    def own(self, application: str, owner: str, *, at_once: bool = False) -> None:
        """Become the only owner of the application, until `disown` or death.

        Args:
            owner: Who we are, for people: `host pid 4711`.
            at_once: Whoever owns it cannot be alive, as far as we know, and is not waited for. If it is,
                it learns of us by `keep_owning`.

        Raises:
            AlreadyRunning: Naming the owner there is.
        """

    def keep_owning(self) -> None:
        """Say that we live; called every few seconds. Raises `AlreadyRunning` if another took over."""

    def disown(self) -> None: ...

    def read(self, kind: str, key: str) -> Row | None: ...

    def write(self, kind: str, key: str, value: dict[str, Any], *, replaces: int | None) -> int:
        """Write a row durably and return its new version.

        Args:
            replaces: The version that was read; None: there must be no such row yet.

        Raises:
            Conflict: The row is not at that version.
        """

    def scan(self, kind: str, key_prefix: str = "") -> Iterator[Row]:
        """All rows of a kind whose key begins so, in the order of their keys."""

    def delete(self, kind: str, key: str) -> None: ...

    def close(self) -> None: ...
