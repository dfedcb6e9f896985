"""Coroutine tests run in asyncio, by anyio's plugin (starlette brings it)."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
