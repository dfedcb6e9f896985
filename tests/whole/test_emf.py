"""`streamheal run --emf`: standard output is for CloudWatch, and for nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import Any

from tests.web.emf_rules import check_emf
from tests.whole.running import Site, orders, put


def test_every_line_on_stdout_is_one_for_cloudwatch_and_they_add_up(site_of: Any, kinesis: Any) -> None:
    """Two records are set aside, and what they print on the way stays in the log."""
    site: Site = site_of(shards=2)
    put(kinesis, site.stream, orders(range(200), lambda number: {50: "raise", 150: "crash"}.get(number, "fine")))

    done = site.heal("shop:Shop", "--emf")

    assert done.returncode == 0, done.stderr
    lines = [check_emf(line) for line in done.stdout.splitlines()]
    assert {(line["application"], line["stream"]) for line in lines} == {("shop", site.stream)}
    sums: Counter[tuple[str, str]] = Counter()
    for line in lines:
        for name in ("records_done", "records_quarantined"):
            sums[name, "shard" if "shard" in line else "all"] += line[name]
    assert sums == {
        ("records_done", "all"): 198,
        ("records_done", "shard"): 198,
        ("records_quarantined", "all"): 2,
        ("records_quarantined", "shard"): 2,
    }
    assert lines[-1]["shards_held"] == 0
    assert "pricing order 50" in done.stderr


def test_a_run_whose_stdout_nobody_takes_goes_on_and_says_so_once(site_of: Any, kinesis: Any) -> None:
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(20)))
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "streamheal", *site.run_arguments("shop:Shop", "--until-caught-up", "--emf")]
    done = subprocess.run(
        command, cwd=site.folder, env=site.env, stdout=writing, stderr=subprocess.PIPE, timeout=90, check=False
    )
    os.close(writing)

    assert done.returncode == 0, done.stderr
    assert site.effects() == dict.fromkeys(range(20), 1)
    said = [json.loads(line) for line in done.stderr.splitlines() if b"metrics_not_written" in line]
    assert [(one["level"], one["error"]) for one in said] == [("warning", "Broken pipe")]


def test_without_emf_stdout_is_empty(site_of: Any, kinesis: Any) -> None:
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(5)))
    assert site.heal("shop:Shop").stdout == ""
