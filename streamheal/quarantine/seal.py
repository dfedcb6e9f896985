"""Makes an envelope of a record and what is known of its tries. Pure: the time comes as an argument."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime

from streamheal.attempts import Attempt, Outcome, fingerprint, utc_text
from streamheal.core.messages import Quarantine
from streamheal.quarantine.envelope import Code, Envelope, Reason, envelope_id
from streamheal.quarantine.prose import title, verdict
from streamheal.records import Record

_REASON: dict[Outcome, Reason] = {
    "exception": "exception",
    "throttled": "exception",
    "decode": "decode",
    "rejected": "rejected",
    "deadline": "deadline",
    "crash": "crash",
}


def seal(
    record: Record,
    *,
    application: str,
    stream: str,
    decision: Quarantine,
    attempts: Sequence[Attempt],
    code: Code,
    host: str,
    now: datetime,
    masked: bytes | None = None,
) -> Envelope:
    """The envelope to store.

    Args:
        decision: The core's, with its grounds. The reason is how the last try ended.
        attempts: Oldest first; at least one.
        now: Aware.
        masked: What people may see of the payload, where the processor says so.
    """
    last = _telling(attempts)
    return Envelope(
        id=envelope_id(application, stream, record.shard_id, record.sequence_number, record.sub_sequence_number),
        application=application,
        stream=stream,
        shard_id=record.shard_id,
        sequence_number=record.sequence_number,
        sub_sequence_number=record.sub_sequence_number,
        partition_key=record.partition_key,
        explicit_hash_key=record.explicit_hash_key,
        approximate_arrival_timestamp=utc_text(record.approximate_arrival_timestamp),
        quarantined_at=utc_text(now),
        data_base64=base64.b64encode(record.data).decode(),
        data_ref=None,
        masked_base64=None if masked is None else base64.b64encode(masked).decode(),
        reason=_REASON[last.outcome],
        fingerprint=fingerprint(last),
        title=title(last),
        verdict=verdict(decision, attempts, last),
        attempts=list(attempts),
        code=code,
        host=host,
    )


def _telling(attempts: Sequence[Attempt]) -> Attempt:
    """The try that tells why: the last one that was the record's own failure.

    A throttled try says that the world was busy; a record set aside while the world was busy
    was set aside for what came before.
    """
    assert attempts, "a record is set aside on evidence: there is no try of it"
    return next((one for one in reversed(attempts) if one.outcome != "throttled"), attempts[-1])
