"""Rules of the house that a machine can check."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LOCKED = (ROOT / "requirements" / "dev.txt").read_text().splitlines()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_imports_point_one_way() -> None:
    """The contracts are in pyproject.toml: the layers, and what the core may not touch."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_dependency_is_locked_at_a_version_that_is_allowed() -> None:
    locked = {}
    for line in LOCKED:
        requirement = Requirement(line)
        (version,) = requirement.specifier
        assert version.operator == "==", line
        locked[_name(requirement)] = version.version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    (kcl,) = extras["kcl"]
    assert kcl in (ROOT / "requirements" / "kcl.txt").read_text()
    for text in [*project["dependencies"], *extras["local"], *extras["dev"]]:
        wanted = Requirement(text)
        if _name(wanted) != "streamheal":
            assert wanted.specifier.contains(locked[_name(wanted)]), f"{text}, but locked at {locked[_name(wanted)]}"


def _name(requirement: Requirement) -> str:
    return re.sub(r"[-_.]+", "-", requirement.name).lower()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_our_pages_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, heading = target.partition("#")
        if ":" in path:
            continue
        linked = page if not path else (page.parent / path)
        assert linked.exists(), f"{page.name} links to {target}"
        if heading and linked.suffix == ".md":
            assert heading in _headings(linked), f"{page.name} links to {target}"


def _headings(page: Path) -> set[str]:
    found = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in found}
