"""What an audit came to: `streamheal audit`, for people and as JSON lines."""

from __future__ import annotations

import sys
import time
from collections import Counter
from types import TracebackType
from typing import IO, Self

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamheal.audit.audit import Audit, Result
from streamheal.audit.compare import SICK, Finding, Kind
from streamheal.people import colours
from streamheal.people.plain import count, moment, one_line, short_shard
from streamheal.quarantine.base import Store
from streamheal.records import Record

_SHOWN = 10
_WIDE = 96  # from which on nothing has to be left out
_SAYS: dict[Kind, str] = {
    "lost": "lost: behind the checkpoint, no effect, not in quarantine",
    "aside_though_done": "set aside, though it was done",
    "out_of_order": "done before an earlier record of its key",
    "twice": "done more than once",
}
_PROGRESS_S = 0.25


def arrived(record: Record) -> str:
    return record.approximate_arrival_timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Findings:
    """Hears each finding: writes it as a line at once, or keeps the first few of each kind to be shown."""

    def __init__(self, lines: IO[str] | None = None) -> None:
        self._lines = lines
        self.kept: dict[Kind, list[tuple[str, Finding]]] = {kind: [] for kind in _SAYS}
        self.seen: Counter[Kind] = Counter()

    def __call__(self, shard_id: str, finding: Finding) -> None:
        self.seen[finding.kind] += 1
        if self._lines is not None:
            self._lines.write(_line(shard_id, finding))
        elif len(self.kept[finding.kind]) < _SHOWN:
            self.kept[finding.kind].append((shard_id, finding))


def _line(shard_id: str, finding: Finding) -> str:
    record = finding.record
    row = {
        "finding": finding.kind,
        "shard_id": shard_id,
        "sequence_number": record.sequence_number,
        "sub_sequence_number": record.sub_sequence_number,
        "partition_key": record.partition_key,
        "approximate_arrival_timestamp": arrived(record),
        "detail": finding.detail,
    }
    return msgspec.json.encode(row).decode() + "\n"


def write_result(result: Result, out: IO[str]) -> None:
    """A line a shard, and the sum last."""
    for shard in result.shards:
        ends = {
            name: None if record is None else record.sequence_number
            for name, record in (("first", shard.first), ("last", shard.last))
        }
        row = {"shard_id": shard.shard_id, **msgspec.structs.asdict(shard.counts), **ends}
        out.write(msgspec.json.encode(row).decode() + "\n")
    total = msgspec.structs.asdict(result.total)
    log = {"effects_not_in_range": result.strangers, "effects_unreadable": result.unreadable}
    out.write(msgspec.json.encode({"adds_up": not result.total.sick, **total, **log}).decode() + "\n")


def print_result(result: Result, findings: Findings, console: Console) -> None:
    console.print(_table(result, wide=console.width >= _WIDE))
    console.print()
    for kind, says in _SAYS.items():
        _print_findings(kind, says, findings, console)
    for note in _notes(result):
        console.print(Text(f" {note}", style=colours.QUIET))
    console.print(_verdict(result))


def _table(result: Result, *, wide: bool) -> Table:
    table = Table(box=None, padding=(0, 1), header_style=colours.QUIET, pad_edge=True)
    table.add_column("shard", no_wrap=True)
    for name in ("records", "done", "filtered", "quarantined", "lost", "twice", "out of order"):
        table.add_column(name, justify="right", no_wrap=True)
    if wide:
        table.add_column("last record (UTC)", justify="right", no_wrap=True)
    for shard in result.shards:
        counts = shard.counts
        row: list[str | Text] = [
            short_shard(shard.shard_id),
            f"{counts.records:,}",
            f"{counts.done:,}",
            f"{counts.filtered:,}",
            f"{counts.quarantined:,}",
            Text(f"{counts.lost:,}", style=colours.SICK if counts.lost else ""),
            f"{counts.twice:,}",
            Text(f"{counts.out_of_order:,}", style=colours.SICK if counts.out_of_order else ""),
        ]
        if wide:
            row.append(moment(arrived(shard.last)) if shard.last is not None else "–")
        table.add_row(*row)
    return table


def _print_findings(kind: Kind, says: str, findings: Findings, console: Console) -> None:
    seen = findings.seen[kind]
    if not seen:
        return
    style = colours.SICK if kind in SICK else colours.WAITS
    console.print(Text(f" {count(seen, 'record')} {says}", style=style))
    for shard_id, finding in findings.kept[kind]:
        record = finding.record
        sub = f":{record.sub_sequence_number}" if record.sub_sequence_number else ""
        detail = f"   {one_line(finding.detail)}" if finding.detail else ""
        line = (
            f"   {short_shard(shard_id)}  {record.sequence_number}{sub}  key {one_line(record.partition_key, 40)}  "
            f"arrived {moment(arrived(record))}{detail}"
        )
        console.print(Text(line), soft_wrap=True)
    if seen > len(findings.kept[kind]):
        console.print(Text(f"   … and {seen - len(findings.kept[kind]):,} more: --json tells all", style=colours.QUIET))
    console.print()


def _notes(result: Result) -> list[str]:
    total, notes = result.total, []
    if total.unaccounted:
        notes.append(f"{count(total.unaccounted, 'record')} filtered or lost: the log does not tell which")
    if total.order_unknown:
        notes.append(f"{total.order_unknown:,} times the order of a key is not known: files without times (`at`)")
    if result.strangers:
        notes.append(f"the log tells of {count(result.strangers, 'record')} that are not in the range")
    if result.unreadable:
        notes.append(f"{count(result.unreadable, 'line')} of the log could not be read")
    return notes


def _verdict(result: Result) -> Text:
    total = result.total
    said = f" {count(total.records, 'record')} up to the checkpoints: "
    if total.sick:
        return Text(f"{said}does not add up, see above", style=f"bold {colours.SICK}")
    parts = [f"{total.done:,} done", f"{total.quarantined:,} in quarantine"]
    parts += [f"{total.filtered:,} filtered"] if total.filtered else []
    parts += [] if total.unaccounted else ["0 lost"]
    return Text(said + ", ".join(parts), style=f"bold {colours.GOOD}")


def report(audit: Audit, store: Store, *, as_json: bool) -> Result:
    """Run it, and say what it comes to."""
    findings = Findings(sys.stdout if as_json else None)
    with Watching() as watching:
        result = audit.run(store, findings, watching)
    if as_json:
        write_result(result, sys.stdout)
    else:
        print_result(result, findings, Console(highlight=False))
    return result


class Watching:
    """A line that tells how far it is, where somebody watches."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._status = self._console.status("reading the effects") if sys.stderr.isatty() else None
        self._next_at = 0.0

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, shard_id: str, records: int, last: Record | None) -> None:
        now = time.monotonic()
        if self._status is None or now < self._next_at:
            return
        self._next_at = now + _PROGRESS_S
        upto = f", up to {moment(arrived(last))}" if last is not None else ""
        self._status.update(f"{short_shard(shard_id)}: {count(records, 'record')}{upto}")
