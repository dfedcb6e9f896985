"""One try of one record, as it goes into the envelope, and what makes two failures the same."""

from __future__ import annotations

import hashlib
import re

import msgspec

MESSAGE_BYTES_MAX = 8 * 1024
TRACEBACK_BYTES_MAX = 64 * 1024
LOG_BYTES_MAX = 16 * 1024


class Attempt(msgspec.Struct, kw_only=True):
    """What one failed try left behind. Every field is always there, null where it does not apply.

    Attributes:
        number: 1 for the record's first try.
        started_at: When it began, ISO 8601 in UTC.
        duration_s: Until it ended; for a hang, until it was stopped.
        outcome: `exception`, `decode`, `rejected` (Poison), `throttled`, `deadline` or `crash`.
        exception_type: As Python prints it: `ValueError`, `botocore.exceptions.ClientError`.
        message: At most 8 KiB, cut in the middle.
        traceback: At most 64 KiB, cut in the middle.
        stack: Where it was, for hangs and crashes, as faulthandler wrote it; at most 64 KiB.
        log: The tail of what it printed or logged; at most 16 KiB.
        worker: The process, for people: `worker 1 (pid 4711)`, `cell (pid 4712)`.
        alone: Nothing else ran in its process.
        signal: By name, `SIGSEGV`, where a signal ended the process.
        exit_code: Where the process exited by itself.
        frames: The application's own frames, outermost first: `orders.py:price`.
        where: The innermost of them with its line, for people: `orders.py:41 in price`.
    """

    number: int
    started_at: str
    duration_s: float
    outcome: str
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


def cut(text: str, bytes_max: int) -> str:
    """The text, its middle taken out if its UTF-8 form is longer than `bytes_max`."""
    raw = text.encode("utf-8", "backslashreplace")
    if len(raw) <= bytes_max:
        return raw.decode("utf-8")
    note = f"\n… {len(raw) - bytes_max:,} bytes cut …\n".encode()
    half = max(0, bytes_max - len(note)) // 2
    kept = raw[:half] + note + raw[len(raw) - half :]
    return kept.decode("utf-8", "ignore")


# A word with a digit in it is nearly always a name of one thing: a number, an address, an
# id, a date. Two failures that differ only there are the same failure.
_PARTICULAR = re.compile(r"[\w.:+-]*\d[\w.:+-]*")


def fingerprint(attempt: Attempt) -> str:
    """The same for failures with one cause: 12 characters of a-f and 0-9.

    Made of the exception's type (or signal, exit code, or the word deadline), the
    application's own frames without line numbers, and the first line of the message with
    everything particular taken out.
    """
    kind = attempt.exception_type or attempt.signal or (
        f"exit {attempt.exit_code}" if attempt.exit_code is not None else attempt.outcome
    )
    message = (attempt.message or "").split("\n", 1)[0]
    text = "\0".join((kind, *attempt.frames, _PARTICULAR.sub("#", message)))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]
