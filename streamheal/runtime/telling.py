"""What is told of one shard's records, in the words of the log. `names` says which shard it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamheal.attempts import Attempt
from streamheal.core.healer import Healer
from streamheal.core.messages import LedgerBroken, Named, Verdict
from streamheal.core.outage import WHY_PAUSED
from streamheal.quarantine.envelope import Envelope
from streamheal.records import Record, Shard
from streamheal.runtime.casebook import short
from streamheal.runtime.chronicle import Chronicle

Names = dict[str, str]


def names_of(shard: Shard) -> Names:
    return {"stream": shard.stream, "shard_id": shard.shard_id}


def attempt_failed(log: Chronicle, names: Names, record: Named, attempt: Attempt) -> None:
    log.debug(
        "attempt_failed",
        **names,
        sequence_number=str(record.position.sequence),
        attempt=attempt.number,
        outcome=attempt.outcome,
        exception_type=attempt.exception_type,
    )


def failed(log: Chronicle, event: str, names: Names, attempt: Attempt, **more: Any) -> None:
    """A hook of the processor, `initialize` among them."""
    log.error(event, **names, **more, error=short(attempt), traceback=attempt.traceback)


def set_aside(log: Chronicle, names: Names, envelope: Envelope, verdict: Verdict) -> None:
    log.info(
        "record_stayed" if verdict is Verdict.STAYS else "record_quarantined",
        **names,
        sequence_number=envelope.sequence_number,
        id=envelope.id,
        reason=envelope.reason,
        fingerprint=envelope.fingerprint,
        title=envelope.title,
        verdict=verdict.name.lower(),
        attempts=len(envelope.attempts),
    )


def cleared(log: Chronicle, names: Names, record: Record, id: str) -> None:
    log.info("record_cleared", **names, sequence_number=record.sequence_number, id=id)


def ledger_broken(log: Chronicle, names: Names, broken: LedgerBroken) -> None:
    numbers = broken._asdict() | {"checkpoint": str(broken.checkpoint.sequence)}
    log.error("ledger_broken", **names, **numbers)


class Changes:
    """Tells of a pause and of its end, and of a checkpoint that is held, once each."""

    def __init__(self) -> None:
        self._paused = self._forgone = False

    def tell(self, log: Chronicle, names: Names, healer: Healer, last_failure: Callable[[], str | None]) -> None:
        if healer.paused != self._paused:
            self._paused = healer.paused
            if self._paused:
                log.warning("shard_paused", **names, why=WHY_PAUSED, last_failure=last_failure())
            else:
                log.info("shard_resumed", **names)
        if healer.statements.forgone and not self._forgone:
            self._forgone = True
            after = healer.statements.forgone_after
            log.warning(
                "checkpoint_held",
                **names,
                after=None if after is None else str(after.sequence),
                why="a worker ended with records that the processor had not checkpointed",
                until="the shard is begun anew: they are given again then",
            )
