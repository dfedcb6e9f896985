"""The page docs/getting-started.md, typed as it says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SHOP = Path(__file__).parents[2] / "examples" / "shop"


@pytest.mark.usefixtures("aws")
def test_from_put_to_replay(tmp_path: Path) -> None:
    """Four of 200 orders are set aside; mending the code heals two, and two are given up."""
    shutil.copytree(SHOP, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))

    def call(*command: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            check=False,
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "100"},
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    def streamheal(*arguments: str, code: int = 0) -> str:
        return call("-m", "streamheal", *arguments, code=code)

    def listed(*arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in streamheal("quarantine", "list", "--json", *arguments).splitlines()]

    call("put.py", "2000")
    quickly = ("--until-caught-up", "--patience-s", "2", "--retry-s-min", "0.1", "--http", "off")
    streamheal("run", "orders:Orders", "--stream", "orders", *quickly)
    found = listed()
    assert sorted(one["reason"] for one in found) == ["decode", "exception", "exception", "rejected"]

    text = streamheal("quarantine", "list")
    assert text.startswith("4 records in quarantine, 3 causes\n")
    assert "ZeroDivisionError: integer division or modulo by" in text
    (divided, _) = [one for one in found if one["reason"] == "exception"]
    card = streamheal("quarantine", "show", divided["id"][:8])
    assert '▶   20          print(f"{order.customer}: {order.cents // order.people} cents each")' in card
    assert "2 records alike" in card
    assert '"people": 0' in card

    processor = tmp_path / "orders.py"
    processor.write_text(
        processor.read_text().replace("order.cents // order.people", "order.cents // max(1, order.people)")
    )
    streamheal("replay", "--all", "--retry-s-min", "0.1", code=3)
    left = listed()
    assert sorted(one["reason"] for one in left) == ["decode", "rejected"]

    streamheal("quarantine", "discard", *(one["id"] for one in left), "--why", "not ours")
    assert streamheal("quarantine", "list") == "Nothing in quarantine.\n"
    assert sorted(one["status"] for one in listed("--status", "all")) == ["discarded", "discarded", "healed", "healed"]
