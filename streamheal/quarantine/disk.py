"""Bytes brought to disk, one file or many at once.

Linux has `syncfs`, which brings a whole file system to disk in one call; elsewhere every file
is synced by itself.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
from pathlib import Path
from types import TracebackType

# Below it, syncing each file costs less than what others may have waiting on the file system.
_SYNCFS_FROM_FILES = 8


class Batch:
    """New files of one file system, written one after another and brought to disk together.

    Args:
        directory: Any directory of that file system.
    """

    def __init__(self, directory: Path) -> None:
        # Opened before the first byte is written: syncfs tells of the errors since then (syncfs(2)).
        self._descriptor = _open_to_sync(directory)
        self._written: list[str] = []

    def __enter__(self) -> Batch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def write(self, path: str, data: bytes) -> None:
        """Write a new file. Its bytes are not on disk yet."""
        self._written.append(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """All that was written is on disk when this returns."""
        if _libc is not None and len(self._written) >= _SYNCFS_FROM_FILES:
            if _libc.syncfs(self._descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            return
        for path in self._written:
            sync_path(path)


def sync_path(path: str | Path) -> None:
    """A file's bytes, or the names in a directory, are on disk when this returns."""
    # A descriptor of its own will do: fsync is about the file, not about who wrote it (fsync(2)).
    descriptor = _open_to_sync(path)
    try:
        _fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make it and what it lies in, with their names on disk."""
    if path.is_dir():
        return
    make_directory(path.parent)
    try:
        path.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
    sync_path(path.parent)


def _open_to_sync(path: str | Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _fsync(descriptor: int) -> None:
    if sys.platform == "darwin":
        # There, fsync leaves the bytes in the drive's own cache (Apple's fsync(2)).
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def _find_libc() -> ctypes.CDLL | None:
    """The C library, where its `syncfs` can be relied on.

    Only since Linux 5.8 does it tell of bytes that could not be written (syncfs(2)).
    """
    if sys.platform != "linux":
        return None
    release = [int("".join(filter(str.isdigit, part)) or 0) for part in os.uname().release.split(".")[:2]]
    libc = ctypes.CDLL(None, use_errno=True)
    return libc if release >= [5, 8] and hasattr(libc, "syncfs") else None


_libc = _find_libc()
