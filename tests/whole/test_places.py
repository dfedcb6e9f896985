"""Every place to keep things in, and what can be seen from outside while it runs."""

from __future__ import annotations

import signal
import socket
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.whole.running import Site, orders, processes_in, put, wait_until


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture
def place(bucket: Callable[[], str], stream: Callable[..., str]) -> Callable[[str], str]:
    """A new quarantine of this kind, as `--quarantine` takes it."""

    def make(kind: str) -> str:
        match kind:
            case "s3":
                return f"s3://{bucket()}/set-aside"
            case "kinesis":
                return f"kinesis://{stream(shards=1)}?spill=s3://{bucket()}/spilled"
        return "aside"

    return make


@pytest.mark.parametrize("kind", ["folder", "s3", "kinesis"])
def test_a_record_is_set_aside_shown_and_healed_wherever_it_is_kept(
    site_of: Any, kinesis: Any, place: Callable[[str], str], kind: str
) -> None:
    """A bare fifth record and a big one of 1.5 MB, which a quarantine stream must spill."""
    site: Site = site_of(shards=1)
    where = ["--quarantine", place(kind)]
    entries = orders(range(60), lambda number: "reject" if number in (5, 30) else "fine")
    entries[30]["Data"] = entries[30]["Data"].rstrip(b"}") + b', "note": "' + b"x" * 900_000 + b'"}'
    put(kinesis, site.stream, entries)

    assert site.heal("shop:Shop", *where).returncode == 0
    assert len(site.quarantined(*where)) == 2
    assert site.call("replay", "--all", *where, SHOP_FIXED="1").returncode == 0

    assert site.quarantined(*where) == []
    assert len(site.quarantined(*where, "--status", "healed")) == 2
    assert site.effects() == dict.fromkeys(range(60), 1)


def test_a_table_keeps_the_state_for_the_next_host(site_of: Any, kinesis: Any, aws: Any) -> None:
    site: Site = site_of(shards=2)
    state = ["--state", f"dynamodb:{site.stream}"]
    put(kinesis, site.stream, orders(range(100)))
    assert site.heal("shop:Shop", *state).returncode == 0
    put(kinesis, site.stream, orders(range(100, 150)))
    assert site.heal("shop:Shop", *state).returncode == 0
    assert site.effects() == dict.fromkeys(range(150), 1)


def test_figures_add_up_at_every_scrape_and_health_is_told(site_of: Any, kinesis: Any) -> None:
    site: Site = site_of(shards=2)
    put(kinesis, site.stream, orders(range(400), lambda number: "reject" if number % 50 == 7 else "fine"))
    port = free_port()
    host = site.start(*site.run_arguments(), "--http", f"127.0.0.1:{port}", SHOP_WORK_S="0.005")
    wait_until(lambda: sum(site.effects().values()) > 0)

    scrapes = []
    while sum(site.effects().values()) < 300:
        scrapes.append(figures(port))
        parts = ("done", "quarantined", "filtered", "in_flight")
        assert scrapes[-1]["read"] == sum(scrapes[-1][name] for name in parts)
    ready = urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").status
    healthy = urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").status
    host.send_signal(signal.SIGTERM)
    host.wait(30)

    assert (host.returncode, ready, healthy) == (0, 200, 200)
    assert scrapes[0]["done"] < scrapes[-1]["done"]
    assert not processes_in(site.folder)


def figures(port: int) -> dict[str, float]:
    """Sums over all shards, of one scrape."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    found = dict.fromkeys(("read", "done", "quarantined", "filtered", "in_flight"), 0.0)
    for line in text.splitlines():
        for name in found:
            if line.startswith((f"streamheal_records_{name}_total{{", f"streamheal_records_{name}{{")):
                found[name] += float(line.rpartition(" ")[2])
    return found


def test_a_replay_killed_in_the_middle_goes_on_where_it_was(site_of: Any, kinesis: Any) -> None:
    """kill -9, then the same command again: each record is healed, and hardly any ran twice."""
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(300), lambda number: "reject" if number < 200 else "fine"))
    assert site.heal().returncode == 0
    assert len(site.quarantined()) == 200

    replay = site.start("replay", "--all", "--rate", "100/s", SHOP_FIXED="1")
    wait_until(lambda: sum(number < 200 for number in site.effects()) >= 60)
    replay.kill()
    replay.wait()
    wait_until(lambda: not processes_in(site.folder))
    assert site.call("replay", "--all", SHOP_FIXED="1").returncode == 0

    assert site.quarantined() == []
    assert site.effects().keys() == set(range(300))
    # What was handled within the last checkpoint before the kill is handled again.
    assert sum(times - 1 for times in site.effects().values()) <= 100


def test_an_outage_downstream_sets_nobody_aside(site_of: Any, kinesis: Any) -> None:
    """Everything fails for a while, patience runs out in it, and then the world is well again."""
    site: Site = site_of(shards=2)
    put(kinesis, site.stream, orders(range(100)))
    arguments = [*site.run_arguments(), "--patience-s", "1"]
    (site.folder / "outage").touch()
    host = site.start(*arguments, SHOP_OUTAGE=str(site.folder / "outage"))
    wait_until(lambda: "human_called" in (site.folder / "log").read_text())
    (site.folder / "outage").unlink()
    wait_until(lambda: len(site.effects()) == 100)
    host.send_signal(signal.SIGTERM)
    host.wait(30)
    assert host.returncode == 0
    assert site.quarantined() == []
