"""One quarantined record, so that whoever was called can see why: `streamheal quarantine show`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from streamheal.attempts import Attempt
from streamheal.people import colours
from streamheal.people.listing import command, print_commands
from streamheal.people.payload import preview, tail
from streamheal.people.plain import count, duration, moment, one_line, plain, seconds_between, short, size
from streamheal.people.source import excerpt
from streamheal.quarantine.envelope import Envelope

_INDENT = 9
_ATTEMPTS_SHOWN = 6


def print_card(envelope: Envelope, console: Console, *, group_size: int = 1, options: str = "") -> None:
    """All that is known of a record, the answer first, what to type last.

    Args:
        group_size: How many open records share its fingerprint, itself included.
        options: Said again in every command shown, so that it finds the same quarantine.
    """
    width = max(40, console.width)
    for part in _parts(envelope, group_size, width):
        console.print(part)
    if commands := _next_commands(envelope, group_size, options):
        console.print()
        print_commands(commands, console)


def _parts(envelope: Envelope, group_size: int, width: int) -> Iterator[RenderableType]:
    yield from _head(envelope, group_size, width)
    yield Text()
    yield Padding(Text(plain(envelope.verdict)), (0, 2))
    yield Text()
    yield from _record(envelope, width)
    yield from _attempts(envelope.attempts, width)
    yield _code(envelope, width)
    yield from _became(envelope, width)


def _head(envelope: Envelope, group_size: int, width: int) -> Iterator[Text]:
    where = envelope.attempts[-1].where if envelope.attempts else None
    title = envelope.title
    if where:
        title = title.removesuffix(where).rstrip(" ,")
    facts = _facts(envelope, group_size)
    head = Text(one_line(title, 400), style="bold")
    room = width - head.cell_len - facts.cell_len
    if room >= 2:
        yield Text.assemble(head, " " * room, facts)
    else:
        yield head
        yield facts
    if where and where not in title:
        yield Text(one_line(where))


def _facts(envelope: Envelope, group_size: int) -> Text:
    alike = f" · {count(group_size, 'record')} alike" if group_size > 1 else ""
    return Text.assemble(
        (one_line(envelope.reason), colours.REASONS.get(envelope.reason, "")),
        " · ",
        (envelope.status, colours.STATUSES.get(envelope.status, "")),
        (f"{alike} · since {moment(envelope.quarantined_at)} UTC", colours.QUIET),
    )


def _record(envelope: Envelope, width: int) -> Iterator[RenderableType]:
    sub = f"/{envelope.sub_sequence_number}" if envelope.sub_sequence_number else ""
    yield _labelled(
        "Record",
        [
            one_line(envelope.shard_id),
            short(envelope.sequence_number) + sub,
            f"key {one_line(envelope.partition_key, 60)}",
            f"arrived {moment(envelope.approximate_arrival_timestamp, fraction=True)}{_late(envelope)}",
        ],
        width,
    )
    data, note = _payload(envelope)
    if data is not None:
        yield Padding(Text("\n".join(preview(data, width - _INDENT))), (0, 0, 0, _INDENT))
    yield Padding(Text(note, style=colours.QUIET), (0, 0, 0, _INDENT))


def _late(envelope: Envelope) -> str:
    """How long before its first try it arrived: whether this is old news."""
    if not envelope.attempts:
        return ""
    late_s = seconds_between(envelope.approximate_arrival_timestamp, envelope.attempts[0].started_at)
    return "" if late_s is None or late_s < 0 else f" ({duration(late_s)} before its first try)"


def _payload(envelope: Envelope) -> tuple[bytes | None, str]:
    """What may be shown of the payload, and what to say of it."""
    masked = getattr(envelope, "masked_base64", None)
    stored = _decoded(envelope.data_base64)
    if masked is not None:
        whole = f" of {size(len(stored))}" if stored is not None else ""
        return _decoded(masked), f"masked by the processor{whole}; the envelope keeps the record as it came"
    if stored is not None:
        return stored, size(len(stored))
    if envelope.data_ref:
        return None, f"kept at {one_line(envelope.data_ref)}"
    return None, "its bytes are not in the envelope"


def _decoded(text: str | None) -> bytes | None:
    try:
        return None if text is None else base64.b64decode(text)
    except (binascii.Error, ValueError):
        return None


def _attempts(attempts: Sequence[Attempt], width: int) -> Iterator[RenderableType]:
    if not attempts:
        yield Text.assemble(_label("Attempts"), ("none: it was set aside without being tried", colours.QUIET))
        return
    yield _label("Attempts")
    shown = list(enumerate(attempts))
    left_out = len(shown) - _ATTEMPTS_SHOWN
    if left_out > 0:
        shown = shown[:2] + shown[-(_ATTEMPTS_SHOWN - 2) :]
    for place, (index, attempt) in enumerate(shown):
        if left_out > 0 and place == 2:
            yield Text(f"  …  {count(left_out, 'try', 'tries')} left out")
        yield _attempt(attempt, attempts[index - 1] if index else None, width)
    yield from _evidence(attempts[-1], width)


def _attempt(attempt: Attempt, before: Attempt | None, width: int) -> Text:
    said = "the same" if before is not None and _alike(before, attempt) else _what_happened(attempt)
    alone = ", in a process of its own" if attempt.alone else ""
    if not alone and (attempt.worker or "").startswith("cell "):
        alone = ", alone, where others had run before"
    if alone:
        said = one_line(said, max(20, width - 30 - len(alone))) + alone
    when = moment(attempt.started_at, day=False, fraction=True)
    line = Text(f" {attempt.number:>2}  {when}  {duration(attempt.duration_s):>8}   ", no_wrap=True)
    return line.append(one_line(said, max(20, width - line.cell_len)))


def _alike(one: Attempt, other: Attempt) -> bool:
    def looks(attempt: Attempt) -> tuple[object, ...]:
        return (
            attempt.outcome, attempt.exception_type, attempt.message, attempt.where, attempt.signal, attempt.exit_code,
        )  # fmt: skip

    return looks(one) == looks(other)


def _what_happened(attempt: Attempt) -> str:
    match attempt.outcome:
        case "crash" if attempt.signal:
            return f"its process died: {attempt.signal}"
        case "crash" if attempt.exit_code is not None:
            return f"its process exited with {attempt.exit_code}"
        case "crash":
            return "its process died"
        case "deadline":
            return "still running at its deadline: stopped"
        case _:
            message = f": {attempt.message}" if attempt.message else ""
            return f"{attempt.exception_type or attempt.outcome}{message}"


def _evidence(attempt: Attempt, width: int) -> Iterator[RenderableType]:
    """Of the last try: the line that failed, or the trace where that line is not to be had, and the log."""
    inner = width - _INDENT
    if found := excerpt(attempt):
        lines = Text(f"{one_line(found.path)}\n")
        for number, source in found.lines:
            here = number == found.number
            line = f"{'▶' if here else ' '} {number:>4}  {plain(source)}"
            lines.append(line[:inner] + "\n", style="bold" if here else "")
        lines.rstrip()
        yield Padding(lines, (0, 0, 0, _INDENT - 2))
    elif trace := attempt.traceback or attempt.stack:
        yield Padding(Text("\n".join(tail(trace, inner, 12)), style=colours.QUIET), (0, 0, 0, _INDENT))
    if attempt.log and attempt.log.strip():
        log = [f"log: {line}" for line in tail(attempt.log, inner - 5)]
        yield Padding(Text("\n".join(log)), (0, 0, 0, _INDENT))


def _code(envelope: Envelope, width: int) -> Text:
    code = envelope.code
    release = f"release {code.version}" if code.version else "no release named"
    packages = [f"{name} {version}" for name, version in list(code.packages.items())[:4]]
    facts = [code.processor, release, f"Python {code.python}", *packages, f"on {envelope.host}"]
    return _labelled("Code", [one_line(fact) for fact in facts], width)


def _became(envelope: Envelope, width: int) -> Iterator[RenderableType]:
    """What happened to it since: replays, and who gave it up."""
    for number, replay in enumerate(envelope.replays[-8:]):
        how = Text(replay.outcome, style=colours.STATUSES.get(replay.outcome, ""))
        release = f"  release {one_line(replay.code_version)}" if replay.code_version else ""
        why = f"  {one_line(_what_happened(replay.attempt), width)}" if replay.attempt else ""
        yield Text.assemble(_label("Replays" if number == 0 else ""), f"{moment(replay.at)}  ", how, release, why)
    if gone := envelope.discard:
        yield Text.assemble(_label("Given up"), f"{moment(gone.at)} by {one_line(gone.by)}: {one_line(gone.why)}")


def _next_commands(envelope: Envelope, group_size: int, options: str) -> list[tuple[str, str]]:
    if envelope.status != "open":
        return []
    id = envelope.id
    commands = [(command("replay", id, options), "try it again, once mended")]
    if group_size > 1:
        them = f"try all {count(group_size, 'record')} that failed like it"
        commands.append((command("replay --fingerprint", envelope.fingerprint, options), them))
    discard = command("quarantine discard", id, options)
    whole = command("quarantine show", id, f"{options} --json".strip())
    return [*commands, (f"{discard} --why …", "give it up"), (whole, "all of it, bytes and tracebacks")]


def _labelled(label: str, facts: Sequence[str], width: int) -> Text:
    """Facts beside their label, as many on a line as fit, and none of them broken."""
    lines, line = [], ""
    for fact in facts:
        if line and _INDENT + len(line) + 2 + len(fact) > width:
            lines.append(line)
            line = ""
        line = f"{line}  {fact}" if line else fact
    return Text.assemble(_label(label), ("\n" + " " * _INDENT).join([*lines, line]))


def _label(label: str) -> Text:
    return Text(label.ljust(_INDENT), style="bold")
