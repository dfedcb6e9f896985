"""A screen as a picture, for a README: what a terminal would have shown, as SVG."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI


def save_picture(draw: Callable[[Console], None], path: Path, *, title: str = "streamheal", width: int = 110) -> None:
    """Let `draw` print to a console of this width, and keep what it printed as SVG.

    save_picture(lambda console: print_list(store.scan(Selection()), console), Path("docs/demo.svg"))
    """
    console = Console(
        record=True,
        width=width,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
        legacy_windows=False,
    )
    draw(console)
    # A fixed id: the same screen makes the same file, whenever it is drawn.
    path.write_text(console.export_svg(title=title, theme=MONOKAI, unique_id="streamheal"), encoding="utf-8")
