"""Order, over everything that may happen to a record, a worker, a host or a shard on the way.

What counts is the first effect: whatever runs again after a restart runs again in order, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.whole.running import Site, orders, processes_in, put, wait_until

SICK = {30: "notjson", 60: "crash", 80: "raise"}
PASSING = {20: "flaky", 50: "busy", 90: "flaky", 91: "flaky"}


def how(number: int) -> str:
    return SICK.get(number) or PASSING.get(number) or "fine"


def first_effects(effects: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
    return list({number: (number, key) for number, key in reversed(list(effects))}.values())[::-1]


def killed_after(effects: int, site: Site, *options: str) -> None:
    """kill -9 of the host, with everything that it had open."""
    host = site.start(*site.run_arguments("shop:AuditedShop", "--checkpoint-s", "0.1", *options), SHOP_WORK_S="0.005")
    wait_until(lambda: sum(site.effects().values()) >= effects or host.poll() is not None)
    host.kill()
    host.wait()
    wait_until(lambda: not processes_in(site.folder))


@pytest.mark.parametrize(
    ("ordering", "keys_of"),
    [("key", lambda key: key), ("shard", lambda key: "all of the shard")],
)
def test_first_effects_are_in_order_over_retries_cells_crashes_and_killed_hosts(
    site_of: Any, kinesis: Any, ordering: str, keys_of: Callable[[str], str]
) -> None:
    """A worker dies of a record, others are tried again, the host is killed; an audit finds nothing."""
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(120), how, keys=15))
    killed_after(45, site, "--ordering", ordering)

    done = site.heal("shop:AuditedShop", "--ordering", ordering, "--patience-s", "0.5")

    assert done.returncode == 0, done.stderr
    assert site.effects().keys() == set(range(120)) - SICK.keys()
    by_key: dict[str, list[int]] = {}
    for number, key in first_effects(site.effects_in_order()):
        by_key.setdefault(keys_of(key), []).append(number)
    assert all(numbers == sorted(numbers) for numbers in by_key.values())

    audit = site.call(
        "audit", "--stream", site.stream, "--application", "audited-shop", "--effects", "audited.jsonl",
        "--ordering", ordering, "--json",
    )  # fmt: skip
    assert audit.returncode == 0, audit.stdout + audit.stderr
    total = json.loads(audit.stdout.splitlines()[-1])
    assert (total["records"], total["done"], total["quarantined"]) == (120, 117, 3)
    assert (total["lost"], total["out_of_order"], total["adds_up"]) == (0, 0, True)


def test_children_do_not_begin_while_a_sick_record_is_open_at_the_end_of_their_parent(
    site_of: Any, kinesis: Any
) -> None:
    """The last but one needs a second try, a second later; the last is poison, and nobody is left to ask."""
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(40), lambda number: {38: "flaky", 39: "raise"}.get(number, "fine"), keys=8))
    kinesis.split_shard(StreamName=site.stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(1 << 127))
    kinesis.get_waiter("stream_exists").wait(StreamName=site.stream, WaiterConfig={"Delay": 1})
    put(kinesis, site.stream, orders(range(40, 80), keys=8))

    done = site.heal("shop:Shop", "--retry-s-min", "1", "--patience-s", "1")

    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stderr.splitlines()]
    events = [(event["event"], event.get("shard_id")) for event in told]
    children = [nth for nth, (event, shard) in enumerate(events) if event == "shard_started" and shard[-1] in "12"]
    assert len(children) == 2
    assert events.index(("record_quarantined", "shardId-000000000000")) < min(children)
    assert events.index(("shard_complete", "shardId-000000000000")) < min(children)
    numbers = [number for number, _ in site.effects_in_order()]
    assert sorted(numbers) == [number for number in range(80) if number != 39]
    assert numbers.index(38) < min(numbers.index(number) for number in range(40, 80))
