"""What the host gives a worker process on its way."""

from __future__ import annotations

import msgspec


class Birth(msgspec.Struct, array_like=True, kw_only=True):
    """Descriptors, and what to run how. `parent` is the host's pid, `group` the control group to enter, if any."""

    parent: int
    sock: int
    arena: int
    journal: int
    dump: int
    target: str
    ordering: str
    concurrency: int | None
    deadline_s: float
    group: str | None
