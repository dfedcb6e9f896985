"""Pages that are written by hand, held to what they speak of."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from streamheal.web.metrics import registry
from tests.web.everything import OneOfEverything

ROOT = Path(__file__).parents[2]
LEVELS = ("debug", "info", "warning", "error", "exception")


def test_the_table_of_metrics_names_exactly_those_there_are() -> None:
    page = (ROOT / "docs" / "operating.md").read_text()
    told = set(re.findall(r"^\| `(streamheal_\w+)` \|", page, flags=re.MULTILINE))
    there = {
        family.name if family.type == "histogram" else sample.name
        for family in registry(OneOfEverything()).collect()
        for sample in family.samples
    }
    assert told == there


def test_the_page_tells_of_exactly_the_events_that_are_logged() -> None:
    page = (ROOT / "docs" / "operating.md").read_text()
    logs = page.split("## Logs")[1].split("\n## ")[0]
    table = re.findall(r"^\| (`.*?) \|", logs, flags=re.MULTILINE)
    in_debug = re.findall(r"^With `--log-level debug`.*?\n\n", f"{logs}\n\n", flags=re.MULTILINE | re.DOTALL)
    told = {name for text in [*table, *in_debug] for name in re.findall(r"`(\w+)`", text)}
    assert told == {name for path in (ROOT / "streamheal").rglob("*.py") for name in logged(path.read_text())}


def logged(source: str) -> Iterator[str]:
    """What is said under a name: `log.info("name")`, `telling.failed(log, "name")`, `tell("name")` by either level."""
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        match call.func:
            case ast.Attribute(attr="failed"):
                names = call.args[1:2]
            case ast.Attribute(attr=level) if level in LEVELS:
                names = call.args[:1]
            case ast.Name("tell") | ast.Call():
                names = call.args[:1]
            case _:
                continue
        for name in [part for given in names for part in ast.walk(given)]:
            if isinstance(name, ast.Constant) and re.fullmatch(r"[a-z]+(_[a-z]+)*", str(name.value)):
                yield str(name.value)
