"""What the host gives a worker process on its way."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

# What the nursery says once it can bear, and what the host then says to each that it bore.
READY, BORN = b"ready", b"born"


class Birth(msgspec.Struct, array_like=True, kw_only=True):
    """Descriptors, and what to run how. `parent` is the host's pid, `group` the control group to enter, if any.

    What is made for this process alone is known where it is given (`Given`).
    """

    parent: int
    sock: int = -1
    arena: int
    journal: int = -1
    dump: int = -1
    target: str
    ordering: str
    concurrency: int | None
    deadline_s: float
    group: str | None


class Given(NamedTuple):
    """The descriptors that a process begins with, in the order in which the nursery gets them."""

    sock: int
    arena: int
    journal: int
    dump: int
    stdout: int
    stderr: int

    @property
    def kept(self) -> dict[str, int]:
        """Those that stand in its `Birth`."""
        return {"sock": self.sock, "arena": self.arena, "journal": self.journal, "dump": self.dump}
