"""In a container whose memory is limited a record that eats it ends a worker, and never the host."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.whole.running import Site, orders, put, wait_until

MIB = 1 << 20


@pytest.fixture
def container() -> Iterator[Path]:
    """A control group of 320 MiB, as a container has one; of whichever version this machine has."""
    name = f"streamheal-test-{os.getpid()}"
    for group, limit in (
        (Path("/sys/fs/cgroup", name), "memory.max"),
        (Path("/sys/fs/cgroup/memory", name), "memory.limit_in_bytes"),
    ):
        if not os.access(group.parent / "cgroup.procs", os.W_OK):
            continue
        group.mkdir()
        try:
            if (group / limit).exists():
                (group / limit).write_text(str(320 * MIB))
                yield group
                return
        finally:
            group.rmdir()
    pytest.skip("no control group for memory can be made here")


def heal_in(container: Path, site: Site, **env: str) -> list[dict[str, Any]]:
    """Run to the end with the container's limit. Returns what was logged."""
    (site.folder / "inside").write_text(f'#!/bin/sh\necho $$ > {container}/cgroup.procs\nexec "$@"\n')
    host = site.start(
        *site.run_arguments(
            "shop:ThreadShop", "--until-caught-up", "--workers", "1", "--deadline-s", "20", "--patience-s", "1"
        ),
        inside=str(site.folder / "inside"),
        **env,
    )
    assert host.wait(60) == 0
    return [json.loads(line) for line in (site.folder / "log").read_text().splitlines() if line.startswith("{")]


@pytest.mark.parametrize("limit", ["", "off"])
def test_a_record_that_eats_the_container_s_memory_is_set_aside(
    site_of: Any, kinesis: Any, container: Path, limit: str
) -> None:
    """Ended by the host where it watches, which is the default; by the kernel where that was switched off."""
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(200), lambda number: "eat" if number == 90 else "fine"))

    logged = heal_in(container, site, STREAMHEAL_WORKER_MEMORY=limit)

    (envelope,) = site.quarantined()
    assert envelope["reason"] == "crash"
    assert site.effects().keys() == set(range(200)) - {90}
    assert max(site.effects().values()) <= 2
    deaths = [line for line in logged if line["event"] == "worker_died"]
    assert {line["cause"] for line in deaths} == {"memory"}
    said = site.show(envelope["id"])["attempts"][-1]["message"]
    if limit:
        assert said == "killed by the kernel: the container was out of memory"
    else:
        assert "the most when all worker processes together passed 192 MiB" in said
        (told,) = [line for line in logged if line["event"] == "memory_limited"]
        assert (told["worker_mib"], told["workers_together_mib"], told["enforced_by"]) == (None, 192, "host")


def test_a_leak_ends_workers_and_costs_no_record_a_second_run(site_of: Any, kinesis: Any) -> None:
    """With records that fail at first, and wait for their next try while the worker is emptied."""
    site: Site = site_of(shards=2)
    log, brought = site.folder / "log", 0
    host = site.start(*site.run_arguments("shop:LeakyShop", "--workers", "1", "--worker-memory", "128MiB"))
    while not log.exists() or "worker_recycled" not in log.read_text():
        put(
            kinesis,
            site.stream,
            orders(range(brought, brought + 100), lambda number: "flaky" if number % 20 == 7 else "fine"),
        )
        brought += 100
        wait_until(lambda enough=brought - 5: len(site.effects()) >= enough)
    wait_until(lambda: len(site.effects()) == brought)
    host.send_signal(signal.SIGTERM)

    assert host.wait(30) == 0
    assert site.effects() == dict.fromkeys(range(brought), 1)
    assert not site.quarantined()
    assert "worker_died" not in log.read_text()
