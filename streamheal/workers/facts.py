"""What runs: versions, as envelopes tell them. Asked once, in the host, off the loop."""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
from importlib import metadata
from typing import Any

from streamheal import __version__
from streamheal.workers import wire
from streamheal.workers.port import TargetFacts

_RELEASE_VARIABLES = ("STREAMHEAL_RELEASE", "GIT_COMMIT")
_GIT_S_MAX = 5.0


async def gather_facts(target: str, facts: wire.Facts) -> TargetFacts:
    version, packages = await asyncio.to_thread(lambda: (_release(), _packages(target, facts.modules)))
    known: Any = facts
    return TargetFacts(
        name=target,
        class_name=facts.class_name,
        mode=known.mode,
        ordering=known.ordering,
        concurrency=facts.concurrency,
        deadline_s=facts.deadline_s,
        attempts_max=facts.attempts_max,
        overrides=facts.overrides,
        masks=facts.masks,
        version=version,
        python=platform.python_version(),
        packages=packages,
    )


def _release() -> str | None:
    for name in _RELEASE_VARIABLES:
        if value := os.environ.get(name):
            return value
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=_GIT_S_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _packages(target: str, modules: tuple[str, ...]) -> dict[str, str]:
    found = {"streamheal": __version__}
    for name in ("msgspec", *modules, target.partition(":")[0].partition(".")[0]):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
