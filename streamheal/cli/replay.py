"""`streamheal replay`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from streamheal.cli.options import REPLAY, takes
from streamheal.cli.selecting import nothing_selected, parameters, selection
from streamheal.errors import UsageError


@takes(REPLAY, parameters(status=False))
def replay(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]…", help="Ids, or as much of each as is unambiguous.")
    ] = None,
    rate: Annotated[str | None, typer.Option("--rate", metavar="N/s", help="Records a second, at most: 50/s.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be replayed, and change nothing.")] = False,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="An edited payload, to use for the one ID named.")
    ] = None,
    **flags: Any,
) -> int:
    """Give quarantined records to the processor again. Nothing is deleted by a replay."""
    from streamheal.cli.begin import begin
    from streamheal.config.replaying import ReplayOptions

    ids = ids or []
    if nothing_selected(ids, flags):
        raise UsageError(
            "nothing is selected: give ids, --fingerprint, --shard, --key, --reason, --since, --until or --all"
        )
    if not all(id.strip() for id in ids):
        raise UsageError("an ID is empty: expected ids, or as much of each as only one begins with")
    if ids and flags["every"]:
        raise UsageError("ids and --all are both given: expected one of them")
    if data is not None and len(ids) != 1:
        raise UsageError(f"--data is the payload of one record, and {len(ids)} ids are given: expected one ID")
    options = ReplayOptions(rate=_rate(rate), dry_run=dry_run, data=_bytes(data))
    loaded = begin("replay", flags)
    selected = selection(loaded.settings, ids, flags)
    from streamheal import assembly

    return assembly.replay(loaded, selected, options)


def _rate(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/s)?", text.strip())
    if found is None or float(found[1]) == 0:
        raise UsageError(f"--rate is {text!r}: expected records a second, more than 0, such as 50/s")
    return float(found[1])


def _bytes(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"--data: {path} cannot be read: {error.strerror}") from error
