from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kcl.running import Fleet


@pytest.fixture
def fleet_of(kcl: None, aws: Any, stream: Callable[..., str], tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """A new stream and an application for it: `fleet_of(shards=2)`. Its hosts end with the test."""
    made: list[Fleet] = []

    def make(shards: int = 1) -> Fleet:
        made.append(Fleet(tmp_path, stream(shards=shards), aws))
        return made[-1]

    yield make
    for fleet in made:
        fleet.end()
