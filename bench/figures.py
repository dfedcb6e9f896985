"""The figures: each measures two things side by side, round by round, and gives the ratio.

The machine's speed varies from minute to minute, so an absolute number means little; a ratio
is taken within a round, and the median over the rounds is what is reported.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from bench import hosting
from bench.daemon import records_per_s
from bench.lines import daemon_line

HERE = Path(__file__).parent


class Figure(NamedTuple):
    """What came out. `reach` is what was aimed at; `least` says that more is better."""

    name: str
    value: float
    reach: float | None
    least: bool
    detail: str


def ratio(name: str, reach: float, ours: Callable[[], float], theirs: Callable[[], float], rounds: int) -> Figure:
    """Median over rounds of ours ÷ theirs, measured in turn within each round."""
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    quotients = [mine / other for mine, other in pairs]
    mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    detail = f"{mine:,.0f}/s against {other:,.0f}/s; rounds {min(quotients):.2f} to {max(quotients):.2f}"
    return Figure(name, statistics.median(quotients), reach, True, detail)


# -- against amazon_kclpy, from the daemon's pipe -----------------------------------------


def _pipe(target: str, records_a_line: int, size: int, total: int) -> tuple[Callable[[], float], Callable[[], float]]:
    lines = [daemon_line(records_a_line, size, first=number * records_a_line) for number in range(10)]
    repeats = max(10, total // records_a_line)
    ours = [sys.executable, "-m", "bench.pipe_host", target]
    theirs = [sys.executable, str(HERE / "kclpy_child.py")]
    return (
        lambda: records_per_s(ours, lines, repeats, records_a_line, names_checkpoint=True),
        lambda: records_per_s(theirs, lines, max(10, repeats // 4), records_a_line, names_checkpoint=False),
    )


def pipe_vs_kclpy(rounds: int) -> list[Figure]:
    return [
        ratio("pipe_vs_kclpy_200B", 5.0, *_pipe("bench.processors:Touch", 1000, 200, 2_000_000), rounds),
        ratio("pipe_vs_kclpy_1KB", 4.0, *_pipe("bench.processors:Touch", 1000, 1000, 600_000), rounds),
    ]


def pipe_lanes_vs_kclpy(rounds: int) -> list[Figure]:
    return [
        ratio("pipe_lanes_vs_kclpy_async", 3.5, *_pipe("bench.processors:TouchAsync", 1000, 200, 1_000_000), rounds),
        ratio("pipe_lanes_vs_kclpy_threads", 2.0, *_pipe("bench.processors:TouchThreads", 1000, 200, 600_000), rounds),
    ]


def small_lines_vs_kclpy(rounds: int) -> list[Figure]:
    return [ratio("small_lines_vs_kclpy", 1.0, *_pipe("bench.processors:Touch", 10, 200, 100_000), rounds)]


# -- what trouble costs ----------------------------------------------------------------------


def payload_lines(total: int, a_line: int, sick: Callable[[int], bytes | None], keys: int) -> Iterator[bytes]:
    """Lines whose payloads say themselves whether they are sick. They are made before anything is timed."""
    import base64
    import json

    lines = []
    for first in range(0, total, a_line):
        records = [
            {
                "data": base64.b64encode((sick(number) or b"fine") + b" %d" % number).decode(),
                "partitionKey": f"customer-{number % keys}",
                "sequenceNumber": str(49 * 10**54 + number),
                "approximateArrivalTimestamp": 1795424770703,
                "subSequenceNumber": 0,
            }
            for number in range(first, min(first + a_line, total))
        ]
        lines.append(json.dumps({"action": "processRecords", "records": records}).encode() + b"\n")
    return iter(lines)


def _rate(
    target: str,
    total: int,
    sick: Callable[[int], bytes | None],
    *,
    a_line: int = 500,
    keys: int = 1000,
    beside: int = 0,
    **options: object,
) -> float:
    """Healthy records a second; where none is healthy, records set aside a second.

    Args:
        beside: Healthy records that may still be open at the end, because they ran beside sick ones.
    """
    healthy = sum(sick(number) is None for number in range(total))
    enough = None if "AllPoison" in target else healthy - beside
    with tempfile.TemporaryDirectory() as folder:
        lines = {"shard-0": payload_lines(total, a_line, sick, keys)}
        policy = {"shutdown_s": 1.0}
        outcome = hosting.run(target, lines, Path(folder), policy=policy, enough=enough, **options)
    counted = outcome.quarantined if enough is None else outcome.done
    assert counted == (enough or total) if not beside else counted >= healthy - beside, outcome
    return counted / outcome.took_s


def poison_cost(rounds: int) -> list[Figure]:
    total = 5_000
    target = "bench.processors:Wait2ms"
    return [
        ratio(
            "poison_cost",
            0.95,
            lambda: _rate(target, total, lambda number: b"P" if number % 100 == 50 else None),
            lambda: _rate(target, total, lambda number: None),
            rounds,
        )
    ]


def crash_throughput(rounds: int) -> list[Figure]:
    """Every record is of a key of its own. Those that ran beside a crash are not waited for: they run alone, later."""
    total, every, at_once = 20_000, 1000, 32
    target = "bench.processors:Exiting2ms"

    def rate(sick: Callable[[int], bytes | None]) -> float:
        suspects = at_once * sum(sick(number) is not None for number in range(total))
        return _rate(target, total, sick, keys=total, beside=suspects)

    return [
        ratio(
            "crash_throughput",
            0.9,
            lambda: rate(lambda number: b"C" if number % every == every // 2 else None),
            lambda: rate(lambda number: None),
            rounds,
        )
    ]


def key_concurrency(rounds: int) -> list[Figure]:
    def sequential() -> float:
        return _rate("bench.processors:Wait5ms", 400, lambda number: None)

    return [
        ratio(
            f"key_concurrency_{kind.lower()}",
            90,
            lambda kind=kind: _rate(f"bench.processors:Wait5ms{kind}", 20_000, lambda number: None, a_line=1000),
            sequential,
            rounds,
        )  # type: ignore[misc]
        for kind in ("Async", "Threads")
    ]


# -- how long the others wait ------------------------------------------------------------------


def _gaps(letter: bytes, times: int, deadline_s: float) -> list[float]:
    """Around each death, the longest time in which nothing else was done."""
    every, total = 400, 400 * times
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BENCH_EFFECTS"] = str(Path(folder) / "effects")
        lines = {"shard-0": payload_lines(total, 100, lambda number: letter if number % every == 200 else None, 1000)}
        policy = {"shutdown_s": 1.0}
        hosting.run(
            "bench.processors:Crashing", lines, Path(folder), policy=policy, enough=total - times, deadline_s=deadline_s
        )
        events = [line.split() for line in Path(os.environ["BENCH_EFFECTS"]).read_text().splitlines()]
    done = [float(at) for at, kind in events if kind == "done"]
    # A crash in a cell delays nobody: its worker is another's. Only gaps of the lane count.
    gaps = sorted((later - sooner for sooner, later in pairwise(done)), reverse=True)
    return gaps[:times]


def crash_gap_s(rounds: int) -> list[Figure]:
    gaps = sorted(_gaps(b"C", max(50, 10 * rounds), 30.0))
    return [_gap("crash_gap_s", gaps, 0.1, 0.0)]


def hang_gap_s(rounds: int) -> list[Figure]:
    deadline_s = 0.5
    gaps = sorted(_gaps(b"H", 50, deadline_s))
    return [_gap("hang_gap_s", gaps, 0.3, deadline_s)]


def _gap(name: str, gaps: list[float], reach: float, beyond_s: float) -> Figure:
    worst = gaps[min(len(gaps) - 1, int(len(gaps) * 0.99))] - beyond_s
    return Figure(name, worst, reach, False, f"p99 of {len(gaps)}; median {statistics.median(gaps) - beyond_s:.3f} s")


def lane_suspects(rounds: int) -> list[Figure]:
    """In cautious mode, with a hundred coroutines open when one of them crashes their process."""
    times, every = 50, 400
    deaths: list[tuple[int, int]] = []  # running, suspect
    cleared = 0

    def heard(event: str, fields: dict[str, object]) -> None:
        nonlocal cleared
        if event == "worker_died" and fields["cause"] != "cell":
            deaths.append((int(str(fields["running"])), int(str(fields["suspects"]))))
        cleared += event == "record_cleared"  # suspected, and run alone, for nothing

    with tempfile.TemporaryDirectory() as folder:
        total = times * every
        # Keys of which no two of those that crash have one: none waits behind another.
        lines = {"shard-0": payload_lines(total, 100, lambda number: b"C" if number % every == 200 else None, 997)}
        hosting.run(
            "bench.processors:CrashingAsync",
            lines,
            Path(folder),
            policy={"shutdown_s": 1.0},
            enough=total - times,
            starts=2,
            listen=heard,
        )
    worst = max(suspect for _, suspect in deaths)
    ran = statistics.median(running for running, _ in deaths)
    detail = f"worst of {len(deaths)} deaths around {ran:.0f} records; {cleared} innocents run alone"
    return [Figure("lane_suspects", worst, 1, False, detail)]


# -- what is all poison -------------------------------------------------------------------------


def flood(rounds: int) -> list[Figure]:
    total = 20_000
    rates = [
        _rate("bench.processors:AllPoison", total, lambda number: None, a_line=1000) for _ in range(max(1, rounds // 2))
    ]
    return [
        Figure(
            "flood_folder",
            statistics.median(rates),
            5000,
            True,
            f"records/s, {total:,} envelopes, best {max(rates):,.0f}",
        )
    ]


# -- the core alone -------------------------------------------------------------------------------


def core_growth(rounds: int) -> list[Figure]:
    from streamheal.core.healer import Healer
    from streamheal.core.host import Host
    from streamheal.core.messages import Checkpoint, Checkpointed, SpanArrived, SpanDone
    from streamheal.core.policy import Policy
    from streamheal.records import Position

    def per_record_s(records: int) -> float:
        policy = Policy()
        healer = Healer("shard-0", policy, Host(policy))
        healer.begin()
        spans = 20_000
        began = time.perf_counter()
        for span in range(1, spans + 1):
            now = span * 0.001
            said = healer.handle(SpanArrived(span, records * 200), now)
            said += healer.handle(SpanDone(span, records, Position(span * records)), now)
            for decision in said:
                if isinstance(decision, Checkpoint):
                    healer.handle(Checkpointed(decision.position), now)
        return (time.perf_counter() - began) / spans / records

    pairs = [(per_record_s(10_000), per_record_s(10)) for _ in range(rounds)]
    large, small = (statistics.median(side) for side in zip(*pairs, strict=True))
    value = statistics.median(one / other for one, other in pairs)
    return [Figure("core_growth", value, 0.02, False, f"{large * 1e9:.2f} ns a record against {small * 1e9:.0f} ns")]
