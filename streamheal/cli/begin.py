"""What most commands do first: put their settings together and set logging up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamheal.config.load import Loaded, load


def begin(command: str, flags: Mapping[str, Any]) -> Loaded:
    """The settings of this command, with logging as they say.

    Raises:
        UsageError: What is wrong, where, and what would be right.
    """
    loaded = load(flags, command=command)
    import structlog

    from streamheal.cli import logs

    logs.configure(loaded.settings.log_level)
    log = structlog.get_logger("streamheal")
    for warning in loaded.warnings:
        log.warning("setting_unknown", detail=warning)
    return loaded
