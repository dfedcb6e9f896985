"""What is in quarantine, one line a cause: `streamheal quarantine list`, and the end of a run."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamheal.people import colours
from streamheal.people.plain import count, moment, one_line, prefix_length
from streamheal.quarantine.envelope import Envelope

# What kills processes first, what only waits in line last.
_WORST_FIRST = ("crash", "deadline", "exception", "rejected", "decode", "parked")


@dataclass(slots=True)
class Group:
    """The records that failed alike: one fingerprint, one status."""

    first: Envelope
    records: int = 1

    @property
    def since(self) -> str:
        return self.first.quarantined_at

    def add(self, envelope: Envelope) -> None:
        self.records += 1
        if envelope.quarantined_at < self.first.quarantined_at:
            self.first = envelope

    def _worst_first(self) -> tuple[int, int, str]:
        reason = self.first.reason
        rank = _WORST_FIRST.index(reason) if reason in _WORST_FIRST else len(_WORST_FIRST)
        return rank, -self.records, self.since


def grouped(envelopes: Iterable[Envelope]) -> list[Group]:
    """One group a cause, the worst first. Keeps one envelope of each, however many come."""
    groups: dict[tuple[str, str], Group] = {}
    for envelope in envelopes:
        cause = (envelope.fingerprint, envelope.status)
        if group := groups.get(cause):
            group.add(envelope)
        else:
            groups[cause] = Group(envelope)
    return sorted(groups.values(), key=Group._worst_first)


def print_list(envelopes: Iterable[Envelope], console: Console, *, options: str = "") -> None:
    """The causes, how many records each has, and what to type next.

    Args:
        options: Said again in every command shown, so that it finds the same quarantine:
            `--quarantine s3://bucket/prefix`.
    """
    groups = grouped(envelopes)
    if not groups:
        console.print(Text("Nothing in quarantine.", style=colours.GOOD))
        return
    console.print(_headline(groups))
    console.print()
    console.print(causes(groups, console.width))
    console.print()
    print_commands(next_commands(groups, options), console)


def _headline(groups: Sequence[Group]) -> Text:
    records = sum(group.records for group in groups)
    return Text(f"{count(records, 'record')} in quarantine, {count(len(groups), 'cause')}", style="bold")


def causes(groups: Sequence[Group], width: int) -> Table:
    """One row a group. Narrow terminals do without the time."""
    wide = width >= 100
    table = Table(box=None, padding=(0, 2, 0, 0), header_style=colours.QUIET, pad_edge=False)
    table.add_column("id", no_wrap=True)
    table.add_column("reason", no_wrap=True)
    table.add_column("what happened", overflow="fold")
    table.add_column("records", justify="right", no_wrap=True)
    if wide:
        table.add_column("since (UTC)", no_wrap=True)
    length = prefix_length(group.first.id for group in groups)
    for group in groups:
        first = group.first
        cells = [
            Text(one_line(first.id)[:length], style="bold"),
            _reason(first),
            Text(one_line(first.title)),
            Text(f"{group.records:,}"),
        ]
        table.add_row(*cells, *([Text(moment(group.since), style=colours.QUIET)] if wide else []))
    return table


def _reason(envelope: Envelope) -> Text:
    text = Text(one_line(envelope.reason), style=colours.REASONS.get(envelope.reason, ""))
    if envelope.status != "open":
        text.append(f" · {envelope.status}", style=colours.STATUSES[envelope.status])
    return text


def next_commands(groups: Sequence[Group], options: str) -> list[tuple[str, str]]:
    """For the worst cause that is open; for others only what follows the command differs."""
    length = prefix_length(group.first.id for group in groups)
    worst = next((group for group in groups if group.first.status == "open"), None)
    shown = (worst or groups[0]).first
    commands = [(command("quarantine show", shown.id[:length], options), "why" if worst else "what became of it")]
    if worst is not None:
        them = count(worst.records, "record") if worst.records > 1 else "it"
        again = command("replay --fingerprint", shown.fingerprint, options)
        commands.append((again, f"try {them} again, once mended"))
        if len(groups) > 1:
            commands.append((command("replay --all", options=options), "try everything again"))
    return commands


def command(verb: str, argument: str = "", options: str = "") -> str:
    """A command to copy. What comes out of an envelope is quoted: it is not ours."""
    parts = [program(), verb, shlex.quote(one_line(argument)) if argument else "", options]
    return " ".join(part for part in parts if part)


def program() -> str:
    """How streamheal is called here: `make demo` leaves it in a folder that no shell looks into."""
    called = sys.argv[0]
    if Path(called).name == "streamheal" and shutil.which("streamheal") is None:
        return shlex.quote(called)
    return "streamheal"


def print_commands(commands: Sequence[tuple[str, str]], console: Console) -> None:
    """What to type, and what for; side by side where both fit."""
    longest = max(len(command) for command, _ in commands)
    beside = all(6 + longest + 3 + len(purpose) <= console.width for _, purpose in commands)
    for number, (command, purpose) in enumerate(commands):
        line = Text("Next  " if number == 0 else "      ")
        line.append(one_line(command).ljust(longest) if beside else one_line(command), style=colours.COMMAND)
        if beside:
            line.append(f"   {purpose}", style=colours.QUIET)
        # A command is copied whole: it may be longer than the screen, and is never broken.
        console.print(line, soft_wrap=True)
        if not beside:
            console.print(Text(f"        {purpose}", style=colours.QUIET))
