"""Which quarantined records a command is about: by id, fingerprint, shard, key, reason or time."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamheal.attempts import utc_text
from streamheal.errors import UsageError

if TYPE_CHECKING:
    from streamheal.config.settings import Settings
    from streamheal.quarantine.base import Selection

_PANEL = "Which records"
_REASONS = "exception|decode|deadline|crash|rejected|parked"
_STATUSES = "open|healed|discarded|all"

# By name: metavar and help.
_OPTIONS = {
    "fingerprint": ("F", "Those that failed alike: whose fingerprint is this."),
    "shard": ("SHARD", "Those of one shard: shardId-000000000003, or its number."),
    "key": ("KEY", "Those with this partition key."),
    "reason": (_REASONS, "Those set aside for this reason."),
    "since": ("TIME", "Those set aside at or after this time: ISO 8601, or how long ago: 90s, 20m, 2h, 3d."),
    "until": ("TIME", "Those set aside at or before this time."),
}
_AGO = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parameters(*, status: bool) -> list[inspect.Parameter]:
    """The options of a selection; `status`: not only open ones can be asked for."""
    made = [_text(name, metavar, says) for name, (metavar, says) in _OPTIONS.items()]
    if status:
        made.append(_text("status", _STATUSES, "What became of them (default: open; of ids that are named: all)."))
    every = Annotated[bool, typer.Option("--all", help=_all_help(status), rich_help_panel=_PANEL)]
    made.append(inspect.Parameter("every", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=every))
    return made


def _all_help(status: bool) -> str:
    return "Every one, whatever became of it." if status else "Every one that is open."


def _text(name: str, metavar: str, says: str) -> inspect.Parameter:
    info = typer.Option(f"--{name}", metavar=metavar, help=says, rich_help_panel=_PANEL)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, info])


def selection(settings: Settings, ids: Sequence[str], flags: dict[str, Any], now: datetime | None = None) -> Selection:
    """What was selected, of the application and stream that the settings name (if they do).

    Raises:
        UsageError: A value that is none of those possible.
    """
    from streamheal.quarantine.base import Selection

    now = now or datetime.now(UTC)
    status = _choice("--status", flags.get("status"), _STATUSES)
    if status is None:
        status = "all" if ids or (flags["every"] and "status" in flags) else "open"
    return Selection(
        ids=tuple(ids),
        fingerprint=flags["fingerprint"],
        shard=shard_id(flags["shard"]),
        key=flags["key"],
        reason=_choice("--reason", flags["reason"], _REASONS),
        since=_time("--since", flags["since"], now),
        until=_time("--until", flags["until"], now),
        status=None if status == "all" else status,
        application=settings.application or None,
        stream=settings.stream,
    )


def nothing_selected(ids: Sequence[str], flags: dict[str, Any]) -> bool:
    return not ids and not flags["every"] and all(flags[name] is None for name in _OPTIONS)


def _choice(flag: str, value: str | None, choices: str) -> str | None:
    every = choices.split("|")
    if value is None or value in every:
        return value
    close = difflib.get_close_matches(value, every, n=1)
    hint = f". Did you mean {close[0]}?" if close else ""
    raise UsageError(f"{flag} is {value!r}: expected {', '.join(every[:-1])} or {every[-1]}{hint}")


def shard_id(value: str | None) -> str | None:
    """As Kinesis writes it, of its id or its number."""
    return f"shardId-{int(value):012d}" if value is not None and value.isdecimal() else value


def _time(flag: str, value: str | None, now: datetime) -> str | None:
    """As envelopes have it: ISO 8601 in UTC, with milliseconds."""
    return None if value is None else utc_text(time_of(flag, value, now))


def time_of(flag: str, value: str, now: datetime | None = None) -> datetime:
    """A time, or how long ago, as an aware datetime.

    Raises:
        UsageError: It is neither.
    """
    now = now or datetime.now(UTC)
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", value)
    try:
        if ago is not None:
            moment = now - timedelta(**{_AGO[ago[2]]: float(ago[1])})
        else:
            moment = datetime.fromisoformat(value)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{flag} is {value!r}: expected a time such as 2026-03-01T12:00Z, or how long ago: 90s, 20m, 2h, 3d"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
