"""A host that is stopped, and the next one: it goes on exactly where the first was."""

from __future__ import annotations

import time
from typing import Any

from tests.kcl.running import START_S, Fleet, packed
from tests.whole.running import orders, wait_until

FIRST = "shardId-000000000000"


def test_the_next_host_goes_on_at_the_watermark_within_an_aggregate_too(fleet_of: Any) -> None:
    """An order in the middle of a packed record is still being tried when the host is stopped.

    What came before it is checkpointed by its sub-sequence number; what comes after waits behind it,
    being of one customer. Each order takes effect exactly once.
    """
    fleet: Fleet = fleet_of(shards=1)
    fleet.put(orders(range(100)))
    fleet.put(packed(range(100, 200), lambda number: "raise" if number == 150 else "fine"))
    fleet.seed(w1="0")
    host = fleet.host("w1", "--shutdown-s", "1", "--patience-s", "600", "--retry-s-min", "30")
    wait_until(lambda: len(fleet.effects()) == 150, START_S)
    assert host.stop() == 0
    assert fleet.leases()[FIRST]["checkpointSubSequenceNumber"] == "49"

    host = fleet.host(SHOP_FIXED="1")
    wait_until(lambda: len(fleet.effects()) == 200, START_S)
    fleet.put(orders(range(200, 210)))
    wait_until(lambda: len(fleet.effects()) == 210)
    assert host.stop() == 0

    assert fleet.effects() == dict.fromkeys(range(210), 1)
    assert fleet.quarantined() == []


def test_a_stop_soon_after_a_split_does_not_wait_and_repeats_nothing(fleet_of: Any) -> None:
    """KCL 3.1.3 gives the same shards out once more then, and by itself waits out its whole grace of 30 s."""
    fleet: Fleet = fleet_of(shards=1)
    fleet.put(orders(range(100)))
    fleet.seed(w1="0")
    host = fleet.host()
    host.reads(FIRST)
    children = fleet.split(FIRST)
    fleet.put(orders(range(100, 200)))
    host.reads(*children)
    wait_until(lambda: len(fleet.effects()) == 200)

    fleet.put(orders(range(200, 300)))
    began = time.monotonic()
    assert host.stop() == 0
    assert time.monotonic() - began < 15

    fleet.put(orders(range(300, 400)))
    host = fleet.host()
    wait_until(lambda: len(fleet.effects()) == 400, START_S)
    assert host.stop() == 0
    assert fleet.effects() == dict.fromkeys(range(400), 1)
