"""What the image's HEALTHCHECK and Fargate's run: does the host in this container answer, and is it well?"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from streamheal.runtime.figures import ShardFigures
from streamheal.web.server import serving

SCRIPT = Path(__file__).parents[2] / "docker" / "healthy.py"


class _Writes:
    def __init__(self) -> None:
        self.writes = Counter[str]()


class _Host:
    def __init__(self, shards: list[ShardFigures]) -> None:
        self.deaths = Counter[str]()
        self.keeper = _Writes()
        self._shards = shards

    def figures(self) -> list[ShardFigures]:
        return self._shards


def ask(http: str, path: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, SCRIPT, path], env={**os.environ, "STREAMHEAL_HTTP": http},
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.strip()


def asked_of(host: _Host, path: str) -> tuple[int, str]:
    """As in a container: the host listens on every address, and is asked from inside."""

    async def main() -> tuple[int, str]:
        async with serving(("127.0.0.1", 0), host) as address:
            assert address is not None
            return await asyncio.to_thread(ask, f"0.0.0.0:{address[1]}", path)

    return asyncio.run(main())


READING = ShardFigures("orders", "shardId-000000000000", 3, 3, 0, lag_s=0.0)


@pytest.mark.parametrize(
    ("shards", "path", "told"),
    [
        ([READING], "/readyz", (0, "200 ok")),
        ([], "/readyz", (1, "503 no shard is read yet")),
        # Without a shard a container has nothing to do, and is well: Fargate must not replace it.
        ([], "/healthz", (0, "200 ok")),
    ],
)
def test_the_exit_code_is_what_the_host_says(shards: list[ShardFigures], path: str, told: tuple[int, str]) -> None:
    assert asked_of(_Host(shards), path) == told


def test_a_host_that_does_not_answer_is_not_well() -> None:
    code, told = ask("0.0.0.0:1", "/healthz")
    assert code == 1
    assert "refused" in told
