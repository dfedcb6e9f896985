"""What becomes of quarantined records in a replay, written to their envelopes and to the ledger."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from streamheal.attempts import Attempt, utc_text
from streamheal.engines.replay import Replayed
from streamheal.errors import StoreError, StoreUnavailable
from streamheal.quarantine.base import Store
from streamheal.quarantine.envelope import Envelope, Replay
from streamheal.records import Record


class Ledger(Protocol):
    """Which records of one replay are settled; blocking (see `state.ledgers.ReplayLedger`)."""

    def pending(self, replay_id: str) -> list[str]: ...
    def settle(self, replay_id: str, ids: Sequence[str], outcome: str) -> None: ...


class ReplayDesk:
    """Implements `engines.replay.Desk`, and the shelf on which a replay's failures are put.

    An envelope is only ever added to: its attempts and its bytes stay as they were. The
    envelope is written before the ledger, so that a replay killed in between writes twice
    rather than not at all.
    """

    def __init__(
        self, store: Store, ledger: Ledger, replay_id: str, code_version: str | None, data: bytes | None
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._replay_id = replay_id
        self._code_version = code_version
        self._data = data
        self._stayed: set[str] = set()
        self._lock = threading.Lock()
        self.healed_records = 0

    @property
    def failed_records(self) -> int:
        return len(self._stayed)

    def bring(self, ids: Sequence[str]) -> Sequence[Replayed]:
        found = []
        for id in ids:
            envelope = self._store.get(id)
            if envelope.status == "open":
                found.append(Replayed(envelope.id, self._record(envelope)))
            else:
                self._ledger.settle(self._replay_id, [envelope.id], envelope.status)
        return found

    def _record(self, envelope: Envelope) -> Record:
        data = self._data if self._data is not None else envelope.data
        if data is None:
            raise StoreError(
                f"the bytes of {envelope.id} are not in the quarantine: {envelope.data_ref} did not give them"
            )
        return Record(
            data=data,
            partition_key=envelope.partition_key,
            sequence_number=envelope.sequence_number,
            sub_sequence_number=envelope.sub_sequence_number,
            approximate_arrival_timestamp=datetime.fromisoformat(envelope.approximate_arrival_timestamp),
            explicit_hash_key=envelope.explicit_hash_key,
            shard_id=envelope.shard_id,
        )

    def healed(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        entry = Replay(at=_now(), code_version=self._code_version, outcome="healed")

        def heal(envelope: Envelope) -> Envelope:
            envelope.replays = [*envelope.replays, entry]
            envelope.status = "healed"
            return envelope

        for id in ids:
            self._store.amend(id, heal)
        self._ledger.settle(self._replay_id, list(ids), "healed")
        self.healed_records += len(ids)

    def stayed(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._stayed)

    def put(self, envelopes: Sequence[Envelope]) -> Sequence[StoreError | StoreUnavailable | None]:
        """Records that failed again: their new tries are added to the envelopes there are."""
        outcomes: list[StoreError | StoreUnavailable | None] = []
        for failed in envelopes:
            try:
                self._add_tries(failed.id, failed.attempts)
            except (StoreError, StoreUnavailable) as error:
                outcomes.append(error)
                continue
            with self._lock:
                self._stayed.add(failed.id)
            outcomes.append(None)
        return outcomes

    def _add_tries(self, id: str, attempts: list[Attempt]) -> None:
        at = _now()
        tries = [Replay(at=at, code_version=self._code_version, outcome="failed", attempt=one) for one in attempts]

        def add(envelope: Envelope) -> Envelope:
            envelope.replays = [*envelope.replays, *tries]
            return envelope

        self._store.amend(id, add)
        self._ledger.settle(self._replay_id, [id], "failed")


def _now() -> str:
    return utc_text(datetime.now(UTC))
