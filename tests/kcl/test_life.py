"""The whole of it, as users have it: an empty lease table, every kind of poison, and a stream that is resharded."""

from __future__ import annotations

import urllib.request
from collections import defaultdict
from collections.abc import Callable

from tests.kcl.running import START_S, Fleet, packed
from tests.whole.running import orders, wait_until
from tests.whole.test_places import figures, free_port
from tests.whole.test_run import REASONS, how
from tests.whole.test_run import SICK as SINGLE_SICK

FIRST, SECOND = "shardId-000000000000", "shardId-000000000001"
PACKED_SICK = {3010: "reject", 3055: "crash"}
SICK = SINGLE_SICK | PACKED_SICK
HEALTHY = set(range(3100)) - SICK.keys()


def test_from_an_empty_lease_table_through_poison_split_and_merge(fleet_of: Callable[..., Fleet]) -> None:
    """3,000 records and 100 packed ones on two shards; one is split and one of its children merged, while it runs.

    Each record is done, or in quarantine for the right reason. A shard's end is stored when all of it
    is settled, so that records of a key take effect in order across the split.
    """
    fleet = fleet_of(shards=2)
    every = orders(range(3000), how)
    fleet.put(every[:1000])
    fleet.put(packed(range(3000, 3060), lambda number: PACKED_SICK.get(number, "fine"), "packed-a"))
    port = free_port()
    host = fleet.host("w1", "--http", f"127.0.0.1:{port}")
    host.reads(FIRST, SECOND)
    positions = fleet.put(every[1000:2000])
    children = fleet.split(FIRST)
    fleet.put(every[2000:2500])

    wait_until(lambda: fleet.ended(FIRST), START_S)
    done, aside = fleet.effects(), fleet.set_aside()
    for number, (shard_id, sequence_number) in enumerate(positions, 1000):
        assert shard_id != FIRST or number in done or (sequence_number, 0) in aside

    host.reads(*children)
    merged = fleet.merge(children[1], SECOND)
    fleet.put(every[2500:])
    fleet.put(packed(range(3060, 3100), key="packed-b"))

    def over() -> bool:
        return fleet.effects().keys() >= HEALTHY and len(fleet.set_aside()) >= len(SICK)

    while not over():
        now = figures(port)
        assert now["read"] == sum(now[name] for name in ("done", "quarantined", "filtered", "in_flight"))
        wait_until(lambda now=now: over() or figures(port) != now, START_S)
    host.reads(merged)
    assert lagging(port) >= {children[0], merged}
    assert host.stop() == 0

    assert fleet.effects().keys() == HEALTHY
    found = fleet.quarantined()
    assert sorted(envelope["reason"] for envelope in found) == sorted(REASONS[kind] for kind in SICK.values())
    assert {one["sub_sequence_number"] for one in found if one["partition_key"] == "packed-a"} == {10, 55}
    assert [shard_id for shard_id in (FIRST, SECOND, children[1]) if not fleet.ended(shard_id)] == []
    by_key = defaultdict(list)
    for number, key in fleet.effects_in_order():
        by_key[key].append(number)
    assert [numbers for numbers in by_key.values() if numbers != sorted(numbers)] == []


def lagging(port: int) -> set[str]:
    """Shards of which /metrics tells how far behind they are."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return {
        line.partition('shard="')[2].partition('"')[0]
        for line in lines
        if line.startswith("streamheal_shard_lag_seconds{")
    }
