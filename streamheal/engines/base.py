"""Where records come from: what every engine promises, and what it may ask of the runtime."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from streamheal.records import Dialect, Position, Shard


class Log(Protocol):
    """The part of a structlog logger that engines use."""

    def debug(self, event: str, **fields: Any) -> Any: ...
    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...


class Slot(Protocol):
    """A stretch of memory shared with the workers, to read or copy a batch into."""

    @property
    def view(self) -> memoryview: ...


class Batch(NamedTuple):
    """What an engine brings: bytes that the worker will decode.

    `length` bytes from the start of the slot's view are the batch. Records at or before
    `after` are not part of it: they were settled before a restart, and only share a KPL
    aggregate with records that were not. `records`, their number, is known where the engine made the batch
    itself; None: the worker counts.
    """

    slot: Slot
    length: int
    dialect: Dialect
    after: Position | None = None
    records: int | None = None


class Sink(Protocol):
    """The runtime, as engines see it. All calls are made in the event loop's thread and return at once."""

    def shard_started(self, shard: Shard, after: Position | None) -> None:
        """A shard is ours, to be read from after this checkpoint (None: from where `--from` says).

        The engine brings no batch of it before `Engine.answer`.
        """

    def take_slot(self) -> Slot | None:
        """A free slot, or None: ask again after a while (every slot is in use)."""

    def give_back(self, slot: Slot) -> None:
        """A slot that was taken and not brought."""

    def batch_arrived(self, shard_id: str, batch: Batch) -> None:
        """One batch. The next only after `Engine.answer(shard_id)`."""

    def lag_measured(self, shard_id: str, lag_s: float, at_tip: bool) -> None:
        """How far behind its tip the shard was read; `at_tip`: nothing was left to read, and more may come.

        A shard that is known to be closed has no tip: it ends, and others follow it.
        """

    def shard_ended(self, shard_id: str) -> None:
        """No batch will come any more: the shard was split or merged, and is read to its end."""

    def lease_lost(self, shard_id: str) -> None:
        """The shard is another's now: abandon its open records, checkpoint nothing."""

    def shutdown_requested(self, shard_id: str) -> None:
        """The shard will be taken away: finish what is open, checkpoint, then `Engine.shard_left`."""


class Engine(Protocol):
    async def open(self) -> None:
        """Try everything that the run needs of the outside, before a record is read.

        Raises:
            UsageError: No such stream, no permission, no credentials, endpoint refused (for 10 s).
        """

    async def run(self, sink: Sink) -> None:
        """Bring shards and batches until cancelled; passing faults are waited out here.

        Returns by itself only when there is nothing left to bring, ever (a replay's end).
        """

    @property
    def has_brought_all(self) -> bool:
        """Whether every shard that there is to read for us has been started: only then can all be read."""

    def answer(self, shard_id: str) -> None:
        """The next batch of this shard may come."""

    async def checkpoint(self, shard_id: str, position: Position) -> None:
        """Keep this checkpoint durably, or raise `Unavailable`.

        Each is asked for at or after the one before, but a shard that is given up does not wait for one that is
        under way: where that comes late, the later one stays.
        """

    async def shard_complete(self, shard_id: str) -> None:
        """Everything of an ended shard is settled and checkpointed: its children may start."""

    def shard_left(self, shard_id: str) -> None:
        """The runtime is through with a shard that has not ended: it is checkpointed as far as it goes."""

    async def close(self) -> None: ...


class StreamEngine(Engine, Protocol):
    """One that reads a stream itself."""

    @property
    def retention_s(self) -> float | None:
        """How long the stream keeps a record; known after `open`."""
