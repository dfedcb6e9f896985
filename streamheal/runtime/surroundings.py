"""What one shard's run finds around it: the host, as far as a shard may know it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from streamheal.attempts import Attempt
from streamheal.core.host import Host
from streamheal.core.messages import Quarantine
from streamheal.core.policy import Policy
from streamheal.engines.base import Engine
from streamheal.quarantine.envelope import Envelope
from streamheal.records import Position, Record, Shard
from streamheal.runtime.chronicle import Chronicle
from streamheal.runtime.keeper import Keeper
from streamheal.runtime.times import Times
from streamheal.workers.port import Pool

if TYPE_CHECKING:
    from streamheal.runtime.caution import HostCaution
    from streamheal.runtime.lives import Lives
    from streamheal.runtime.shard import ShardRun


class Seal(Protocol):
    """Makes envelopes: see `runtime.sealing.Sealer`."""

    def id_of(self, record: Record, shard: Shard) -> str: ...

    def __call__(
        self, record: Record, shard: Shard, decision: Quarantine, attempts: list[Attempt], masked: bytes | None
    ) -> Envelope: ...


class Surroundings(Protocol):
    """`runtime.runtime.Runtime`, to its shards."""

    engine: Engine
    pool: Pool
    policy: Policy
    keeper: Keeper
    seal: Seal
    chronicle: Chronicle
    core_host: Host
    caution: HostCaution
    lives: Lives
    deaths: Counter[str]
    times: Times
    retention_s: float | None
    blocked_s: float
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    dice: Callable[[], float]

    async def checkpoint(self, shard_id: str, position: Position) -> bool:
        """Whether it was kept."""

    def spawn(self, chore: Coroutine[Any, Any, None]) -> None: ...

    def later(self, delay_s: float, call: Callable[[], None]) -> None: ...

    def wake_at(self, due: float | None) -> None:
        """Tick the shards at this time at the latest."""

    def shard_over(self, run: ShardRun) -> None:
        """The shard is complete, given up or lost; said of this run of it, which may not be its last here."""
