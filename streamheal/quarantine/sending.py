"""Envelopes put into a Kinesis stream: in batches, and small enough."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from streamheal.attempts import Attempt, cut
from streamheal.errors import StoreError, StoreUnavailable
from streamheal.quarantine import reading
from streamheal.quarantine.bucket import Bucket, Unmet
from streamheal.quarantine.envelope import Envelope
from streamheal.quarantine.layout import Partition
from streamheal.quarantine.stream import Stream

# PutRecords (API reference): at most 500 records and 10 MiB with their keys. Half of it, so that
# one slow request does not hold up so many; a single larger record goes alone.
_BATCH_RECORDS_MAX = 500
_BATCH_BYTES_MAX = 5 << 20

# Kinesis refuses single records of a request when a shard is busy (1 MiB and 1,000 records a second).
_TRIES, _RETRY_S = 3, 0.25

# Whoever asked for the write tries again by himself, and may have been asked to stop meanwhile.
_PATIENCE_S = 1.0

# Where a payload has spilled, so much of its masked form stays to be shown.
_MASKED_BYTES_MAX = 64 * 1024

# What is left of each text of an attempt, tried one after another until the envelope has room.
_TEXT_BYTES_MAX = (16 * 1024, 4 * 1024, 1024, 0)

Outcome = StoreError | StoreUnavailable | None


class _Entry(NamedTuple):
    nth: int
    data: bytes
    key: str

    @property
    def size(self) -> int:
        return len(self.data) + len(self.key.encode())


class Sender:
    """Threads may share it.

    Attributes:
        record_bytes_max: The stream's own MaxRecordSizeInKiB; asked for at the first put where
            nobody has said it.
    """

    def __init__(self, stream: Stream, spill: Bucket | None) -> None:
        self._stream = stream
        self._spill = spill
        self.record_bytes_max: int | None = None

    def send(self, envelopes: Sequence[Envelope]) -> list[Outcome]:
        outcomes: list[Outcome] = [None] * len(envelopes)
        entries: list[_Entry] = []
        try:
            bytes_max = self._bytes_max()
        except (StoreError, StoreUnavailable) as error:
            return [error] * len(envelopes)
        for nth, envelope in enumerate(envelopes):
            # Kinesis takes no empty key; a record that came from there has none.
            key = envelope.partition_key or envelope.id
            try:
                entries.append(_Entry(nth, self._small_enough(envelope, bytes_max - len(key.encode())), key))
            except (StoreError, StoreUnavailable) as error:
                outcomes[nth] = error
        for batch in _batches(entries):
            self._send_batch(batch, outcomes)
        return outcomes

    def _bytes_max(self) -> int:
        if self.record_bytes_max is None:
            answer = self._stream.call(
                "describe_stream_summary", "describe", patience_s=_PATIENCE_S, StreamName=self._stream.name
            )
            self.record_bytes_max = answer["StreamDescriptionSummary"].get("MaxRecordSizeInKiB", 1024) * 1024
        return self.record_bytes_max

    def _send_batch(self, batch: list[_Entry], outcomes: list[Outcome]) -> None:
        left = batch
        for try_number in range(1, _TRIES + 1):
            try:
                refused = self._put_records(left)
            except (StoreError, StoreUnavailable) as error:
                for entry in left:
                    outcomes[entry.nth] = error
                return
            if not refused:
                return
            left = [entry for entry, _ in refused]
            if try_number < _TRIES:
                time.sleep(_RETRY_S * try_number)
        for entry, why in refused:
            outcomes[entry.nth] = StoreUnavailable(f"stream {self._stream.name} did not take a record: {why}")

    def _put_records(self, batch: list[_Entry]) -> list[tuple[_Entry, str]]:
        """Those that were refused, with what Kinesis said."""
        records: list[dict[str, Any]] = [{"Data": entry.data, "PartitionKey": entry.key} for entry in batch]
        answer = self._stream.call(
            "put_records", "write to", patience_s=_PATIENCE_S, StreamName=self._stream.name, Records=records
        )
        said = zip(batch, answer["Records"], strict=True)
        return [
            (entry, f"{one['ErrorCode']}: {one.get('ErrorMessage', '')}")
            for entry, one in said
            if one.get("ErrorCode") is not None
        ]

    # -- small enough ----------------------------------------------------------------------

    def _small_enough(self, envelope: Envelope, bytes_max: int) -> bytes:
        """The envelope as it goes into the stream: what has no room is spilled first, then cut."""
        data = reading.encode(envelope)
        if len(data) <= bytes_max:
            return data
        payload = len(envelope.data_base64 or "") + len(envelope.masked_base64 or "")
        # What is told of the tries is cut only where the payload's going does not make room enough.
        if self._spill is not None and payload > len(data) // 8:
            envelope = self._spilled(envelope, self._spill)
            data = reading.encode(envelope)
        for text_bytes_max in _TEXT_BYTES_MAX:
            if len(data) <= bytes_max:
                return data
            shorter = [_shorter(one, text_bytes_max) for one in envelope.attempts]
            envelope = msgspec.structs.replace(envelope, attempts=shorter)
            data = reading.encode(envelope)
        if len(data) <= bytes_max:
            return data
        room = "raise its MaxRecordSizeInKiB" if self._spill else "expected kinesis://stream?spill=s3://bucket/prefix"
        raise StoreError(
            f"the envelope of {envelope.id} has {len(data):,} bytes, and a record of stream {self._stream.name} "
            f"has room for {bytes_max:,}: {room}"
        )

    def _spilled(self, envelope: Envelope, spill: Bucket) -> Envelope:
        """With its bytes in S3: they are there before the envelope says so."""
        key = f"{Partition.of(envelope).path}/{envelope.id}.bin"
        payload = envelope.data
        assert payload is not None, f"{envelope.id} has spilled before"
        try:
            spill.put(key, payload, new=True)
        except Unmet:
            pass  # by an earlier try: the same bytes
        masked = envelope.masked_base64
        if masked is not None:
            masked = base64.b64encode(base64.b64decode(masked)[:_MASKED_BYTES_MAX]).decode()
        return msgspec.structs.replace(envelope, data_base64=None, data_ref=f"{spill.url}/{key}", masked_base64=masked)


def _shorter(attempt: Attempt, bytes_max: int) -> Attempt:
    texts = {name: getattr(attempt, name) for name in ("message", "traceback", "stack", "log")}
    cuts = {name: cut(text, bytes_max) if bytes_max else "" for name, text in texts.items() if text is not None}
    return msgspec.structs.replace(attempt, **cuts)


def _batches(entries: Sequence[_Entry]) -> Iterator[list[_Entry]]:
    batch: list[_Entry] = []
    size = 0
    for entry in entries:
        if batch and (len(batch) == _BATCH_RECORDS_MAX or size + entry.size > _BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.size
    if batch:
        yield batch
