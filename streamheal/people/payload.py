"""A payload as people can take it in: JSON laid out, text as text, anything else as bytes."""

from __future__ import annotations

import json
from typing import Any

from streamheal.people.plain import plain

_LINES_MAX = 16
_HEX_LINES_MAX = 8
# Laying out JSON of megabytes would keep whoever is waiting for the card.
_JSON_BYTES_MAX = 256 * 1024


def preview(data: bytes, width: int) -> list[str]:
    """A few lines of at most `width` columns, safe to print."""
    if not data:
        return ["(no bytes)"]
    if (lines := _as_json(data, width)) is not None or (lines := _as_text(data)) is not None:
        return _cut([_fit(line, width) for line in lines], _LINES_MAX)
    return _cut(_as_hex(data[: 16 * (_HEX_LINES_MAX + 1)], 16 if width >= 76 else 8), _HEX_LINES_MAX)


def _as_json(data: bytes, width: int) -> list[str] | None:
    if len(data) > _JSON_BYTES_MAX:
        return None
    try:
        value = json.loads(data)
    # Nesting a thousand deep is still somebody's payload.
    except (ValueError, RecursionError):
        return None
    try:
        return _lay_out(value, "", width)
    except RecursionError:
        return None


def _lay_out(value: Any, before: str, width: int, after: str = "") -> list[str]:
    """On one line what fits on one line; else a member a line, and so on within.

    `before` is what stands before it on its first line, `after` the comma behind it.
    """
    flat = before + plain(json.dumps(value, ensure_ascii=False)) + after
    if len(flat) <= width or not isinstance(value, dict | list) or not value:
        return [flat]
    indent = " " * (len(before) - len(before.lstrip()) + 2)
    if isinstance(value, dict):
        members = [(f"{indent}{plain(json.dumps(name, ensure_ascii=False))}: ", one) for name, one in value.items()]
    else:
        members = [(indent, one) for one in value]
    lines = [before + ("{" if isinstance(value, dict) else "[")]
    for nth, (start, one) in enumerate(members, 1):
        lines += _lay_out(one, start, width, "," if nth < len(members) else "")
    return [*lines, indent[2:] + ("}" if isinstance(value, dict) else "]") + after]


def _as_text(data: bytes) -> list[str] | None:
    try:
        text = data[:_JSON_BYTES_MAX].decode()
    except UnicodeDecodeError as error:
        # Cut within a character is still text; anything else is not.
        if len(data) <= _JSON_BYTES_MAX or error.start < _JSON_BYTES_MAX - 4:
            return None
        text = data[: error.start].decode()
    if "\0" in text:
        return None
    return plain(text).rstrip("\n").split("\n")


def _as_hex(data: bytes, a_line: int) -> list[str]:
    lines = []
    for start in range(0, len(data), a_line):
        part = data[start : start + a_line]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:06x}  {part.hex(' '):<{3 * a_line - 1}}  {shown}")
    return lines


def _fit(line: str, width: int) -> str:
    line = line.replace("\t", "    ")
    return line if len(line) <= width else line[: width - 1] + "…"


def _cut(lines: list[str], lines_max: int) -> list[str]:
    if len(lines) <= lines_max:
        return lines
    return [*lines[: lines_max - 1], "…"]


def tail(text: str, width: int, lines_max: int = 6) -> list[str]:
    """The last lines of a log, safe to print."""
    lines = [_fit(line, width) for line in plain(text[-16_384:]).rstrip().split("\n")]
    return lines if len(lines) <= lines_max else ["…", *lines[-lines_max:]]
