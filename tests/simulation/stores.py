"""What must outlive the host, kept in memory: a quarantine and a state, which are late, fail, or fail
to say that they have done it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from streamheal.attempts import Attempt
from streamheal.core.messages import Quarantine
from streamheal.errors import StateUnavailable, StoreError, StoreUnavailable
from streamheal.quarantine.envelope import Code, Envelope
from streamheal.quarantine.seal import seal
from streamheal.records import Record, Shard
from streamheal.state.base import Conflict, Row

if TYPE_CHECKING:
    from tests.simulation.world import World


_WRITTEN_AT = datetime(2026, 1, 1, tzinfo=UTC)


class Sealer:
    """Implements `runtime.surroundings.Seal`, with the real envelope, and tells the oracle of each verdict."""

    code = Code(processor="app", version=None, python="3", packages={}, config_hash="")

    def __init__(self, world: World) -> None:
        self._world = world

    def id_of(self, record: Record, shard: Shard) -> str:
        return f"{shard.shard_id}/{record.sequence_number}"

    def __call__(
        self, record: Record, shard: Shard, decision: Quarantine, attempts: list[Attempt], masked: bytes | None
    ) -> Envelope:
        stream = self._world.stream(shard.shard_id)
        self._world.oracle.judged(stream.tracks[int(record.sequence_number) - 1], decision.verdict)
        return seal(
            record,
            application="app",
            stream=shard.stream,
            decision=decision,
            attempts=attempts,
            code=self.code,
            host="host",
            now=_WRITTEN_AT,
            masked=masked,
        )


class SimShelf:
    """Implements `runtime.keeper.Shelf`. What it has said that it keeps, it keeps."""

    def __init__(self, world: World) -> None:
        self._world = world

    def put(self, envelopes: Sequence[Envelope]) -> list[StoreError | StoreUnavailable | None]:
        world, spec = self._world, self._world.spec
        if world.chance(spec.fails / 4):
            raise StoreUnavailable("it does not answer")
        answers: list[StoreError | StoreUnavailable | None] = []
        for envelope in envelopes:
            down = spec.store_down[0] <= world.now < spec.store_down[1]
            if down or world.chance(spec.fails):
                answers.append(StoreUnavailable("it is down"))
                continue
            track = world.stream(envelope.shard_id).tracks[int(envelope.sequence_number) - 1]
            world.note(f"           kept: {track.name}")
            world.oracle.stored(track)
            answers.append(StoreUnavailable("the answer was lost") if world.chance(spec.fails) else None)
        if world.chance(spec.fails / 4):
            raise StoreUnavailable("the answer was lost")
        return answers


class SimState:
    """Implements the rows of `state.base.State`."""

    url = "memory:"

    def __init__(self, world: World) -> None:
        self._world = world
        self._rows: dict[tuple[str, str], Row] = {}

    def marks(self, shard_id: str) -> dict[str, Any]:
        """What is durable of a shard's marks, for the oracle."""
        row = self._rows.get(("app#running", f"orders/{shard_id}"))
        return {} if row is None else row.value

    def _may_fail(self, what: str) -> None:
        if self._world.chance(self._world.spec.fails):
            raise StateUnavailable(what)

    def read(self, kind: str, key: str) -> Row | None:
        self._may_fail("it does not answer")
        return self._rows.get((kind, key))

    def write(self, kind: str, key: str, value: dict[str, Any], *, replaces: int | None) -> int:
        self._may_fail("it does not answer")
        row = self._rows.get((kind, key))
        if (None if row is None else row.version) != replaces:
            raise Conflict(f"{key} is not at {replaces}")
        version = (replaces or 0) + 1
        self._rows[kind, key] = Row(key, value, version)
        self._may_fail("the answer was lost")
        return version

    def scan(self, kind: str, key_prefix: str = "") -> Iterator[Row]:
        self._may_fail("it does not answer")
        rows = [row for (of, key), row in self._rows.items() if of == kind and key.startswith(key_prefix)]
        yield from sorted(rows, key=lambda row: row.key)

    def delete(self, kind: str, key: str) -> None:
        self._may_fail("it does not answer")
        self._rows.pop((kind, key), None)

    def check(self) -> None: ...
    def own(self, application: str, owner: str, *, at_once: bool = False) -> None: ...
    def keep_owning(self) -> None: ...
    def disown(self) -> None: ...
    def close(self) -> None: ...


class NoThreads(Executor):
    """The made-up loop asks no executor."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None: ...
