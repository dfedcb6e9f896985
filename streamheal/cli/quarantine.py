"""`streamheal quarantine list|show|discard|export`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamheal.cli.options import EVERYWHERE, given, takes
from streamheal.cli.selecting import parameters, selection
from streamheal.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from streamheal.config.settings import Settings
    from streamheal.quarantine.base import Selection, Store
    from streamheal.quarantine.envelope import Envelope

app = typer.Typer(help="Look at what was set aside.", no_args_is_help=True)

_WHERE = EVERYWHERE | {"stream"}
_Id = Annotated[str, typer.Argument(metavar="ID", help="The record's id, or as much of it as only one begins with.")]
_Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]…", help="Ids, or as much of each as is unambiguous.")]
_Json = Annotated[bool, typer.Option("--json", help="JSON lines, one envelope a line.")]
_Unmasked = Annotated[bool, typer.Option("--unmasked", help="The payload's own bytes, where the processor masks them.")]


@app.command("list")
@takes(_WHERE, parameters(status=True))
def list_(ids: _Ids = None, as_json: _Json = False, unmasked: _Unmasked = False, **flags: Any) -> None:
    """What is in quarantine, grouped by cause."""
    settings, store = _open(flags)
    found = _selected(store, settings, ids or (), flags)
    if as_json:
        _print_lines(found, unmasked=unmasked)
        return
    from streamheal.people.listing import print_list

    print_list(found, _console(), options=given(flags))


@app.command()
@takes(_WHERE)
def show(id: _Id, as_json: _Json = False, unmasked: _Unmasked = False, **flags: Any) -> None:
    """One record: what it is, what happened to it, and what to type next."""
    _, store = _open(flags)
    envelope = store.get(id)
    if as_json:
        _print_lines([envelope], unmasked=unmasked)
        return
    from streamheal.people.card import print_card

    if unmasked:
        envelope.masked_base64 = None
    print_card(envelope, _console(), group_size=_alike(store, envelope), options=given(flags))


@app.command()
@takes(_WHERE)
def discard(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Ids, or as much of each as is unambiguous.")],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for whoever looks later.")],
    **flags: Any,
) -> None:
    """Say that records need no replay. Nothing is deleted: who, when and why are kept with them."""
    from streamheal.cli.discarding import discard as discard_one

    if not why.strip():
        raise UsageError("--why is empty: expected the reason, for whoever looks later")
    _, store = _open(flags)
    # All are looked up before the first is changed.
    for envelope in [store.get(id) for id in ids]:
        print(discard_one(store, envelope, why.strip()))


@app.command()
@takes(_WHERE, parameters(status=True))
def export(
    ids: _Ids = None,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Where to; -: standard output.")] = "-",
    unmasked: _Unmasked = False,
    **flags: Any,
) -> None:
    """Whole envelopes with their bytes, as JSON lines."""
    settings, store = _open(flags)
    found = _with_bytes(store, _selected(store, settings, ids or (), flags))
    if out == "-":
        _print_lines(found, unmasked=unmasked)
        return
    from streamheal.cli.envelopes import write_lines

    exported = write_lines(Path(out), found, unmasked=unmasked)
    print(f"{exported:,} exported to {out}", file=sys.stderr)


def _open(flags: dict[str, Any]) -> tuple[Settings, Store]:
    from streamheal.cli.begin import begin
    from streamheal.parts import open_store

    settings = begin("quarantine", flags).settings
    return settings, open_store(settings)


def _selected(store: Store, settings: Settings, ids: Sequence[str], flags: dict[str, Any]) -> Iterator[Envelope]:
    import msgspec

    selected: Selection = selection(settings, ids, flags)
    # A mistyped id is told of, rather than answered with an empty list.
    return store.scan(msgspec.structs.replace(selected, ids=tuple(store.get(id).id for id in ids)))


def _with_bytes(store: Store, envelopes: Iterable[Envelope]) -> Iterator[Envelope]:
    """Bytes that spilled are fetched: an export stands alone."""
    for envelope in envelopes:
        yield store.get(envelope.id) if envelope.data_base64 is None else envelope


def _alike(store: Store, envelope: Envelope) -> int:
    """How many failed like this one. Far away it could take minutes to know: there, this one alone counts."""
    from streamheal.quarantine.base import Selection

    if "://" in store.url:
        return 1
    alike = Selection(
        fingerprint=envelope.fingerprint,
        application=envelope.application,
        stream=envelope.stream,
        status=envelope.status,
    )
    return max(1, sum(1 for _ in store.scan(alike)))


def _print_lines(envelopes: Iterable[Envelope], *, unmasked: bool) -> None:
    from streamheal.cli.envelopes import line

    for envelope in envelopes:
        sys.stdout.write(line(envelope, unmasked=unmasked))
    sys.stdout.flush()


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)
