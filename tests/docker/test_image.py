"""The image's Dockerfile: what a linter finds, and what nobody may take out of it by accident.

Whether the image works is `docker/smoke`'s to find out: it builds it and runs it.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
EXAMPLE = ROOT / "examples" / "shop" / "Dockerfile"
SCRIPTS = [ROOT / "docker" / name for name in ("base", "build", "smoke")]


def instructions(path: Path = DOCKERFILE) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DockerfileParser(fileobj=io.BytesIO(path.read_bytes())).structure
    return [one for one in found if one["instruction"] != "COMMENT"]


def last_stage() -> dict[str, list[str]]:
    """What is said in the last stage, by instruction."""
    found: dict[str, list[str]] = {}
    for one in instructions():
        if one["instruction"] == "FROM":
            found = {}
        found.setdefault(one["instruction"], []).append(one["value"])
    return found


@pytest.mark.parametrize("path", [DOCKERFILE, EXAMPLE], ids=lambda path: path.parent.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [hadolint, "--no-color", "--config", ROOT / "docker" / "hadolint.yaml", path],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_every_stage_stands_on_the_base_that_may_be_chosen() -> None:
    first = instructions()[0]
    assert (first["instruction"], first["value"]) == ("ARG", "BASE=python:3.13-slim-bookworm")
    assert {one["value"].split(" AS ")[0] for one in instructions() if one["instruction"] == "FROM"} == {"${BASE}"}


def test_its_kcl_is_the_one_that_the_extra_has() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (default,) = (one["value"] for one in instructions() if one["value"].startswith("KCL="))
    assert default.removeprefix("KCL=") in extras["kcl"]
    assert (ROOT / "requirements" / "kcl-ext.txt").read_text().splitlines()[-1] in DOCKERFILE.read_text()


def test_it_does_not_run_as_root_and_is_stopped_by_a_signal_that_streamheal_gets() -> None:
    last = last_stage()
    assert last["USER"] == ["10001:10001"]
    assert last["STOPSIGNAL"] == ["SIGTERM"]
    # As a list: a shell in between would keep the signal to itself.
    assert json.loads(last["ENTRYPOINT"][-1]) == ["tini", "--", "streamheal"]


def test_its_health_is_asked_without_a_shell_or_curl() -> None:
    (check,) = last_stage()["HEALTHCHECK"]
    assert json.loads(check.partition("CMD ")[2]) == ["streamheal-healthy", "/readyz"]
    assert "streamheal-healthy" in DOCKERFILE.read_text().split("FROM ${BASE} AS builder")[1]


def test_what_builds_stays_in_the_stages_before_the_last() -> None:
    installed = " ".join(last_stage()["RUN"])
    assert not re.search(r"\b(pip|jdk|gcc|build-essential|curl|git)\b", installed)
    assert "--without-pip" in DOCKERFILE.read_text()


def test_whatever_apt_fetched_is_gone_in_the_same_layer() -> None:
    for one in instructions():
        if one["instruction"] == "RUN" and "apt-get install" in one["value"]:
            assert "--no-install-recommends" in one["value"]
            assert "rm -rf /var/lib/apt/lists/*" in one["value"]


def test_the_read_only_file_system_is_provided_for() -> None:
    variables = " ".join(last_stage()["ENV"])
    assert "PYTHONDONTWRITEBYTECODE=1" in variables
    assert "compileall" in " ".join(last_stage()["RUN"])


def test_the_image_listens_for_those_outside_and_reads_with_kcl() -> None:
    variables = " ".join(last_stage()["ENV"]).split()
    assert "STREAMHEAL_HTTP=0.0.0.0:9464" in variables
    assert "STREAMHEAL_ENGINE=kcl" in variables


def test_only_what_the_image_is_made_of_is_given_to_its_build() -> None:
    ignored = (ROOT / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    given = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    words = [one["value"].split() for one in instructions() if one["instruction"] == "COPY"]
    copied = {word.rstrip("/") for sources in words if not sources[0].startswith("--from") for word in sources[:-1]}
    assert given == copied
    assert "*" in ignored


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_the_scripts_are_bash_that_parses_and_may_be_run(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, done.stderr
    assert "set -euo pipefail" in script.read_text()
