"""Every block of Python in the docs is true: it compiles, and it does what it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def blocks(page: Path) -> list[str]:
    return _BLOCK.findall(page.read_text("utf-8"))


# Where a block needs something outside (an AWS, say), it can only be compiled.
_RUN = {"README.md", "getting-started.md", "processors.md", "testing.md"}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_the_pythons_of_a_page_compile(page: Path) -> None:
    for number, block in enumerate(blocks(page), 1):
        compile(block, f"{page.name}, block {number}", "exec", dont_inherit=True)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name in _RUN], ids=lambda page: page.name)
def test_the_pythons_of_a_page_run_one_after_another(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks build on those before them. What is called test_… is called."""
    module = ModuleType(page.stem)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    space = module.__dict__
    for number, block in enumerate(blocks(page), 1):
        exec(compile(block, f"{page.name}, block {number}", "exec", dont_inherit=True), space)
    for name, found in list(space.items()):
        if name.startswith("test_") and callable(found):
            found()


def test_the_getting_started_processor_is_the_example() -> None:
    (block,) = blocks(ROOT / "docs" / "getting-started.md")
    example = (ROOT / "examples" / "shop" / "orders.py").read_text("utf-8")
    assert example.endswith(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
