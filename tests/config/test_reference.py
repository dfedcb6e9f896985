"""The configuration reference is made from the settings, and kept true."""

from pathlib import Path

from streamheal.config.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_says_what_the_settings_are() -> None:
    """If this fails: `python -m streamheal.config.reference > docs/configuration.md`."""
    assert PAGE.read_text(encoding="utf-8") == reference()
