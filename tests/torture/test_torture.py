"""A few kill rounds in the suite; `make torture` runs any number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.torture.__main__ import Torture

# Two lives each, and between them every way to process and every place to keep things in.
SEEDS = [5, 8, 9, 12]


def test_whatever_is_killed_nothing_is_lost_and_nobody_innocent_is_blamed(
    aws: Any, tmp_path: Path, capsys: Any
) -> None:
    """Hosts, workers and cells die, stores and states answer late or wrong; a failing round tells its script."""
    torture = Torture(tmp_path, keep=False)
    torture.run(aws, SEEDS, jobs=3)
    assert not torture.summary.found, capsys.readouterr().err
    assert torture.summary.rounds == len(SEEDS)
    assert torture.summary.kills >= len(SEEDS)
