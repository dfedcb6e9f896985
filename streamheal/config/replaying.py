"""How a replay was asked for, besides which records and what every run is told."""

from __future__ import annotations

from typing import NamedTuple


class ReplayOptions(NamedTuple):
    """
    Attributes:
        rate: Records a second at most; None: as fast as they are handled.
        dry_run: Say what would be replayed, and change nothing.
        data: Bytes to use in place of the one selected record's own.
    """

    rate: float | None = None
    dry_run: bool = False
    data: bytes | None = None
