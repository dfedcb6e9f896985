"""`python -m bench [NAME …] [--rounds N]`: measure, print the table, write bench/results.json."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import blame, figures, kcl_rates, kcl_recovery, kcl_stubs, memory, poll, worlds
from bench.figures import Figure

RESULTS = Path(__file__).parent / "results.json"

FIGURES: dict[str, Callable[[int], list[Figure]]] = {
    "pipe_vs_kclpy": figures.pipe_vs_kclpy,
    "pipe_lanes_vs_kclpy": figures.pipe_lanes_vs_kclpy,
    "small_lines_vs_kclpy": figures.small_lines_vs_kclpy,
    "poll_vs_boto3": poll.poll_vs_boto3,
    "poison_cost": figures.poison_cost,
    "crash_throughput": figures.crash_throughput,
    "key_concurrency": figures.key_concurrency,
    "crash_gap_s": figures.crash_gap_s,
    "hang_gap_s": figures.hang_gap_s,
    "lane_suspects": figures.lane_suspects,
    "flood": figures.flood,
    "flood_s3": poll.flood_s3,
    "kcl_memory": memory.kcl_memory,
    "kcl_end_to_end_1": kcl_rates.kcl_end_to_end_1,
    "kcl_end_to_end_16": kcl_rates.kcl_end_to_end_16,
    "daemon_killed_s": kcl_recovery.daemon_killed_s,
    "stop_after_reshard_s": kcl_recovery.stop_after_reshard_s,
    "handover_s": kcl_recovery.handover_s,
    "shards_cost": kcl_stubs.shards_cost,
    "kcl_stub": kcl_stubs.kcl_stub,
    "core_growth": figures.core_growth,
    "blame_deaths": blame.blame,
    "worlds": worlds.worlds,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *FIGURES], help="which figures; default all")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    console = Console()
    found: list[Figure] = []
    for name in asked.names or FIGURES:
        with console.status(f"measuring {name}"):
            found += FIGURES[name](asked.rounds)
        console.print(f"{found[-1].name}: {found[-1].value:.3g}  ({found[-1].detail})", highlight=False)
    console.print(_table(found))
    # Each is a ratio within its own run, so that some may be measured anew and the others stay.
    results = json.loads(RESULTS.read_text()) if asked.names else {}
    results.update({one.name: round(one.value, 4) for one in found})
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


def _table(found: list[Figure]) -> Table:
    table = Table(title=f"Python {platform.python_version()}, {platform.machine()}, ratios within one run")
    for column in ("figure", "value", "aim", "", "how"):
        table.add_column(column, justify="right" if column in ("value", "aim") else "left")
    for one in found:
        met = one.reach is None or (one.value >= one.reach if one.least else one.value <= one.reach)
        aim = "" if one.reach is None else f"{'≥' if one.least else '≤'} {one.reach:,g}"
        table.add_row(
            one.name,
            f"{one.value:,.3g}" if one.value < 1000 else f"{one.value:,.0f}",
            aim,
            "" if met else "missed",
            one.detail,
        )
    return table


if __name__ == "__main__":
    main()
