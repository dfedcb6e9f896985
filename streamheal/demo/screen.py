"""What the demo says: the line above the live view, and the end with its sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from streamheal.people import colours
from streamheal.people.listing import Group, grouped, next_commands, print_commands
from streamheal.people.live import Totals
from streamheal.people.plain import count, one_line, plain, prefix_length
from streamheal.quarantine.envelope import Envelope


def header(stream: str, shards: int, endpoint: str) -> str:
    address = endpoint.partition("://")[2] or endpoint
    facts = [
        f"stream {stream}",
        count(shards, "shard"),
        f"embedded AWS on {address}",
        "no Java, no Docker, no account",
    ]
    return "streamheal demo   " + " · ".join(facts)


def faults(totals: Totals, envelopes: Sequence[Envelope], expected: Mapping[bytes, str], *, orders: int) -> list[str]:
    """What does not add up, each in a sentence; empty: all is as it must be."""
    found = []
    if not totals.add_up:
        found.append("read is not done + quarantined + filtered + open")
    if totals.in_flight:
        found.append(f"{count(totals.in_flight, 'order')} still open")
    if totals.read != orders:
        found.append(f"{totals.read:,} of {count(orders, 'order')} read")
    reasons: Counter[tuple[bytes | None, str]] = Counter((one.data, one.reason) for one in envelopes)
    wanted: Counter[tuple[bytes | None, str]] = Counter(expected.items())
    for (_, reason), missing in (wanted - reasons).items():
        found.append(f"{count(missing, 'order')} should be in quarantine for {reason}, and not so")
    for (_, reason), extra in (reasons - wanted).items():
        found.append(f"{count(extra, 'order')} in quarantine for {reason}, and should not be")
    if totals.quarantined != len(envelopes):
        found.append(f"{totals.quarantined:,} counted as quarantined, {len(envelopes):,} there")
    return found


def print_end(
    console: Console,
    totals: Totals,
    envelopes: Sequence[Envelope],
    *,
    orders: int,
    took_s: float,
    wrong: Sequence[str] = (),
    options: str = "",
) -> None:
    """The sum, what happened to each sick order, and what to type next.

    Args:
        wrong: What `faults` found.
        options: Said again in every command shown, so that it finds the demo's quarantine.
    """
    console.print()
    console.print(_sum(totals, orders, took_s))
    for fault in wrong:
        console.print(Text(f" This does not add up: {fault}.", style=f"bold {colours.SICK}"))
    groups = grouped(envelopes)
    length = prefix_length(group.first.id for group in groups)
    for group in groups:
        console.print()
        console.print(_cause(group, length))
        console.print(Padding(Text(plain(group.first.verdict), style=colours.QUIET), (0, 0, 0, length + 3)))
    if groups:
        console.print()
        print_commands(next_commands(groups, options), console)


def _sum(totals: Totals, orders: int, took_s: float) -> Text:
    lost = orders - totals.done - totals.quarantined - totals.filtered - totals.in_flight
    text = Text(f" {count(totals.read, 'order')} read in {took_s:.1f} s: ", style="bold")
    text.append(f"{totals.done:,} done, {totals.quarantined:,} set aside, ")
    return text.append(f"{lost:,} lost.", style=colours.SICK if lost else colours.GOOD)


def _cause(group: Group, length: int) -> Table:
    first = group.first
    line = Table.grid(padding=(0, 2, 0, 0), expand=True)
    line.add_column(no_wrap=True)
    line.add_column(no_wrap=True, min_width=9)
    line.add_column(ratio=1, overflow="fold")
    line.add_column(no_wrap=True, justify="right")
    line.add_row(
        Text(f" {first.id[:length]}", style="bold"),
        Text(first.reason, style=colours.REASONS.get(first.reason, "")),
        Text(one_line(first.title)),
        Text(count(group.records, "order")),
    )
    return line
