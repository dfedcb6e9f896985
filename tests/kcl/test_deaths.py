"""Whatever is killed with -9, records flow again, none is lost, and nobody innocent is set aside."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from tests.kcl.running import START_S, Fleet
from tests.whole.running import orders, wait_until

FIRST, SECOND = "shardId-000000000000", "shardId-000000000001"


def test_a_killed_daemon_a_killed_stub_and_a_killed_host(fleet_of: Callable[..., Fleet]) -> None:
    """One after another in one application. Whoever dies, its shards have no other to read them."""
    fleet = fleet_of(shards=2)
    fleet.put(orders(range(300)))
    fleet.seed(w1="0 1")
    host = fleet.host()
    host.reads(FIRST, SECOND)
    wait_until(lambda: len(fleet.effects()) == 300)
    wait_until(lambda: fleet.leader() == "w1")

    # The daemon, while records come. It led: the children of a split would wait 120 s for its lock.
    os.kill(host.daemon, signal.SIGKILL)
    fleet.put(orders(range(300, 500)))
    host.wait_for("leader_released")
    wait_until(lambda: len(fleet.effects()) == 500, START_S)
    began = time.monotonic()
    children = fleet.split(FIRST)
    fleet.put(orders(range(500, 700)))
    wait_until(lambda: len(fleet.effects()) == 700, START_S)
    host.reads(*children)
    assert time.monotonic() - began < 60

    # A stub, while nothing comes: the daemon itself would only notice when something does.
    os.kill(host.stubs()[0], signal.SIGKILL)
    host.wait_for("daemon_started", times=3)
    (broke,) = host.events("pipe_broke")[-1:]
    assert broke["why"] == "its stub died"
    fleet.put(orders(range(700, 900)))
    wait_until(lambda: len(fleet.effects()) == 900, START_S)

    # The host: daemon, stubs and workers go with it.
    pids = host.processes()
    assert len(pids) >= 5
    host.kill()
    fleet.put(orders(range(900, 1000)))
    host = fleet.host()
    wait_until(lambda: len(fleet.effects()) == 1000, START_S)
    assert host.stop() == 0

    assert fleet.effects().keys() == set(range(1000))
    assert fleet.quarantined() == []
