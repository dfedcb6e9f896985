"""A payload as people can take it in: JSON laid out, text as text, anything else as bytes."""

from __future__ import annotations

import json

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
    flat = plain(json.dumps(value, ensure_ascii=False))
    if len(flat) <= width:
        return [flat]
    return plain(json.dumps(value, ensure_ascii=False, indent=2)).split("\n")


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
