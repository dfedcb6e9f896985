"""Envelopes read back: which are meant, and in what order."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec
import structlog

from streamheal.errors import Ambiguous, NotFound, StoreError
from streamheal.quarantine.base import Selection
from streamheal.quarantine.envelope import Envelope

K = TypeVar("K")

# What a scan holds of one day's selected envelopes; beyond it they are fetched a second time.
_HELD_BYTES_MAX = 32 << 20


class Header(msgspec.Struct):
    """As much of an envelope as a selection asks for. The rest is skipped, not decoded."""

    streamheal: int
    id: str
    application: str
    stream: str
    shard_id: str
    partition_key: str
    quarantined_at: str
    reason: str
    fingerprint: str
    status: str


_headers = msgspec.json.Decoder(Header)
_envelopes = msgspec.json.Decoder(Envelope)
_encoder = msgspec.json.Encoder()


def encode(envelope: Envelope) -> bytes:
    return _encoder.encode(envelope)


def decode(raw: bytes, where: str) -> Envelope:
    """
    Args:
        where: The file or object, for the message.

    Raises:
        StoreError: These bytes are not an envelope, or one of a later format.
    """
    try:
        envelope = _envelopes.decode(raw)
        _check(envelope)
    except (msgspec.MsgspecError, ValueError) as error:
        raise StoreError(f"{where} is not an envelope that this streamheal reads: {error}") from error
    return envelope


def _check(envelope: Envelope) -> None:
    """What a replay takes from it. A payload that was damaged must not go through as another."""
    for name, text in (("data_base64", envelope.data_base64), ("masked_base64", envelope.masked_base64)):
        try:
            base64.b64decode(text or "", validate=True)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    if not (envelope.sequence_number.isascii() and envelope.sequence_number.isdecimal()):
        raise ValueError(f"sequence_number: {envelope.sequence_number!r} is no number")
    if datetime.fromisoformat(envelope.approximate_arrival_timestamp).tzinfo is None:
        raise ValueError("approximate_arrival_timestamp: without a time zone")


def readable(raw: bytes, where: object) -> Envelope | None:
    """None for what is no envelope of ours: one strange file must not hide all others."""
    try:
        return decode(raw, str(where))
    except StoreError as error:
        _tell(where, str(error))
        return None


def matches(header: Header, selection: Selection) -> bool:
    return (
        (not selection.ids or any(header.id.startswith(prefix) for prefix in selection.ids))
        and selection.fingerprint in (None, header.fingerprint)
        and selection.shard in (None, header.shard_id)
        and selection.key in (None, header.partition_key)
        and selection.reason in (None, header.reason)
        and selection.status in (None, header.status)
        and selection.application in (None, header.application)
        and selection.stream in (None, header.stream)
        and (selection.since is None or not _before(header.quarantined_at, selection.since))
        and (selection.until is None or not _before(selection.until, header.quarantined_at))
    )


def _before(one: str, other: str) -> bool:
    return _sortable(one) < _sortable(other)


def _sortable(when: str) -> str:
    """Times as texts that sort as they do: "12:00:00Z" by itself sorts behind "12:00:00.500Z"."""
    seconds, _, fraction = when.removesuffix("Z").removesuffix("+00:00").partition(".")
    return f"{seconds}.{fraction:0<6}"


def selected(
    found: Iterable[tuple[K, bytes]], selection: Selection, fetch: Callable[[K], bytes | None]
) -> Iterator[Envelope]:
    """The selected envelopes of one day, oldest first.

    To know the oldest, all have to be seen. Their bytes are held up to a bound; those beyond it
    are fetched again when their turn comes, so that memory does not grow with the day's payloads.

    Args:
        fetch: The bytes of one; None: it is gone.
    """
    order: list[tuple[str, str, K]] = []
    held: dict[str, bytes] = {}
    held_bytes = 0
    for key, raw in found:
        one = header(raw, key)
        if one is None or not matches(one, selection):
            continue
        order.append((one.quarantined_at, one.id, key))
        if held_bytes + len(raw) <= _HELD_BYTES_MAX:
            held[one.id] = raw
            held_bytes += len(raw)
    order.sort(key=lambda one: one[:2])
    for _, id, key in order:
        again = held.pop(id, None) or fetch(key)
        if again is not None and (envelope := readable(again, key)) is not None:
            yield envelope


def header(raw: bytes, where: object) -> Header | None:
    """As `readable`, and cheaper."""
    try:
        found = _headers.decode(raw)
        if found.streamheal == 1:
            return found
        why = f"format {found.streamheal}"
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        why = str(error)
    _tell(where, why)
    return None


def _tell(where: object, why: str) -> None:
    structlog.get_logger("streamheal").warning("envelope_unreadable", where=str(where), error=why)


def the_one(id_prefix: str, found: Sequence[str]) -> str:
    """The one id that begins so.

    Raises:
        NotFound, Ambiguous: With what would be right.
    """
    ids = sorted(set(found))
    if not ids:
        raise NotFound(
            f"no quarantined record has an id that begins with {id_prefix!r}: "
            f"expected one of those that `streamheal quarantine list --status all` shows"
        )
    if id_prefix in ids:
        return id_prefix
    if len(ids) > 1:
        some = ", ".join(ids[:5]) + (f" and {len(ids) - 5:,} more" if len(ids) > 5 else "")
        raise Ambiguous(
            f"{len(ids):,} quarantined records have an id that begins with {id_prefix!r}: {some}. Give more of it"
        )
    return ids[0]
