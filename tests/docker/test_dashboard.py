"""What dashboards and alerts ask for is what /metrics has, and the other way round."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from streamheal.web.metrics import registry
from tests.web.everything import OneOfEverything

FOLDER = Path(__file__).parents[2] / "docker"
DASHBOARD = json.loads((FOLDER / "grafana" / "dashboards" / "streamheal.json").read_text())
ALERTS = yaml.safe_load((FOLDER / "prometheus" / "alerts.yml").read_text())
_NAME = re.compile(r"\bstreamheal_\w+")
_BY = re.compile(r"\bby \(([^)]*)\)")


def labels_by_metric() -> dict[str, set[str]]:
    return {
        # Prometheus adds the last two itself.
        sample.name: {*sample.labels, "instance", "job"}
        for family in registry(OneOfEverything()).collect()
        for sample in family.samples
    }


def questions() -> Iterator[str]:
    """Every expression of the dashboard and of the alerts."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        yield variable["query"]["query"]
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def test_every_metric_that_is_asked_for_is_there() -> None:
    asked = {name for text in questions() for name in _NAME.findall(text)}
    assert asked - labels_by_metric().keys() == set()
    assert len(asked) > 10


def test_every_label_that_is_grouped_by_is_one_of_that_metric() -> None:
    known = labels_by_metric()
    for text in questions():
        for group in _BY.findall(text):
            for name in _NAME.findall(text):
                assert {label.strip() for label in group.split(",")} <= known[name], text


def test_every_metric_of_a_shard_is_on_the_dashboard() -> None:
    """What is not shown is not looked at; what has no shard is left to whoever wants it."""
    shown = {name for text in questions() for name in _NAME.findall(text)}
    of_shards = {name for name, labels in labels_by_metric().items() if "shard" in labels}
    assert of_shards - shown == set()


def test_the_dashboard_answers_the_three_questions_in_their_order() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Is anything stuck?", "What is sick?", "Lag and rates by shard"]


def test_no_two_panels_lie_over_each_other_and_each_says_what_it_shows() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"], panel["title"]
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))


def test_grafana_finds_the_dashboard_and_prometheus_where_it_is_told_to_look() -> None:
    provisioning = FOLDER / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    used: set[Any] = {
        target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())
    }
    assert used == {source["uid"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "streamheal.yml").read_text())["providers"]
    composition = yaml.safe_load((FOLDER / "compose.yml").read_text())["services"]["grafana"]
    assert any(f":{provider['options']['path']}:ro" in volume for volume in composition["volumes"])
    assert composition["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].startswith(
        provider["options"]["path"]
    )


def test_prometheus_asks_every_container_of_the_service() -> None:
    (job,) = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert (found["names"], found["port"]) == (["orders"], 9464)


def test_the_alerts_of_the_operating_page_are_these() -> None:
    page = (FOLDER.parent / "docs" / "operating.md").read_text()
    told = dict(re.findall(r"- alert: (\w+).*?\n\s+expr: ([^\n]+)", page))
    there = {rule["alert"]: rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]}
    assert told.items() <= there.items()
    assert told
