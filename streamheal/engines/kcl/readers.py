"""Whether somebody reads every shard, as KCL's lease table shows it over time.

lease of shard-0   we hold it                         read
lease of shard-1   w2's, its counter moves            read, by another host
lease of shard-2   w3's, its counter stands still     nobody's: w3 is dead, and KCL will give it away
shard-3            has no lease yet                   nobody's: the leader has not come to it
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from streamheal.engines.kcl.tables import Lease


class Readers:
    """Looked at again and again, for `--until-caught-up`.

    Args:
        alive_s: KCL's failover time: an owner that lives renews each lease three times in it
            (KCL 3.5.1, DynamoDBLeaseCoordinator).
    """

    def __init__(self, alive_s: float) -> None:
        self._alive_s = alive_s
        self._seen: dict[str, tuple[int, float | None]] = {}  # by shard: its counter, when it was seen to move

    def read_all(self, leases: Iterable[Lease], open_shards: Iterable[str], held: Collection[str], now: float) -> bool:
        """Whether all that has not ended is held by us, or by an owner seen alive.

        Args:
            open_shards: Those of the stream that may still be written to: each must have a lease.
            held: The shards that we read.
        """
        by_shard = {lease.shard_id: lease for lease in leases}
        alive = {shard_id for shard_id, lease in by_shard.items() if self._renewed(lease, now)}
        return all(shard_id in by_shard for shard_id in open_shards) and all(
            lease.ended or shard_id in held or shard_id in alive for shard_id, lease in by_shard.items()
        )

    def _renewed(self, lease: Lease, now: float) -> bool:
        before, moved_at = self._seen.get(lease.shard_id, (lease.counter, None))
        if lease.counter != before:
            moved_at = now
        self._seen[lease.shard_id] = (lease.counter, moved_at)
        return lease.owner is not None and moved_at is not None and now - moved_at <= self._alive_s
