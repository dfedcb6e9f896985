"""How an option's value is read, whether it comes from a flag, a variable or a TOML file.

Flags and variables bring text; TOML brings text, numbers and booleans. A kind takes both,
and says in plain words what would have been right.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from typing import Any, NamedTuple, Protocol


class Kind(Protocol):
    """Reads one sort of value.

    Attributes:
        metavar: What stands for the value in `--help`.
        right: What would be right, to go after "expected".
    """

    @property
    def metavar(self) -> str: ...

    @property
    def right(self) -> str: ...

    def read(self, raw: Any) -> Any:
        """The value. Raises `ValueError` where it is not of this kind; the caller says the rest."""


class Text(NamedTuple):
    metavar: str
    right: str
    pattern: str = r".+"

    def read(self, raw: Any) -> str:
        if not isinstance(raw, str) or re.fullmatch(self.pattern, raw.strip()) is None:
            raise ValueError
        return raw.strip()


class Choice(NamedTuple):
    choices: tuple[str, ...]

    @property
    def metavar(self) -> str:
        return "|".join(self.choices)

    @property
    def right(self) -> str:
        return " or ".join((", ".join(self.choices[:-1]), self.choices[-1]))

    def read(self, raw: Any) -> str:
        if raw not in self.choices:
            raise ValueError
        return str(raw)


class Whole(NamedTuple):
    """A whole number of things."""

    least: int = 1
    metavar: str = "N"

    @property
    def right(self) -> str:
        return f"a whole number, at least {self.least}"

    def read(self, raw: Any) -> int:
        if isinstance(raw, (bool, float)):
            raise ValueError
        return _at_least(self.least, int(raw))


class Seconds(NamedTuple):
    """A time span in seconds; `positive`: nought is no answer."""

    positive: bool = False
    metavar: str = "S"

    @property
    def right(self) -> str:
        return f"a number of seconds, {'more than' if self.positive else 'at least'} 0"

    def read(self, raw: Any) -> float:
        if isinstance(raw, bool):
            raise ValueError
        seconds = float(raw)
        if not math.isfinite(seconds) or seconds < 0 or (self.positive and seconds == 0):
            raise ValueError
        return seconds


_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class Size(NamedTuple):
    """Bytes: `67108864`, `64MiB`, `64 MB`."""

    least: int = 1
    metavar: str = "SIZE"

    @property
    def right(self) -> str:
        return f"a size such as 64MiB, 1GiB or 67108864, at least {size_text(self.least)}"

    def read(self, raw: Any) -> int:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", str(raw).strip())
        if found is None or isinstance(raw, bool) or found[2].upper() not in _SIZES:
            raise ValueError
        return _at_least(self.least, int(float(found[1]) * _SIZES[found[2].upper()]))


class SizeOrOff(NamedTuple):
    """Bytes as `Size`, or `off`, which is 0."""

    least: int = 1
    metavar: str = "SIZE|off"

    @property
    def right(self) -> str:
        return f"{Size(self.least).right}, or off"

    def read(self, raw: Any) -> int:
        return 0 if raw == "off" else Size(self.least).read(raw)


def _at_least(least: int, value: int) -> int:
    if value < least:
        raise ValueError
    return value


def size_text(size: int) -> str:
    """The size in its largest whole unit: `64MiB`."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


class Start(NamedTuple):
    """Where to begin: an end of the stream, or a time. A time without a zone is in UTC."""

    metavar: str = "TRIM_HORIZON|LATEST|ISO-TIME"
    right: str = "TRIM_HORIZON, LATEST, or a time such as 2026-03-01T12:00:00Z"

    def read(self, raw: Any) -> str | datetime:
        if raw in ("TRIM_HORIZON", "LATEST"):
            return str(raw)
        if isinstance(raw, date) and not isinstance(raw, datetime):  # TOML has dates of its own
            raw = raw.isoformat()
        moment = raw if isinstance(raw, datetime) else datetime.fromisoformat(_text(raw))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


class Address(NamedTuple):
    """A host and port to listen on, or `off`. Port 0 lets the system choose one."""

    metavar: str = "HOST:PORT|off"
    right: str = "HOST:PORT such as 127.0.0.1:9464, or off"

    def read(self, raw: Any) -> str:
        text = _text(raw).strip()
        if text == "off":
            return text
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError
        return text


class Switch(NamedTuple):
    metavar: str = ""
    right: str = "true or false"

    def read(self, raw: Any) -> bool:
        if isinstance(raw, bool):
            return raw
        text = _text(raw).strip().lower()
        if text not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
            raise ValueError
        return text in ("1", "true", "yes", "on")


def _text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError
    return raw
