"""An application written for amazon_kclpy, from its stream to its checkpoints."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.whole.running import Site, orders, put, wait_until

pytest.importorskip("amazon_kclpy", reason="amazon_kclpy is not installed, whose processors these are")


def opened(site: Site) -> Site:
    (site.folder / "kclpy_shop.py").write_text((Path(__file__).parent / "kclpy_shop.py").read_text())
    return site


def given(site: Site) -> int:
    """How many records the processor has returned from."""
    file = site.folder / "given"
    return sum(map(int, file.read_text().split())) if file.exists() else 0


def test_its_poison_is_set_aside_all_else_is_done_and_a_replay_heals(site_of: Any, kinesis: Any) -> None:
    """500 records on two shards, two of them sick: there, the rest of their batches would be lost without a word."""
    site = opened(site_of(shards=2))
    put(kinesis, site.stream, orders(range(500), lambda number: {120: "raise", 333: "raise"}.get(number, "fine")))

    done = site.heal("kclpy_shop:KclShop", "--engine", "poll")

    assert done.returncode == 0, done.stderr
    assert site.effects().keys() == set(range(500)) - {120, 333}
    assert [envelope["reason"] for envelope in site.quarantined()] == ["exception"] * 2
    before = site.effects()
    again = site.heal("kclpy_shop:KclShop", "--engine", "poll")
    assert again.returncode == 0, again.stderr
    assert site.effects() == before, "what was checkpointed ran again"

    replayed = site.call("replay", "--all", "--retry-s-min", "0.05", SHOP_FIXED="1")
    assert replayed.returncode == 0, replayed.stderr
    assert site.quarantined() == []
    assert site.effects().keys() == set(range(500))


def test_what_it_kept_in_memory_when_its_host_was_killed_is_given_again(site_of: Any, kinesis: Any) -> None:
    """1,000 records were returned from, 600 of them were checkpointed; then kill -9."""
    site = opened(site_of(shards=1))
    put(kinesis, site.stream, orders(range(600)))
    host = site.start(*site.run_arguments("kclpy_shop:BufferingShop"), "--checkpoint-s", "0.1")
    wait_until(lambda: len(site.effects()) == 600)
    put(kinesis, site.stream, orders(range(600, 1000)))
    wait_until(lambda: given(site) == 1000)
    host.send_signal(signal.SIGKILL)
    host.wait()

    done = site.heal("kclpy_shop:BufferingShop")

    assert done.returncode == 0, done.stderr
    assert site.effects().keys() == set(range(1000))


def test_what_a_killed_worker_kept_in_memory_is_given_to_the_next(site_of: Any, kinesis: Any) -> None:
    """400 records were returned from, and none had taken effect when the next batch killed the worker."""
    site = opened(site_of(shards=1))
    put(kinesis, site.stream, orders(range(400)))
    host = site.start(*site.run_arguments("kclpy_shop:BufferingShop"), "--checkpoint-s", "0.1")
    log = site.folder / "log"
    wait_until(lambda: given(site) == 400)
    put(kinesis, site.stream, orders(range(400, 410), lambda number: "crash" if number == 405 else "fine"))
    wait_until(lambda: "record_quarantined" in log.read_text())
    host.send_signal(signal.SIGTERM)
    assert host.wait(40) == 0
    assert "checkpoint_held" not in log.read_text()
    assert site.effects() == dict.fromkeys(set(range(410)) - {405}, 1)

    done = site.heal("kclpy_shop:BufferingShop")

    assert done.returncode == 0, done.stderr
    assert max(site.effects().values()) == 1, "what was checkpointed ran again"
