"""Several hosts of one application: KCL deals the shards out, and one that goes leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable

from tests.kcl.running import START_S, Fleet
from tests.whole.running import orders, wait_until

FIRST, SECOND = "shardId-000000000000", "shardId-000000000001"


def test_shards_are_shared_and_a_host_that_ends_hands_its_own_over_where_it_was(fleet_of: Callable[..., Fleet]) -> None:
    """A second host joins and is stopped, a third reads its share, if it has one, and ends by itself.

    Records come all the while, and each takes effect exactly once.
    """
    fleet = fleet_of(shards=2)
    fleet.put(orders(range(200)))
    fleet.seed(w1="0 1")
    one = fleet.host("w1")
    one.reads(FIRST, SECOND)
    two = fleet.host("w2")
    fed = iter(range(200, 400))
    while not two.events("shard_started"):
        # KCL balances by throughput: where nothing flows, nothing is uneven.
        fleet.put(orders([number] if (number := next(fed, None)) else []))
        assert two.process.poll() is None
    assert set(fleet.owners().values()) == {"w1", "w2"}

    fleet.put(orders(fed))
    wait_until(lambda: len(fleet.effects()) == 400)
    fleet.put(orders(range(400, 600)))
    # It does not lead: where a leader stops, KCL's others look for its lock every 30 s.
    assert fleet.leader() == "w1"
    assert two.stop() == 0
    fleet.put(orders(range(600, 800)))
    wait_until(lambda: len(fleet.effects()) == 800, START_S)
    assert set(fleet.owners().values()) == {"w1"}

    # Where nothing flows it may be given none, and ends all the same.
    three = fleet.host("w3", "--until-caught-up")
    assert three.process.wait(START_S) == 0
    assert not three.processes()
    fleet.put(orders(range(800, 1000)))
    wait_until(lambda: len(fleet.effects()) == 1000, START_S)
    assert one.stop() == 0

    assert fleet.effects() == dict.fromkeys(range(1000), 1)
    assert fleet.quarantined() == []


def test_a_killed_hosts_shards_flow_on_the_other(fleet_of: Callable[..., Fleet]) -> None:
    """kill -9 in the middle of its records. What it had not checkpointed runs again; nobody is blamed for it."""
    fleet = fleet_of(shards=2)
    fleet.seed(w1="0", w2="1")
    hosts = {name: fleet.host(name, SHOP_WORK_S="0.005") for name in ("w1", "w2")}
    hosts["w1"].reads(FIRST)
    hosts["w2"].reads(SECOND)
    wait_until(lambda: fleet.leader() is not None)
    # Where the leader dies with its whole machine, KCL waits for its lock, 120 s: that is not ours to see.
    leader = fleet.leader()
    (killed,) = set(hosts) - {leader}
    fleet.put(orders(range(600), lambda number: "reject" if number == 77 else "fine"))
    pids = {str(pid) for pid in hosts[killed].processes()}
    wait_until(lambda: sum(pid in pids for pid in fleet.effects_by_process()) >= 50)
    hosts[killed].kill()

    fleet.put(orders(range(600, 700)))
    wait_until(lambda: len(fleet.effects()) == 699, START_S)
    assert hosts[leader].stop() == 0
    assert fleet.effects().keys() == set(range(700)) - {77}
    (envelope,) = fleet.quarantined()
    assert envelope["reason"] == "rejected"


def test_until_caught_up_ends_after_what_a_dead_host_had_and_after_children(fleet_of: Callable[..., Fleet]) -> None:
    """The table still names the dead host when our own shard is long read, and knows of no children before that."""
    fleet = fleet_of(shards=2)
    fleet.seed(w1="0", dead="1")
    fleet.put(orders(range(200)))
    children = fleet.split(SECOND)
    fleet.put(orders(range(200, 400)))

    host = fleet.host("w1", "--until-caught-up")

    assert host.process.wait(START_S) == 0
    assert fleet.effects() == dict.fromkeys(range(400), 1)
    assert fleet.ended(SECOND)
    assert set(children) <= fleet.leases().keys()
    assert not host.processes()
