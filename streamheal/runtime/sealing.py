"""Fills in what every envelope of one run has in common."""

from __future__ import annotations

import socket
from datetime import UTC, datetime

from streamheal.attempts import Attempt
from streamheal.core.messages import Quarantine
from streamheal.quarantine.envelope import Code, Envelope, envelope_id
from streamheal.quarantine.seal import seal
from streamheal.records import Record, Shard
from streamheal.workers.port import TargetFacts


class Sealer:
    """Makes envelopes for one application: see `quarantine.seal`."""

    def __init__(self, application: str, facts: TargetFacts, config_hash: str) -> None:
        self._application = application
        self._host = socket.gethostname()
        self.code = Code(
            processor=facts.name,
            version=facts.version,
            python=facts.python,
            packages=facts.packages,
            config_hash=config_hash,
        )

    def id_of(self, record: Record, shard: Shard) -> str:
        """What its envelope is or would be called."""
        name = (self._application, shard.stream, record.shard_id, record.sequence_number, record.sub_sequence_number)
        return envelope_id(*name)

    def __call__(
        self, record: Record, shard: Shard, decision: Quarantine, attempts: list[Attempt], masked: bytes | None
    ) -> Envelope:
        return seal(
            record,
            application=self._application,
            stream=shard.stream,
            decision=decision,
            attempts=attempts,
            code=self.code,
            host=self._host,
            now=datetime.now(UTC),
            masked=masked,
        )
