"""A host whose daemon is played: `python -m bench.pipe_host TARGET [FOLDER]`.

Without a folder it speaks for one shard on its standard input and output; with one, for every stub that
knocks there.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from bench import hosting
from bench.played_kcl import PlayedKcl
from streamheal.core.policy import Policy
from streamheal.errors import Unavailable


class _NoStore:
    def put(self, envelopes: Any) -> Any:
        raise Unavailable("nothing is set aside here")


async def main(target: str, folder: Path | None = None) -> None:
    engine = PlayedKcl(folder)
    policy = {"shutdown_s": 60.0, "checkpoint_s": Policy().checkpoint_s}
    async with hosting.Hosted(target, engine, _NoStore(), policy, {"workers": 1}) as runtime:
        await engine.open()
        await runtime.run()
        await engine.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(Path, sys.argv[2:])))
