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
        worker_id: Ours: what has our name and is not held is still to come.
        alive_s: KCL's failover time: an owner that lives renews each lease three times in it
            (KCL 3.5.1, DynamoDBLeaseCoordinator).
    """

    def __init__(self, worker_id: str, alive_s: float) -> None:
        self._worker_id, self._alive_s = worker_id, alive_s
        self._seen: dict[str, tuple[Lease, float | None]] = {}  # by shard; when its owner was seen to renew it

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
        before, renewed_at = self._seen.get(lease.shard_id, (lease, None))
        if lease.owner != before.owner:
            renewed_at = None  # it was given to another, which moves the counter, too
        elif lease.counter != before.counter:
            renewed_at = now
        self._seen[lease.shard_id] = lease, renewed_at
        by_another = lease.owner not in (None, self._worker_id)
        return by_another and renewed_at is not None and now - renewed_at <= self._alive_s
