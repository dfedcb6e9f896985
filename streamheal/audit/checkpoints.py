"""How far an application has come with each shard: in its state, or in KCL's leases."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from streamheal.audit.reading import Passed
from streamheal.config.aws import AwsOptions
from streamheal.config.settings import Settings
from streamheal.errors import UsageError
from streamheal.state.base import State
from streamheal.state.ledgers import Checkpoint, Checkpoints


def passed(settings: Settings, state: State, kcl: Mapping[str, str] | None) -> dict[str, Passed]:
    """Those of which anything was checkpointed. Blocking.

    Raises:
        UsageError: Nothing was, under this name.
    """
    assert settings.stream is not None
    if settings.engine == "kcl":
        where = "KCL's lease table"
        found = _of_leases(settings, kcl)
    else:
        where = settings.state
        rows = Checkpoints(state, settings.application, settings.stream).read_all()
        found = {id: _of(row) for id, row in rows.items() if row.ended or row.position is not None}
    if not found:
        raise UsageError(
            f"application {settings.application} has checkpointed no shard of stream {settings.stream}: "
            f"looked in {where}. Expected --application, --stream and --state (or --engine kcl) as its run has them"
        )
    return found


def _of(row: Checkpoint) -> Passed:
    began = None if row.began in (None, "TRIM_HORIZON") else datetime.fromisoformat(str(row.began))
    return Passed(None if row.ended else row.position, began)


def _of_leases(settings: Settings, kcl: Mapping[str, str] | None) -> dict[str, Passed]:
    """From where a shard was read first, leases do not tell: that is for `--from`."""
    from streamheal.engines.kcl.tables import Tables

    tables = Tables(settings.application, AwsOptions.of(settings), kcl)
    try:
        found = tables.checkpoints()
    finally:
        tables.close()
    return {id: Passed(None if ended else at) for id, (at, ended) in found.items() if ended or at is not None}
