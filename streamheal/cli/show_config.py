"""`streamheal run --show-config`: each value, and where it came from."""

from __future__ import annotations

import json
from typing import Any

from streamheal.config.load import Loaded
from streamheal.config.settings import Setting, every_setting, value_text


def print_config(loaded: Loaded, *, as_json: bool) -> None:
    if as_json:
        for setting in every_setting():
            value = getattr(loaded.settings, setting.name)
            origin = loaded.origins[setting.name]
            row = {"option": setting.key, "value": value, "source": origin.kind, "place": origin.place}
            print(json.dumps(row, default=lambda moment: moment.isoformat()))
        return

    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("option", "value", "from"):
        table.add_column(heading, overflow="fold")
    group = ""
    for setting in every_setting():
        if setting.option.group != group:
            group = setting.option.group
            table.add_section()
        origin = loaded.origins[setting.name]
        style = "dim" if origin.kind == "default" else None
        table.add_row(setting.key, _text(setting, getattr(loaded.settings, setting.name)), origin.place, style=style)
    Console(markup=False, highlight=False).print(table)


def _text(setting: Setting, value: Any) -> str:
    if value is None or value == "":
        return f"({setting.option.default})" if setting.option.default else "–"
    return value_text(setting, value)
