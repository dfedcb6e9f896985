"""A quarantine in a folder: one file an envelope, whole or not there at all.

.streamheal/17-4711-139…   written and on disk   ──rename──►   application=…/…/ID.json
(killed here: nothing is stored, the leftover is swept away at a later start)
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from streamheal.errors import StoreError, StoreUnavailable, UsageError
from streamheal.quarantine import disk, layout, reading
from streamheal.quarantine.base import Selection
from streamheal.quarantine.envelope import Envelope
from streamheal.quarantine.layout import Partition

_PASSING = frozenset({errno.EAGAIN, errno.EDQUOT, errno.EINTR, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
                      errno.ENOSPC, errno.ESTALE, errno.ETIMEDOUT})  # fmt: skip
_LEFTOVER_S = 3600.0


class _Write(NamedTuple):
    nth: int
    temporary: str
    day: str
    name: str


Outcomes = list[StoreError | StoreUnavailable | None]


class _Day:
    """Where one application's and stream's envelopes of a day lie, and those of the days before."""

    def __init__(self, root: Path, partition: Partition) -> None:
        self._days = f"{root}/{partition.path}".rpartition("/")[0]
        self.directory = f"{self._days}/date={partition.date}"
        self._known = [day for day in layout.dates(_names(self._days)) if day < partition.date]

    def find(self, envelope: Envelope, name: str) -> str | None:
        """The directory that holds this file, today's or that of an earlier day: few days hold
        envelopes at all, and fewer since the record arrived."""
        if os.path.exists(f"{self.directory}/{name}"):
            return self.directory
        if not self._known:
            return None
        earlier = (f"{self._days}/date={day}" for day in layout.earlier_dates(envelope, self._known))
        return next((day for day in earlier if os.path.exists(f"{day}/{name}")), None)


class FolderStore:
    """Implements `Store`.

    A put of many writes them all, brings them to disk together and only then gives them their
    names, so that a crash leaves no name without its bytes, and a flood pays for the disk once
    a batch.
    """

    def __init__(self, root: Path) -> None:
        self.url = str(root)
        self._root = root
        self._writing = root / ".streamheal"
        self._started_ns = time.time_ns()  # tells apart two stores of one process, and two of one pid
        self._numbers = itertools.count()
        self._made: set[Path] = set()  # directories known to be there, and to be on disk

    def check(self) -> None:
        try:
            self._make(self._writing)
            self._sweep()
            probe = self._temporary()
            with disk.Batch(self._writing) as batch:
                batch.write(probe, b"{}")
                batch.sync()
            os.unlink(probe)
        except OSError as error:
            raise UsageError(
                f"the quarantine folder {self._root} cannot be written: {error.strerror}. "
                f"Expected a folder, or a place where one can be made (--quarantine)"
            ) from error

    def _sweep(self) -> None:
        """Remove what writers left that were killed. Those who still write are done within the hour."""
        for leftover in self._writing.glob("*.tmp"):
            try:
                if time.time() - leftover.stat().st_mtime > _LEFTOVER_S:
                    leftover.unlink()
            except FileNotFoundError:
                pass

    def put(self, envelopes: Sequence[Envelope]) -> Outcomes:
        outcomes: Outcomes = [None] * len(envelopes)
        try:
            self._make(self._writing)
            with disk.Batch(self._writing) as batch:
                writes, there = self._write(batch, envelopes, outcomes)
                self._finish(batch, writes, there, outcomes)
        except OSError as error:
            self._made.clear()  # somebody may have tidied up
            failure = self._cannot("write", self._root, error)
            return [outcome or failure for outcome in outcomes]
        return outcomes

    def _write(
        self, batch: disk.Batch, envelopes: Sequence[Envelope], outcomes: Outcomes
    ) -> tuple[list[_Write], set[str]]:
        """What was written under a temporary name, and the days that hold what was there already."""
        writes: list[_Write] = []
        there: set[str] = set()
        days: dict[Partition, _Day] = {}
        # Texts, not paths: in a flood, making paths would cost as much as making the files.
        for nth, envelope in enumerate(envelopes):
            partition = Partition.of(envelope)
            day = days.get(partition) or days.setdefault(partition, _Day(self._root, partition))
            name, temporary = envelope.id + layout.SUFFIX, self._temporary()
            try:
                if (found := day.find(envelope, name)) is not None:
                    there.add(found)
                    continue
                batch.write(temporary, reading.encode(envelope))
                writes.append(_Write(nth, temporary, day.directory, name))
            except OSError as error:
                _unlink(temporary)
                outcomes[nth] = self._cannot("write", Path(day.directory, name), error)
        return writes, there

    def _finish(self, batch: disk.Batch, writes: list[_Write], there: set[str], outcomes: Outcomes) -> None:
        """Bring to disk what was written, then give it its names, and those to disk too."""
        days = {write.day for write in writes}
        try:
            batch.sync()
            for day in days:
                self._make(Path(day))
            for write in writes:
                os.rename(write.temporary, f"{write.day}/{write.name}")
            # Those found there too: the put that named them may have failed at this very line.
            for day in days | there:
                disk.sync_path(day)
        except OSError as error:
            self._made.clear()
            for write in writes:
                _unlink(write.temporary)
            failure = self._cannot("write", self._root, error)
            outcomes[:] = [outcome or failure for outcome in outcomes]

    def get(self, id_prefix: str) -> Envelope:
        path = self._named(id_prefix)
        raw = self._read(path)
        if raw is None:
            raise StoreError(f"{path} was removed while it was read")
        return reading.decode(raw, str(path))

    def _named(self, id_prefix: str) -> Path:
        """The file of the one id that begins so; a whole id is found without listing days of many."""
        found: dict[str, Path] = {}
        for partition in self._partitions():
            whole = self._path(partition, id_prefix)
            if layout.id_of(whole.name) and whole.exists():
                return whole
            for name in _names(whole.parent) if len(id_prefix) < layout.ID_CHARS else ():
                id = layout.id_of(name)
                if id is not None and id.startswith(id_prefix):
                    found.setdefault(id, whole.parent / name)
        return found[reading.the_one(id_prefix, list(found))]

    def scan(self, selection: Selection) -> Iterator[Envelope]:
        meant = sorted((one for one in self._partitions() if one.may_hold(selection)), key=lambda one: one.date)
        for _, of_one_day in itertools.groupby(meant, key=lambda one: one.date):
            yield from reading.selected(self._found(list(of_one_day), selection), selection, self._read)

    def _found(self, partitions: list[Partition], selection: Selection) -> Iterator[tuple[Path, bytes]]:
        for partition in partitions:
            for name in _names(self._root / partition.path):
                id = layout.id_of(name)
                if id is None or (selection.ids and not id.startswith(selection.ids)):
                    continue
                path = self._root / partition.path / name
                raw = self._read(path)
                if raw is not None:
                    yield path, raw

    def amend(self, id: str, change: Callable[[Envelope], Envelope]) -> Envelope:
        with self._amending():
            amended = change(self.get(id))
            path = self._path(Partition.of(amended), amended.id)
            temporary = self._temporary()
            try:
                with disk.Batch(self._writing) as batch:
                    batch.write(temporary, reading.encode(amended))
                    batch.sync()
                os.rename(temporary, path)
                disk.sync_path(path.parent)
            except OSError as error:
                _unlink(temporary)
                raise self._cannot("write", path, error) from error
        return amended

    @contextmanager
    def _amending(self) -> Iterator[None]:
        """One at a time over all processes: a discard during a replay must not undo its entries."""
        try:
            self._make(self._writing)
            descriptor = os.open(self._writing / "amending.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._cannot("lock", self._writing, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _partitions(self) -> Iterator[Partition]:
        for application, path in self._columns(self._root, "application"):
            for stream, within in self._columns(path, "stream"):
                for day in layout.dates(_names(within)):
                    yield Partition(application, stream, day)

    def _columns(self, path: Path, column: str) -> Iterator[tuple[str, Path]]:
        for name in sorted(_names(path)):
            value = layout.value_of(column, name)
            if value is not None:
                yield value, path / name

    def _path(self, partition: Partition, id: str) -> Path:
        return self._root / partition.path / (id + layout.SUFFIX)

    def _temporary(self) -> str:
        return f"{self._writing}/{os.getpid()}-{self._started_ns}-{next(self._numbers)}.tmp"

    def _make(self, directory: Path) -> None:
        if directory not in self._made:
            disk.make_directory(directory)
            self._made.add(directory)

    def _read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._cannot("read", path, error) from error

    def _cannot(self, do: str, path: Path, error: OSError) -> StoreError | StoreUnavailable:
        kind = StoreUnavailable if error.errno in _PASSING else StoreError
        return kind(f"cannot {do} {path}: {error.strerror or error}")


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # swept away at a later start


def _names(directory: str | Path) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
