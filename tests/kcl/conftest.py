from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamheal.engines.kcl.jars import find_jars, find_java
from streamheal.errors import UsageError
from tests.kcl.running import Fleet


@pytest.fixture(scope="session")
def kcl() -> None:
    """Java and KCL's jars, or the reason why there is nothing to test."""
    try:
        find_java()
        find_jars()
    except UsageError as error:
        pytest.skip(str(error))


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
