"""What users write: a class with `process_record`, or a plain function of one record."""

from __future__ import annotations

from typing import Any, Literal

from streamheal.records import Record, Shard

Ordering = Literal["shard", "key", "none"]


class RecordProcessor:
    """Handles the records of one or more shards. Subclass it; override what you need.

    One of `process_record` (plain or `async`) and `process_records` must be there. An
    instance is made once per shard and worker process, so its attributes are that shard's own.

        class Orders(RecordProcessor):
            def process_record(self, record: Record) -> None:
                charge(record.json(Order))

    Class attributes override configuration for this processor; None leaves it as configured.

    Attributes:
        ordering: "shard" (strict), "key" (in order per key) or "none".
        concurrency: Records at once per shard.
        deadline_s: How long one record may take (a batch processor: one call).
        attempts_max: Tries before a record can be set aside.
        poison: Exception classes that mean: set this record aside at once.
        throttled: Exception classes that mean: the world is busy, slow down.
    """

    ordering: Ordering | None = None
    concurrency: int | None = None
    deadline_s: float | None = None
    attempts_max: int | None = None
    poison: tuple[type[BaseException], ...] = ()
    throttled: tuple[type[BaseException], ...] = ()

    def initialize(self, shard: Shard) -> None:
        """Called once per shard and worker process, before its first record."""

    def process_record(self, record: Record) -> Any:
        """Handle one record; may be `async`. Returning means: done."""
        raise NotImplementedError(f"{type(self).__name__} has neither process_record nor process_records")

    def shard_ended(self) -> None:
        """Every record of the shard is settled, and no more will come."""

    def lease_lost(self) -> None:
        """Another worker owns the shard now."""

    def shutdown_requested(self) -> None:
        """The consumer is being stopped; open records have finished."""


# Optional methods are found by their names. They are not on the base class, because their
# absence keeps the path of a clean record short.
#
#   process_records(self, records: Sequence[Record]) -> Sequence[Record] | None
#   wants(self, record: Record) -> bool
#   key(self, record: Record) -> str
#   mask(self, record: Record) -> bytes
#   mask_text(self, text: str) -> str
