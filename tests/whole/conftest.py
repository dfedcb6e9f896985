from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.whole.running import Site


@pytest.fixture
def kinesis(aws: Any) -> Any:
    return aws.client("kinesis")


@pytest.fixture
def site_of(aws: Any, stream: Callable[..., str], tmp_path: Path) -> Callable[..., Site]:
    """A folder with the shop in it and a new stream: `site_of(shards=2)`."""

    def make(shards: int = 1) -> Site:
        return Site(tmp_path, stream(shards=shards), aws.environment())

    return make
