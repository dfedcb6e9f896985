"""docker/compose.yml: is it what Compose understands, and does it hold what docs/fargate.md says of it?

Read by compose-spec, which refuses what the Compose specification does not know.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from compose_spec import PyCompose

from streamheal.testing import heal
from tests.conftest import Aws

FOLDER = Path(__file__).parents[2] / "docker"


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    # Merge keys are YAML's business, and done before Compose looks.
    merged = yaml.safe_load((FOLDER / "compose.yml").read_text())
    found: dict[str, Any] = PyCompose.from_json(json.dumps(merged)).to_dict()
    return found["services"]  # type: ignore[no-any-return]  # read from YAML


def test_every_image_is_ours_or_of_one_version(services: dict[str, Any]) -> None:
    images = {one["image"] for one in services.values()}
    assert "streamheal" in images
    for image in images - {"streamheal"}:
        assert re.search(r":v?\d+\.\d+\.\d+$", image), image


def test_up_alone_brings_everything_and_profiles_bring_more_load(services: dict[str, Any]) -> None:
    profiles = {name: one.get("profiles", []) for name, one in services.items()}
    always = {name for name, wanted in profiles.items() if not wanted}
    assert always == {"localstack", "prepare", "orders", "producer", "prometheus", "grafana"}
    assert sorted(itertools.chain.from_iterable(profiles.values())) == ["flood", "load"]
    assert services["orders"]["deploy"]["replicas"] == 2


def test_nobody_starts_before_what_it_needs(services: dict[str, Any]) -> None:
    waits = {
        (name, other): how["condition"]
        for name, one in services.items()
        for other, how in one.get("depends_on", {}).items()
    }
    assert waits["prepare", "localstack"] == "service_healthy"
    assert waits["grafana", "prometheus"] == "service_healthy"
    readers = {name for name, other in waits if other == "prepare"}
    assert readers == {"orders", "producer", "producer-load", "producer-flood"}
    assert {waits[name, "prepare"] for name in readers} == {"service_completed_successfully"}
    for name in ("localstack", "prometheus", "grafana"):
        assert services[name]["healthcheck"]["test"][0] == "CMD", name


def test_our_containers_write_to_tmp_alone(services: dict[str, Any]) -> None:
    for name, one in services.items():
        if one["image"] == "streamheal":
            assert one["read_only"] is True, name
            assert one["cap_drop"] == ["ALL"], name
            assert one["tmpfs"] in ("/tmp", ["/tmp"]), name


def test_our_image_is_built_from_here_and_asked_of_no_registry(services: dict[str, Any]) -> None:
    """Compose pulls before it builds: who only uses the image would be refused before there is one."""
    policies = {name: one["pull_policy"] for name, one in services.items() if one["image"] == "streamheal"}
    assert policies.pop("prepare") == "build"
    assert set(policies.values()) == {"never"}
    assert services["prepare"]["build"] == {"context": "..", "dockerfile": "docker/Dockerfile"}


def test_nothing_is_open_to_other_machines(services: dict[str, Any]) -> None:
    ports = [port for one in services.values() for port in one.get("ports", ())]
    assert len(ports) == 3
    for port in ports:
        assert "127.0.0.1" in json.dumps(port)


def test_everything_that_is_mounted_is_there() -> None:
    text = (FOLDER / "compose.yml").read_text()
    mounted = re.findall(r"[\" ](\.{1,2}/[^:]+):/", text)
    assert len(mounted) == 5
    for path in mounted:
        assert (FOLDER / path).exists(), path


def test_the_producer_puts_what_the_processor_can_and_cannot_handle(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two hundred orders, every tenth of them sick: each kind of it is set aside for its own reason."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import load
    import orders

    monkeypatch.setattr(load, "STREAM", "composed-orders")
    monkeypatch.setattr(load, "BUCKET", "composed-quarantine")
    for command in (["prepare"], ["prepare"], ["produce", "--rate", "5000", "--sick-every", "10", "--orders", "200"]):
        monkeypatch.setattr(sys, "argv", ["load.py", *command])
        load.main()
    assert "200 orders put" in capsys.readouterr().out
    assert boto3.client("s3").head_bucket(Bucket="composed-quarantine")

    entries = list(itertools.islice(load.orders(10), 200))
    report = heal(orders.Orders, [entry["Data"] for entry in entries])
    assert len(report.done) == 180
    assert {one.reason for one in report.quarantined} == {"rejected", "exception", "decode"}
