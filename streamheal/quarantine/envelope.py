"""A quarantined record with everything needed to understand it, as JSON.

The docstrings here are the reference that users read: `quarantine/reference.py` makes the
JSON Schema and `docs/envelope.md` of them.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Literal

import msgspec

from streamheal.attempts import Attempt

Reason = Literal["exception", "decode", "deadline", "crash", "rejected", "parked"]
Status = Literal["open", "healed", "discarded"]


class Code(msgspec.Struct, kw_only=True):
    """What ran.

    Attributes:
        processor: As it was named on the command line: `shop.orders:Orders`.
        version: The release, as the environment or git tells it.
        python: The interpreter's version: `3.12.1`.
        packages: Versions of the libraries that the processor had imported, by name.
        config_hash: Equal for runs with equal configuration.
    """

    processor: str
    version: str | None
    python: str
    packages: dict[str, str]
    config_hash: str


class Replay(msgspec.Struct, kw_only=True):
    """One try in a replay.

    Attributes:
        at: When it was settled, ISO 8601 in UTC.
        code_version: The release that tried, as in `code.version`.
        outcome: `healed`: the processor has handled it. `filtered`: it does not want it any
            more. `failed`: it stays.
        attempt: What the try left behind, where it failed.
    """

    at: str
    code_version: str | None
    outcome: Literal["healed", "failed", "filtered"]
    attempt: Attempt | None = None


class Discard(msgspec.Struct, kw_only=True):
    """Somebody has decided that the record needs no replay. Nothing is deleted.

    Attributes:
        at: When, ISO 8601 in UTC.
        by: Who: the user's name, and the host's.
        why: In their words.
    """

    at: str
    by: str
    why: str


class Envelope(msgspec.Struct, kw_only=True):
    """One quarantined record. Every field is always there, null where it does not apply.

    Attributes:
        streamheal: The version of this format.
        id: 16 characters of a-z and 2-7; the same for the same record and application.
        application: Whose quarantine it is in.
        stream: The stream's name.
        shard_id: The shard it was read from.
        sequence_number: Up to 129 decimal digits, as Kinesis writes it.
        sub_sequence_number: Place within a KPL aggregate; 0 elsewhere.
        partition_key: As the producer gave it.
        explicit_hash_key: As the producer gave it; known for records out of a KPL aggregate only.
        approximate_arrival_timestamp: When Kinesis took the record in, ISO 8601 in UTC.
        quarantined_at: When it was set aside, ISO 8601 in UTC, milliseconds.
        data_base64: The payload's own bytes; null where they spilled.
        data_ref: Where the payload's bytes are if they spilled: `s3://bucket/key`.
        masked_base64: What people may see of the payload, where the processor has `mask`. Whoever
            shows a payload shows this instead.
        reason: Why it was set aside: how its last try ended, or `parked`: it followed an earlier
            record of its key.
        fingerprint: 12 characters of a-f and 0-9; the same for failures with one cause.
        title: What happened, in one line for people.
        verdict: On what evidence it was set aside, in a sentence: who was the witness, and what
            was ruled out.
        attempts: Every try, oldest first. A replay adds none here.
        code: What ran.
        host: The name of the machine or container.
        status: `open`, until a replay has handled it (`healed`) or somebody has decided that none
            is needed (`discarded`).
        replays: One entry for each try in a replay, oldest first.
        discard: Who has discarded it, and why.
    """

    streamheal: Literal[1] = 1
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
    masked_base64: str | None = None
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
        return None if self.data_base64 is None else base64.b64decode(self.data_base64, validate=True)

    @property
    def shown(self) -> bytes | None:
        """What people may see of the payload; None where its bytes are elsewhere."""
        return self.data if self.masked_base64 is None else base64.b64decode(self.masked_base64, validate=True)


def envelope_id(application: str, stream: str, shard_id: str, sequence_number: str, sub_sequence_number: int) -> str:
    """The same for the same record and application: 16 characters of a-z and 2-7."""
    name = "\0".join((application, stream, shard_id, sequence_number, str(sub_sequence_number)))
    return base64.b32encode(hashlib.sha256(name.encode()).digest()[:10]).decode().lower()
