"""The state of one machine: a SQLite file, and beside it a lock that dies with its process."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from streamheal.errors import AlreadyRunning, StateError, StateUnavailable, UsageError
from streamheal.state.base import Conflict, Row

_BUSY_S = 5.0
_LOCK_S = 0.5
_PAGE_ROWS = 500
_LAST_CHARACTER = "\U0010ffff"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS streamheal_rows (
    kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, version INTEGER NOT NULL,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID
"""

# Another program has it, the disk is full or failing: all may pass. SQLite's primary codes.
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
    }
)


class SqliteState:
    """Implements `State`. One connection, used by one thread at a time.

    A write has reached the disk when it returns (`synchronous=FULL`). Commands such as
    `quarantine list` may use the file while a run owns it: only a second run is refused.
    """

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:{path}"
        self._path = path
        self._using = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._owned: tuple[str, str, int] | None = None  # application, owner, the lock's descriptor

    def check(self) -> None:
        with self._using:
            try:
                connection = self._connect()
                # Asks for the write lock and gives it back: a file that can only be read says so here.
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except OSError as error:
                raise UsageError(self._cannot_use(error.strerror or str(error))) from error
            except sqlite3.Error as error:
                if _primary_code(error) == sqlite3.SQLITE_BUSY:
                    raise self._translated(error) from error
                raise UsageError(self._cannot_use(str(error))) from error

    def _cannot_use(self, why: str) -> str:
        return (
            f"the state {self._path} cannot be used: {why}. Expected a file that can be written, or made "
            f"(--state sqlite:PATH)"
        )

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=32
            )
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute(_SCHEMA)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _execute(self, statement: str, *values: object) -> tuple[list[Any], int]:
        """All rows of the answer, and how many were changed."""
        with self._using:
            try:
                cursor = self._connect().execute(statement, values)
                return cursor.fetchall(), cursor.rowcount
            except sqlite3.IntegrityError:
                raise
            except (sqlite3.Error, OSError) as error:
                raise self._translated(error) from error

    def _translated(self, error: sqlite3.Error | OSError) -> StateError | StateUnavailable:
        said = f"the state {self._path} cannot be used now: {error}"
        if isinstance(error, OSError):
            return StateUnavailable(said)
        return StateUnavailable(said) if _primary_code(error) in _PASSING else StateError(said)

    # -- one owner -------------------------------------------------------------------------

    def own(self, application: str, owner: str, *, at_once: bool = False) -> None:
        with self._using:
            assert self._owned is None, f"{self._owned} is owned already"
            descriptor = self._lock(application)
            try:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, owner.encode(), 0)
            except OSError as error:
                os.close(descriptor)
                raise StateUnavailable(f"cannot write {self._lock_path(application)}: {error.strerror}") from error
            self._owned = (application, owner, descriptor)

    def _lock_path(self, application: str) -> Path:
        # A side file, because SQLite takes and drops locks on the database's own file, and POSIX
        # drops all of a process' locks on a file when any descriptor of it is closed.
        return self._path.with_name(f"{self._path.name}.{quote(application, safe='')}.lock")

    def _lock(self, application: str) -> int:
        path = self._lock_path(application)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UsageError(f"cannot lock {path}: {error.strerror}") from error
        try:
            _flock_soon(descriptor)
        except OSError as error:
            holder = os.pread(descriptor, 1000, 0).decode("utf-8", "replace") or "another process"
            os.close(descriptor)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise UsageError(f"cannot lock {path}: {error.strerror}. Expected a local file system") from error
            raise AlreadyRunning(
                f"{application} is already running: {holder} holds {self._path}. "
                f"Stop it first, or run under another --application"
            ) from error
        return descriptor

    def keep_owning(self) -> None:
        """The lock holds by itself; only a lock file that somebody removed has to be taken anew."""
        with self._using:
            assert self._owned is not None, "nothing is owned"
            application, owner, descriptor = self._owned
            try:
                if os.path.samestat(os.fstat(descriptor), os.stat(self._lock_path(application))):
                    return
            except FileNotFoundError:
                pass
            except OSError as error:
                raise StateUnavailable(f"cannot see {self._lock_path(application)}: {error.strerror}") from error
            self.disown()
            self.own(application, owner)

    def disown(self) -> None:
        with self._using:
            if self._owned is not None:
                # The file stays: removing it would let two processes lock two files of one name.
                os.close(self._owned[2])
                self._owned = None

    # -- rows ------------------------------------------------------------------------------

    def read(self, kind: str, key: str) -> Row | None:
        rows, _ = self._execute("SELECT value, version FROM streamheal_rows WHERE kind = ? AND key = ?", kind, key)
        return Row(key, json.loads(rows[0][0]), rows[0][1]) if rows else None

    def write(self, kind: str, key: str, value: dict[str, Any], *, replaces: int | None) -> int:
        text = json.dumps(value, separators=(",", ":"))
        if replaces is None:
            try:
                self._execute("INSERT INTO streamheal_rows VALUES (?, ?, ?, 1)", kind, key, text)
            except sqlite3.IntegrityError as error:
                raise Conflict(f"{kind} {key} is there already") from error
            return 1
        _, changed = self._execute(
            "UPDATE streamheal_rows SET value = ?, version = version + 1 WHERE kind = ? AND key = ? AND version = ?",
            text, kind, key, replaces,
        )  # fmt: skip
        if changed == 0:
            raise Conflict(f"{kind} {key} is not at version {replaces}")
        return replaces + 1

    def scan(self, kind: str, key_prefix: str = "") -> Iterator[Row]:
        # Page by page, so that a slow reader keeps nobody from writing.
        after = ""
        while True:
            rows, _ = self._execute(
                "SELECT key, value, version FROM streamheal_rows"
                " WHERE kind = ? AND key >= ? AND key > ? AND key < ? ORDER BY key LIMIT ?",
                kind, key_prefix, after, key_prefix + _LAST_CHARACTER, _PAGE_ROWS,
            )  # fmt: skip
            for key, value, version in rows:
                yield Row(key, json.loads(value), version)
            if len(rows) < _PAGE_ROWS:
                return
            after = rows[-1][0]

    def delete(self, kind: str, key: str) -> None:
        self._execute("DELETE FROM streamheal_rows WHERE kind = ? AND key = ?", kind, key)

    def close(self) -> None:
        with self._using:
            self.disown()
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _flock_soon(descriptor: int) -> None:
    """Lock, or raise once it is clear that somebody means to keep the lock.

    A host that was killed a moment ago may not be quite gone; and a child that it started last
    has the lock's descriptor until its exec is over.
    """
    give_up_at = time.monotonic() + _LOCK_S
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                raise
        time.sleep(0.02)


def _primary_code(error: sqlite3.Error) -> int:
    # The low byte is the primary code; the rest tells variants of it apart (sqlite.org/rescode.html).
    # Errors that Python's own module raises have none.
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
