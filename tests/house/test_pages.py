"""Pages that are written by hand, held to what they speak of."""

from __future__ import annotations

import re
from pathlib import Path

from streamheal.web.metrics import registry
from tests.web.everything import OneOfEverything

ROOT = Path(__file__).parents[2]


def test_the_table_of_metrics_names_exactly_those_there_are() -> None:
    page = (ROOT / "docs" / "operating.md").read_text()
    told = set(re.findall(r"^\| `(streamheal_\w+)` \|", page, flags=re.MULTILINE))
    there = {
        family.name if family.type == "histogram" else sample.name
        for family in registry(OneOfEverything()).collect()
        for sample in family.samples
    }
    assert told == there


def test_the_table_of_events_names_only_what_is_logged() -> None:
    page = (ROOT / "docs" / "operating.md").read_text()
    logs = page.split("## Logs")[1].split("\n## ")[0]
    told = {
        name for row in re.findall(r"^\| (`.*?) \|", logs, flags=re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    code = "\n".join(path.read_text() for path in (ROOT / "streamheal").rglob("*.py"))
    assert {name for name in told if f'"{name}"' not in code} == set()
    assert len(told) > 10
