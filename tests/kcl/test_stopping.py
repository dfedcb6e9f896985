"""A host that is stopped, and the next one: it goes on exactly where the first was."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.kcl.running import START_S, Fleet, packed
from tests.whole.running import orders, wait_until

FIRST = "shardId-000000000000"


def test_the_next_host_goes_on_exactly_at_the_watermark(fleet_of: Callable[..., Fleet]) -> None:
    """Stopped within a packed record, and soon after a split: each order takes effect exactly once.

    The first host is stopped while an order in the middle of a packed record is still being tried. What
    came before it is checkpointed by its sub-sequence number; what comes after is of the same customer, and
    waits. The second is stopped as soon as the children of a split are read: KCL 3.1.3 gives the same
    shards out once more then, and by itself waits out its whole grace of 30 s.
    """
    fleet = fleet_of(shards=1)
    fleet.put(orders(range(100)))
    fleet.put(packed(range(100, 200), lambda number: "raise" if number == 150 else "fine"))
    fleet.seed(w1="0")
    host = fleet.host("w1", "--shutdown-s", "1", "--patience-s", "600", "--retry-s-min", "30")
    wait_until(lambda: len(fleet.effects()) == 150, START_S)
    assert host.stop() == 0
    assert fleet.leases()[FIRST]["checkpointSubSequenceNumber"] == "49"

    host = fleet.host(SHOP_FIXED="1")
    wait_until(lambda: len(fleet.effects()) == 200, START_S)
    children = fleet.split(FIRST)
    fleet.put(orders(range(200, 300)))
    host.reads(*children)
    wait_until(lambda: len(fleet.effects()) == 300)
    fleet.put(orders(range(300, 400)))
    began = time.monotonic()
    assert host.stop() == 0
    assert time.monotonic() - began < 15

    fleet.put(orders(range(400, 500)))
    host = fleet.host()
    wait_until(lambda: len(fleet.effects()) == 500, START_S)
    assert host.stop() == 0
    assert fleet.effects() == dict.fromkeys(range(500), 1)
    assert fleet.quarantined() == []

    # Batches that outlast the stop by far, in both children: what ran in each is all that is given again.
    fleet.put(orders(range(500, 900)))
    host = fleet.host("w1", "--shutdown-s", "1", SHOP_WORK_S="0.02")
    wait_until(lambda: len(fleet.effects()) >= 520, START_S)
    assert host.stop() == 0
    assert len(fleet.effects()) < 900
    host = fleet.host()
    wait_until(lambda: len(fleet.effects()) == 900, START_S)
    assert host.stop() == 0
    assert sum(fleet.effects().values()) <= 902
