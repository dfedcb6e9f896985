"""What happened to a record, in words: the one-line title, and the sentence on the evidence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from streamheal.attempts import Attempt
from streamheal.core.messages import Quarantine, Verdict

# So begins the message of an attempt that ended with its host: nothing else is known of it.
HOST_DIED = "the host died"

# So does that of one whose process was ended by nobody of ours (`workers.deaths.how_it_died`).
_ENDED_BY_ITSELF = ("the process died of ", "the process exited with code ")

_TITLE_CHARS_MAX = 120

# faulthandler writes threads one after another, each with its innermost frame first:
#   Current thread 0x00007f… (most recent call first):
#     File "/usr/lib/python3.11/re/__init__.py", line 166 in match
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)$', re.MULTILINE)
_LIBRARY = re.compile(r".*/(?:site-packages|dist-packages|lib/python[\d.]+t?)/")


def title(attempt: Attempt) -> str:
    """One plain line: what, and where in the application's own code."""
    what = {"deadline": _hang, "crash": _crash}.get(attempt.outcome, _raised)(attempt)
    what = " ".join(what.split())
    if len(what) > _TITLE_CHARS_MAX:
        what = what[: _TITLE_CHARS_MAX - 2].rstrip() + " …"
    if attempt.where is None or attempt.outcome == "decode":
        return what
    return f"{what}, {attempt.where}"


def _raised(attempt: Attempt) -> str:
    message = next((line for line in (attempt.message or "").splitlines() if line.strip()), "")
    name = (attempt.exception_type or attempt.outcome).rpartition(".")[2]
    if attempt.outcome == "decode" and message:
        return message
    return f"{name}: {message}" if message else name


def _hang(attempt: Attempt) -> str:
    inside = _foreign_call(attempt)
    still = f"still in {inside}" if inside else "still running"
    return f"{still} after {_seconds(attempt.duration_s)}"


def _crash(attempt: Attempt) -> str:
    # It grew too large, was stopped again and again, died with its host: how the process ended says less.
    if attempt.message and not attempt.message.startswith(_ENDED_BY_ITSELF):
        return attempt.message
    if attempt.signal == "SIGKILL":
        # Nobody else sends it: of our own kills the message tells.
        return "SIGKILL, as the kernel sends it when memory runs out"
    if attempt.signal is None:
        return "its process ended" if attempt.exit_code is None else f"its process exited with {attempt.exit_code}"
    inside = _foreign_call(attempt)
    return f"{attempt.signal} in {inside}" if inside else attempt.signal


def _foreign_call(attempt: Attempt) -> str | None:
    """The library function that the application was in, `re.match`; None where it was in its own code.

    Of a stack of several threads, the one that the application's frame is in.
    """
    own_file, _, own_rest = (attempt.where or "").partition(":")
    innermost: re.Match[str] | None = None
    end = -1
    for frame in _FRAME.finditer(attempt.stack or ""):
        if frame.start() != end + 1:
            innermost = frame  # something else stood before it: another thread begins
        end = frame.end()
        if _file(frame) == own_file and own_rest == f"{frame['line']} in {frame['function']}":
            return None if innermost is frame or innermost is None else _dotted(innermost)
    return None


def _file(frame: re.Match[str]) -> str:
    return frame["file"].rpartition("/")[2]


def _dotted(frame: re.Match[str]) -> str:
    within = _LIBRARY.sub("", frame["file"])
    module = _file(frame) if within == frame["file"] else within
    return f"{module.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}.{frame['function']}"


def verdict(decision: Quarantine, attempts: Sequence[Attempt], last: Attempt) -> str:
    """On what evidence the record was set aside. Grounds that leave room for doubt say so, and why."""
    failed = _failed(attempts, last)
    match decision.verdict:
        case Verdict.SAID_SO:
            said = (
                "does not decode, and the same bytes will not decode later"
                if last.outcome == "decode"
                else f"can never be handled ({(last.exception_type or 'Poison').rpartition('.')[2]})"
            )
            return f"The processor itself said that this record {said}: one try is enough, and no witness is needed."
        case Verdict.WITNESSED:
            return f"{failed}; other records of its shard succeeded just before and just after{_bracket(decision)}."
        case Verdict.THINLY:
            return (
                f"{failed}; other records of its shard succeeded between its tries. This is less sure than usual: "
                "they came so far apart that an outage could have hidden between them each time."
            )
        case Verdict.NOBODY_ELSE:
            return (
                f"{failed}; no other record of its shard was there to be asked, and none other was failing. "
                "This is less sure than usual: without a witness, it may have been the world and not the record."
            )
        case Verdict.LEFT_OVER:
            return (
                f"{failed}, each time in the same way; another record of its shard, begun after an earlier failure "
                "of it, succeeded. This is less sure than usual: nobody was left to succeed after its last try."
            )
        case Verdict.STAYS:
            return f"{failed}, in a replay: it stays in quarantine."
        case Verdict.KILLED_HOSTS:
            hosts = sum(one.alone for one in attempts if one.outcome == "crash")
            times = "Twice" if hosts == 2 else f"{hosts:,} times"
            return (
                f"{times} the host died while this record ran in it, with nothing else beside it; it was not run "
                "again. Other records of its shard have succeeded since."
            )


def _failed(attempts: Sequence[Attempt], last: Attempt) -> str:
    """ "It failed 3 times in 1.9 s, the last time alone in a process of its own" """
    # Who kills nobody alone only stood there when a process died, or was stopped for another. That the world was
    # busy, or `initialize` failed, is no failure of the record's.
    stood = [one for one in attempts if one.outcome == "crash" and not one.alone and last.outcome != "crash"]
    throttled = [one for one in attempts if one.outcome == "throttled"]
    own = [one for one in attempts if one not in stood and one not in throttled]
    tries = attempts[-1].number - len(stood) - len(throttled)
    did = {"crash": "killed its process", "deadline": "passed its deadline"}.get(last.outcome, "failed")
    alone = "alone in a process of its own"
    processes = "a process" if len(stood) == 1 else f"{len(stood):,} processes"
    also = f", not counting {processes} that ended while it ran" if stood else ""
    if tries == 1:
        return f"It {did} once" + (f", {alone}" if last.alone else "") + also
    if any(one.outcome != last.outcome for one in own):
        did = "failed"  # the tries ended in different ways
    times = "twice" if tries == 2 else f"{tries:,} times"
    spread = _seconds(_end(own[-1]) - datetime.fromisoformat(own[0].started_at).timestamp())
    return f"It {did} {times} in {spread}" + (f", the last time {alone}" if last.alone else "") + also


def _end(attempt: Attempt) -> float:
    return datetime.fromisoformat(attempt.started_at).timestamp() + attempt.duration_s


def _bracket(decision: Quarantine) -> str:
    if decision.since is None or decision.until is None:
        return ""
    return f" ({_seconds(decision.until - decision.since)} apart)"


def _seconds(seconds: float) -> str:
    """As people say it: `0.8 ms`, `2.0 s`, `4 min`, `2.5 h`."""
    if seconds >= 3 * 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 180:
        return f"{seconds / 60:.0f} min"
    if seconds >= 0.1:
        return f"{seconds:.1f} s"
    return f"{max(0.0, seconds) * 1000:.1f} ms"
