"""A run while it runs: a row a shard, the sum, and what happened last.

Figures are asked for when the screen is drawn and at no other time; drawing happens in the
thread that calls `refresh` (figures belong to the event loop), at most eight times a second.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streamheal.people import colours
from streamheal.people.above import Above
from streamheal.people.plain import count, duration, one_line, plain, short_shard
from streamheal.people.sentences import key, sentence

_REFRESH_S = 1 / 8
_EVENTS_SHOWN = 8
_WAITING_SHOWN = 4
# Rates are taken over so long: shorter ones jump, longer ones lie about a stall.
_RATE_S = 2.0


class Figures(Protocol):
    """One shard's, at one moment. `runtime.figures.ShardFigures` is such a thing."""

    @property
    def stream(self) -> str: ...
    @property
    def shard_id(self) -> str: ...
    @property
    def read(self) -> int: ...
    @property
    def done(self) -> int: ...
    @property
    def quarantined(self) -> int: ...
    @property
    def filtered(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def lag_s(self) -> float | None: ...
    @property
    def oldest_open_s(self) -> float | None: ...
    @property
    def paused(self) -> bool: ...
    @property
    def waits_for(self) -> str | None: ...
    @property
    def held(self) -> bool: ...
    @property
    def lost(self) -> bool: ...


class Totals(NamedTuple):
    read: int
    done: int
    quarantined: int
    filtered: int
    in_flight: int

    @classmethod
    def of(cls, shards: Sequence[Figures]) -> Totals:
        return cls(
            sum(shard.read for shard in shards),
            sum(shard.done for shard in shards),
            sum(shard.quarantined for shard in shards),
            sum(shard.filtered for shard in shards),
            sum(shard.in_flight for shard in shards),
        )

    @property
    def add_up(self) -> bool:
        return self.read == self.done + self.quarantined + self.filtered + self.in_flight


class Rates:
    """Records settled a second, of each shard, over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, dict[str, int]]] = deque()

    def note(self, now: float, shards: Sequence[Figures]) -> None:
        settled = {shard.shard_id: shard.done + shard.quarantined + shard.filtered for shard in shards}
        self._seen.append((now, settled))
        while len(self._seen) > 2 and self._seen[1][0] <= now - _RATE_S:
            self._seen.popleft()

    def of(self, shard_id: str) -> float:
        if len(self._seen) < 2:
            return 0.0
        (began, before), (ended, after) = self._seen[0], self._seen[-1]
        if ended <= began:
            return 0.0
        return (after.get(shard_id, 0) - before.get(shard_id, 0)) / (ended - began)


@dataclass(slots=True)
class _Said:
    when: str
    shard: str
    said: str
    key: tuple[object, ...] | None
    times: int = 1


class LiveView:
    """Draws itself while it is entered, and does nothing at all where nobody watches.

        with LiveView(runtime.figures, console, title="streamheal run") as view:
            chronicle.listen(view.event)
            await asyncio.gather(runtime.run(), view.keep_fresh())

    Args:
        figures: One for each shard, read at one moment.
        title: The first line, as it is known at the start.
        noun: What a record is, in the totals: `order`.
    """

    def __init__(
        self,
        figures: Callable[[], Sequence[Figures]],
        console: Console,
        *,
        title: str = "",
        noun: str = "record",
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._figures = figures
        self._console = console
        self._title = title
        self._noun = noun
        self._clock = clock
        self._wall_clock = wall_clock
        self._rates = Rates()
        self._events: list[_Said] = []
        self._progress = ""
        self._live: Live | None = None
        self._above: tuple[Above, ...] = ()

    @property
    def shown(self) -> bool:
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def __enter__(self) -> Self:
        if self.shown:
            # Without a thread of its own: the figures are not for other threads to read. Without
            # rich's own redirection: it would draw the view again for every line of the log.
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                vertical_overflow="crop",
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
            self._above = Above(sys.stdout), Above(sys.stderr)
            sys.stdout, sys.stderr = self._above
            self.refresh()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """The last picture stays on the screen."""
        if self._live is not None:
            self.refresh()
            self._live.stop()
            self._live = None
            for above, name in zip(self._above, ("stdout", "stderr"), strict=True):
                if getattr(sys, name) is above:
                    setattr(sys, name, above.terminal)
                above.give_back()
            self._above = ()

    async def keep_fresh(self) -> None:
        """Draw until cancelled; returns at once where nobody watches."""
        while self._live is not None:
            self.refresh()
            await asyncio.sleep(_REFRESH_S)

    def refresh(self) -> None:
        if self._live is None:
            return
        lines = [line for above in self._above for line in above.take()]
        if lines:
            self._console.print(Text.from_ansi("\n".join(lines)), soft_wrap=True)
        self._live.update(self.picture(), refresh=True)

    def event(self, name: str, fields: dict[str, Any]) -> None:
        """A listener for the runtime's chronicle. Cheap: nothing is drawn here."""
        if name == "replay_progress":
            self._progress = _replay_progress(fields)
        elif said := sentence(name, fields):
            when = datetime.fromtimestamp(self._wall_clock(), UTC).strftime("%H:%M:%S")
            event = _Said(when, short_shard(str(fields.get("shard_id", ""))), said, key(name, fields))
            self._events = [*self._without(event, name, fields), event][-_EVENTS_SHOWN:]

    def _without(self, event: _Said, name: str, fields: dict[str, Any]) -> list[_Said]:
        """The lines shown but for one that says the same: the new one then counts for both."""
        same = next((one for one in self._events if one.key is not None and one.key == event.key), None)
        if same is None:
            return self._events
        event.times = same.times + 1
        event.said = sentence(name, fields, event.times) or event.said
        return [one for one in self._events if one is not same]

    # -- the picture ---------------------------------------------------------------------

    def picture(self) -> RenderableType:
        """All of it, as it stands now."""
        shards = list(self._figures())
        self._rates.note(self._clock(), shards)
        parts: list[RenderableType] = []
        if self._title:
            parts += [Text(plain(self._title), style="bold", no_wrap=True, overflow="ellipsis"), Text()]
        below = self._below(shards)
        shards = [shard for shard in shards if not shard.lost]
        waiting = min(_WAITING_SHOWN, sum(bool(shard.waits_for) for shard in shards))
        # Two lines more: the table's head, and what is said of those left out.
        shown, hidden = _worst(shards, max(3, self._console.height - len(parts) - len(below) - waiting - 3))
        parts += [self._table(shown), *self._waiting(shown)]
        if hidden:
            parts.append(Text(f" … and {count(len(hidden), 'more shard')}, in less trouble", style=colours.QUIET))
        return Group(*parts, *below)

    def _below(self, shards: Sequence[Figures]) -> list[RenderableType]:
        """The sum, and what happened last. One line each, so that they can be counted."""
        rule = Text("─" * min(self._console.width, 76), style=colours.QUIET)
        lines: list[RenderableType] = [rule, *totals(Totals.of(shards), self._noun, self._console.width)]
        if self._progress:
            lines.append(Text(f" {self._progress}", no_wrap=True, overflow="ellipsis"))
        if self._events:
            lines += [Text(), *(self._line(event) for event in self._events)]
        return lines

    def _table(self, shards: Sequence[Figures]) -> Table:
        table = Table(box=None, padding=(0, 1), header_style=colours.QUIET, pad_edge=True)
        table.add_column("shard", no_wrap=True)
        for name in ("read", "done", "quarantined", "open", "rate/s", "lag"):
            table.add_column(name, justify="right", no_wrap=True, min_width=8 if name != "quarantined" else None)
        if self._wide:
            table.add_column("", no_wrap=True, overflow="ellipsis")
        for shard in shards:
            row = [
                Text(short_shard(shard.shard_id)),
                Text(f"{shard.read:,}"),
                Text(f"{shard.done:,}"),
                Text(f"{shard.quarantined:,}", style=colours.SICK if shard.quarantined else ""),
                Text(f"{shard.in_flight:,}"),
                Text(f"{self._rates.of(shard.shard_id):,.0f}"),
                Text(_lag(shard.lag_s) if shard.held else "–"),
            ]
            if self._wide:
                row.append(_waits(shard))
            table.add_row(*row)
        return table

    @property
    def _wide(self) -> bool:
        return self._console.width >= 110

    def _waiting(self, shards: Sequence[Figures]) -> list[Text]:
        """What shards wait for, below the table where there is no room beside it."""
        if self._wide:
            return []
        lines = []
        for shard in shards:
            if why := _waits(shard):
                line = Text(f" {short_shard(shard.shard_id)} ", no_wrap=True, overflow="ellipsis")
                lines.append(line.append_text(why))
        return lines[:_WAITING_SHOWN]

    def _line(self, event: _Said) -> Text:
        line = Text(f" {event.when}  {event.shard:<7}  ", style=colours.QUIET, no_wrap=True, overflow="ellipsis")
        return line.append(event.said, style="default not dim")


def _worst(shards: list[Figures], rows_max: int) -> tuple[list[Figures], list[Figures]]:
    """Those that fit on the screen, in their own order; the healthiest are left out."""
    if len(shards) <= rows_max:
        return shards, []
    trouble = sorted(
        shards,
        key=lambda shard: (shard.paused, bool(shard.waits_for), shard.quarantined, shard.lag_s or 0.0),
        reverse=True,
    )
    kept = {shard.shard_id for shard in trouble[: rows_max - 1]}
    return [s for s in shards if s.shard_id in kept], [s for s in shards if s.shard_id not in kept]


def _lag(lag_s: float | None) -> str:
    if lag_s is None:
        return "?"
    return "now" if lag_s < 0.05 else f"{lag_s:.1f} s" if lag_s < 100 else duration(lag_s)


def _waits(shard: Figures) -> Text:
    if not shard.waits_for:
        return Text()
    since = f" ({duration(shard.oldest_open_s)})" if shard.oldest_open_s and shard.oldest_open_s >= 1 else ""
    style = colours.SICK if shard.paused else colours.WAITS
    return Text(f"◀ {one_line(shard.waits_for)}{since}", style=style)


def totals(sums: Totals, noun: str = "record", width: int = 120) -> list[Text]:
    """The sum, and whether it adds up: one line, or two where one is too short."""
    text = Text(f" {count(sums.read, noun)}   {sums.done:,} done   ", style="bold", no_wrap=True)
    text.append(f"{sums.quarantined:,} in quarantine", style=colours.SICK if sums.quarantined else "")
    filtered = ""
    if sums.filtered:
        text.append(f"   {sums.filtered:,} filtered")
        filtered = "filtered + "
    text.append(f"   {sums.in_flight:,} open")
    verdict, style = ("✓", colours.GOOD) if sums.add_up else ("✗ does not add up", colours.SICK)
    identity = Text(f"read = done + quarantined + {filtered}open {verdict}", style=style, no_wrap=True)
    if text.cell_len + 6 + identity.cell_len > width:
        return [text, Text(" ").append_text(identity)]
    return [text.append("      ").append(identity.plain, style=f"not bold {style}")]


def _replay_progress(fields: dict[str, Any]) -> str:
    """Of `done` records that are settled, of `total`, some `failed` again; the rest are healed."""
    total, settled, failed = fields.get("total"), fields.get("done"), fields.get("failed")
    parts = []
    if isinstance(settled, int) and isinstance(total, int) and total > 0:
        full = min(20, settled * 20 // total)
        parts.append(f"{'█' * full}{'░' * (20 - full)}  {settled:,} of {total:,}")
        if isinstance(failed, int):
            parts.append(f"{max(0, settled - failed):,} healed   {failed:,} failed again")
    return "   ".join(parts)
