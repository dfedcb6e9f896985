"""A quarantined record with everything needed to understand it, as JSON."""

from __future__ import annotations

import base64
import hashlib
from typing import Literal

import msgspec

from streamheal.attempts import Attempt

Reason = Literal["exception", "decode", "deadline", "crash", "rejected", "parked"]
Status = Literal["open", "healed", "discarded"]


class Code(msgspec.Struct, kw_only=True):
    """What ran. `version` is the release as the environment or git tells it."""

    processor: str
    version: str | None
    python: str
    packages: dict[str, str]
    config_hash: str


class Replay(msgspec.Struct, kw_only=True):
    """One try in a replay. `attempt` tells more where it failed."""

    at: str
    code_version: str | None
    outcome: Literal["healed", "failed", "filtered"]
    attempt: Attempt | None = None


class Discard(msgspec.Struct, kw_only=True):
    at: str
    by: str
    why: str


class Envelope(msgspec.Struct, kw_only=True):
    """One quarantined record. Times are ISO 8601 in UTC.

    `data_base64` is null where the bytes spilled; `data_ref` then says where they are.
    """

    streamheal: int = 1
    id: str
    application: str
    stream: str
    shard_id: str
    sequence_number: str
    sub_sequence_number: int
    partition_key: str
    explicit_hash_key: str | None
    approximate_arrival_timestamp: str
    quarantined_at: str
    data_base64: str | None
    data_ref: str | None
    reason: Reason
    fingerprint: str
    title: str
    verdict: str
    attempts: list[Attempt]
    code: Code
    host: str
    status: Status = "open"
    replays: list[Replay] = []
    discard: Discard | None = None

    @property
    def data(self) -> bytes | None:
        return None if self.data_base64 is None else base64.b64decode(self.data_base64)


def envelope_id(application: str, stream: str, shard_id: str, sequence_number: str, sub_sequence_number: int) -> str:
    """The same for the same record and application: 16 characters of a-z and 2-7."""
    name = "\0".join((application, stream, shard_id, sequence_number, str(sub_sequence_number)))
    return base64.b32encode(hashlib.sha256(name.encode()).digest()[:10]).decode().lower()
