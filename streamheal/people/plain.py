"""Words, numbers and other people's text, made fit for a terminal.

Everything a user's record, exception or log says may hold escape sequences: written as they
are, they would move the cursor, recolour the screen, or set the title of whoever was called
at night. They are shown, never obeyed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise

# Control characters, invisible ones that reorder text (U+202E), halves of pairs that no
# encoding can write, and line ends that only some programs know.
_OBEYED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_KEPT = frozenset("\n\t")


def plain(text: str) -> str:
    """The text with everything a terminal would obey written out: `\\x1b`, `\\u202e`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_plain(char) for char in text.replace("\r\n", "\n"))


def _plain(char: str) -> str:
    if char in _KEPT or unicodedata.category(char) not in _OBEYED:
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def one_line(text: str, length_max: int = 200) -> str:
    """`plain`, on one line, cut at its end."""
    # Cut before it is looked at: a message may be 8 KiB, a key 256 characters.
    line = " ".join(plain(text[: length_max * 4]).split())
    return line if len(line) <= length_max else line[: length_max - 1].rstrip() + "…"


def short(sequence_number: str) -> str:
    """A position of 56 digits as people compare them: by its ends."""
    digits = one_line(sequence_number)
    return digits if len(digits) <= 12 else f"{digits[:5]}…{digits[-4:]}"


def short_shard(shard_id: str) -> str:
    """`…000002` of `shardId-000000000002`."""
    name = one_line(shard_id)
    return f"…{name[-6:]}" if name.startswith("shardId-") and len(name) > 14 else name


def count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def size(length: int) -> str:
    if length < 10_000:
        return count(length, "byte")
    return f"{length / 1024:,.0f} KiB" if length < 10 << 20 else f"{length / (1 << 20):,.0f} MiB"


def duration(seconds: float) -> str:
    """`0.8 ms`, `0.7 s`, `1.9 s`, `4 min 10 s`, `3 h 20 min`."""
    if seconds < 0.1:
        return f"{seconds * 1000:.1f} ms" if seconds >= 0.0001 else "< 0.1 ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def moment(iso: str, *, day: bool = True, fraction: bool = False) -> str:
    """`24 Nov 12:04:03` of an envelope's time, in UTC as it is written there."""
    when = instant(iso)
    if when is None:
        return one_line(iso, 32)
    text = when.strftime("%d %b %H:%M:%S" if day else "%H:%M:%S").removeprefix("0")
    return f"{text}.{when.microsecond // 1000:03d}" if fraction else text


def instant(iso: str) -> datetime | None:
    try:
        return datetime.fromisoformat(iso)
    except ValueError:
        return None


def seconds_between(earlier: str, later: str) -> float | None:
    since, until = instant(earlier), instant(later)
    if since is None or until is None or (since.tzinfo is None) != (until.tzinfo is None):
        return None
    return (until - since).total_seconds()


def prefix_length(ids: Iterable[str], least: int = 8) -> int:
    """So many first characters tell these ids apart."""
    known = sorted(ids)
    length = least
    for one, next_one in pairwise(known):
        while one != next_one and one[:length] == next_one[:length]:
            length += 1
    return length
