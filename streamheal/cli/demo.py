"""`streamheal demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Keep what it says at its end as SVG.")
    ] = None,
) -> int:
    """Watch a stream with poison in it being healed: no Java, no Docker, no AWS account."""
    from streamheal import assembly
    from streamheal.cli import logs

    # The live view tells what happens, in sentences; the log would tell it again.
    logs.configure("error")
    return assembly.demo(picture)
