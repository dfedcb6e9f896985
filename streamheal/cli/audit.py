"""`streamheal audit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamheal.cli.options import EVERYWHERE, takes
from streamheal.cli.selecting import shard_id, time_of
from streamheal.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from streamheal.records import Position

_PANEL = "What to compare"
_BOUND = "TIME|SEQUENCE-NUMBER"


@takes(EVERYWHERE | {"stream", "engine", "kcl_properties", "ordering"})
def audit(
    *,
    effects: Annotated[
        list[str] | None,
        typer.Option(
            "--effects", metavar="FILE", rich_help_panel=_PANEL,
            help="The log that the processor wrote: JSON lines. A file, a pattern, or -; may be given again.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar=_BOUND, rich_help_panel=_PANEL,
                     help="Where to begin (default: the oldest record that there is)."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar=_BOUND, rich_help_panel=_PANEL,
                     help="Where to end (default, and at most: each shard's checkpoint)."),
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="SHARD", rich_help_panel=_PANEL, help="Only this shard.")
    ] = None,
    filtered_may_miss: Annotated[
        bool,
        typer.Option("--filtered-may-miss", rich_help_panel=_PANEL,
                     help="The log does not tell what `wants` did not want: what it lacks is not called lost."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines: a finding each, a shard each, the sum.")] = False,
    **flags: Any,
) -> int:  # fmt: skip
    """Prove it: compare the stream with what the processor says that it did, record by record."""
    from streamheal.cli.begin import begin

    if not effects:
        raise UsageError("no --effects: give the log that the processor wrote (see docs/audit.md)")
    loaded = begin("audit", flags)
    settings = loaded.settings
    if settings.stream is None:
        raise UsageError("no stream: give --stream NAME")
    if not settings.application:
        raise UsageError("no application: give --application NAME, whose checkpoints are meant")
    bounds = _bound("--from", since, shard), _bound("--until", until, shard)
    from streamheal import assembly
    from streamheal.audit.audit import AuditOptions

    options = AuditOptions(tuple(effects), *bounds, shard_id(shard), filtered_may_miss)
    return assembly.audit(loaded, options, as_json=as_json)


def _bound(flag: str, value: str | None, shard: str | None) -> datetime | Position | None:
    from streamheal.records import Position

    if value is None:
        return None
    # No year has so many digits.
    if value.isdecimal() and len(value) > 10:
        if shard is None:
            raise UsageError(f"{flag} is a sequence number: expected --shard with it, the one that it is of")
        return Position(int(value))
    return time_of(flag, value)
