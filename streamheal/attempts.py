"""One try of one record, as it goes into the envelope, and what makes two failures the same."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

import msgspec

MESSAGE_BYTES_MAX = 8 * 1024
TRACEBACK_BYTES_MAX = 64 * 1024
LOG_BYTES_MAX = 16 * 1024

Outcome = Literal["exception", "decode", "rejected", "throttled", "deadline", "crash"]


class Attempt(msgspec.Struct, kw_only=True):
    """What one failed try left behind.

    Attributes:
        number: 1 for the record's first try. Numbers are missing where there were more than 25
            tries: the first five and the last twenty are kept.
        started_at: When it began, ISO 8601 in UTC, milliseconds.
        duration_s: Seconds until it ended; for a hang, until it was stopped; where the host died
            with it, the most that it can have been.
        outcome: How it ended. `exception`: anything raised, `SystemExit` included. `decode`: a
            `DecodeError`. `rejected`: `Poison`, or a class the processor lists as such.
            `throttled`: the world was busy. `deadline`: still running when its time was over.
            `crash`: its process died, or the whole host.
        exception_type: As Python prints it: `ValueError`, `botocore.exceptions.ClientError`.
        message: The exception's text; at most 8 KiB, cut in the middle.
        traceback: As Python prints it; at most 64 KiB, cut in the middle.
        stack: For hangs and crashes, where it was, as faulthandler wrote it; at most 64 KiB.
        log: The tail of what it printed or logged; at most 16 KiB.
        worker: The process, for people: `worker 1 (pid 4711)`, `cell (pid 4712)`.
        alone: True where nothing else ran in its process, then or before; where the host died, in the host.
        signal: Where a signal ended the process, its name: `SIGSEGV`.
        exit_code: Where the process exited by itself, with what.
        frames: The application's own frames, outermost first, without line numbers: `orders.py:price`.
        where: The innermost of them with its line, for people: `orders.py:41 in price`.
    """

    number: int
    started_at: str
    duration_s: float
    outcome: Outcome
    exception_type: str | None = None
    message: str | None = None
    traceback: str | None = None
    stack: str | None = None
    log: str | None = None
    worker: str | None = None
    alone: bool = False
    signal: str | None = None
    exit_code: int | None = None
    frames: tuple[str, ...] = ()
    where: str | None = None


def utc_text(at: datetime) -> str:
    """How every time is written: ISO 8601 in UTC, with milliseconds: `2026-11-24T12:04:03.100Z`."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cut(text: str, bytes_max: int) -> str:
    """The text, its middle taken out if its UTF-8 form is longer than `bytes_max`."""
    raw = text.encode("utf-8", "backslashreplace")
    if len(raw) <= bytes_max:
        return raw.decode("utf-8")
    # The number in the note is at most the text's own length, so the note grows no longer than this.
    half = max(0, bytes_max - len(_cut_note(len(raw)))) // 2
    kept = raw[:half] + _cut_note(len(raw) - 2 * half) + raw[len(raw) - half :]
    return kept.decode("utf-8", "ignore")


def _cut_note(cut_bytes: int) -> bytes:
    return f"\n… {cut_bytes:,} bytes cut …\n".encode()


# Words, and whatever joins words to one name: dates, versions, addresses, ids. Taken whole
# and looked through afterwards, because "a word with a digit in it" as one expression tries
# every start of a long word without one: seconds for a message of 8 KiB.
_WORD = re.compile(r"[\w.:+-]+")
_DIGIT = re.compile(r"\d")
_PARTICULARS = re.compile(r"#(?:[\s,;/|]+#)+")


def _unparticular(message: str) -> str:
    """The message without what is true of one record only.

    A word with a digit in it is nearly always the name of one thing: a number, an address, an
    id, a date. Two failures that differ only there are the same failure. So are two that list
    a different number of such things.
    """
    plain = _WORD.sub(lambda word: "#" if _DIGIT.search(word[0]) else word[0], message)
    return _PARTICULARS.sub("#", plain)


def fingerprint(attempt: Attempt) -> str:
    """The same for failures with one cause: 12 characters of a-f and 0-9.

    Made of the exception's type (or signal, exit code, or the word deadline), the
    application's own frames without line numbers, and the first line of the message with
    everything particular taken out.
    """
    message = (attempt.message or "").split("\n", 1)[0]
    return _digest(_kind(attempt), attempt.frames, message)


# A flood repeats one failure thousands of times.
@lru_cache(maxsize=256)
def _digest(kind: str, frames: tuple[str, ...], message: str) -> str:
    text = "\0".join((kind, *frames, _unparticular(message)))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]


def _kind(attempt: Attempt) -> str:
    # A hang is ended by our own signal, which says nothing of it.
    if attempt.outcome == "deadline":
        return "deadline"
    exited = f"exit {attempt.exit_code}" if attempt.exit_code is not None else attempt.outcome
    return attempt.exception_type or attempt.signal or exited
