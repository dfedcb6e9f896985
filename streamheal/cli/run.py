"""`streamheal run`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from streamheal.cli.options import RUN, takes


@takes(RUN)
def run(
    target: Annotated[
        str | None, typer.Argument(metavar="TARGET", help="The processor, as module:Class or module:function.")
    ] = None,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print each value and where it came from, and exit.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --show-config: JSON lines.")] = False,
    **flags: Any,
) -> int:
    """Read a stream, and keep it moving whatever is in it."""
    from streamheal.cli.begin import begin

    loaded = begin("show-config" if show_config else "run", {**flags, "target": target})
    if show_config:
        from streamheal.cli.show_config import print_config

        print_config(loaded, as_json=as_json)
        return 0
    from streamheal import assembly

    return assembly.run(loaded)
