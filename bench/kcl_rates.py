"""Records through the real daemon: how fast, and at which cost, beside bare amazon_kclpy.

The source answers from memory and has no end, so each side is measured between two moments at which
it is warm, by what its processors have done in between.
"""

from __future__ import annotations

import statistics
import time
from typing import NamedTuple

from bench.figures import Figure
from bench.kcl_rig import BUSY, COUNTS, Bare, Ground, Ours, Side, canned, until

_A_BATCH, _SIZE = 10_000, 200
_WORKER = "w1"
# What is usual for 16 shards (384 MiB) just carries 10,000 records a batch; nobody is to be measured
# on the verge of collecting garbage for ever.
_HEAP_BYTES = 640 << 20


class _Measured(NamedTuple):
    records_per_s: float
    rest_us: float  # CPU a record, without the JVM and the source
    jvm_us: float


def _measure(kind: type[Side], ground: Ground, warm: int, seconds: float) -> _Measured:
    ground.seed(lambda number: _WORKER)
    with kind(ground, _WORKER, BUSY, COUNTS) as side:
        until("the first records are done", lambda: side.records_done() >= warm, every_s=0.2, alive=side.process)
        began, first, cpu = time.monotonic(), side.records_done(), side.spent()
        time.sleep(seconds)
        ended, last, then = time.monotonic(), side.records_done(), side.spent()
    done = last - first
    return _Measured(
        done / (ended - began), (then.rest_s - cpu.rest_s) / done * 1e6, (then.jvm_s - cpu.jvm_s) / done * 1e6
    )


def _pairs(shards: int, warm: int, seconds: float, rounds: int) -> list[tuple[_Measured, _Measured]]:
    with canned(shards, _A_BATCH, _SIZE) as url, Ground(shards, url, _HEAP_BYTES) as ground:
        return [(_measure(Ours, ground, warm, seconds), _measure(Bare, ground, warm, seconds)) for _ in range(rounds)]


def _speed(name: str, reach: float, pairs: list[tuple[_Measured, _Measured]]) -> Figure:
    quotients = [ours.records_per_s / bare.records_per_s for ours, bare in pairs]
    ours, bare = (statistics.median(side.records_per_s for side in sides) for sides in zip(*pairs, strict=True))
    detail = f"{ours:,.0f}/s against {bare:,.0f}/s; rounds {min(quotients):.2f} to {max(quotients):.2f}"
    return Figure(name, statistics.median(quotients), reach, True, detail)


def _cpu(pairs: list[tuple[_Measured, _Measured]]) -> Figure:
    quotients = [ours.rest_us / bare.rest_us for ours, bare in pairs]
    ours, bare = (statistics.median(side.rest_us for side in sides) for sides in zip(*pairs, strict=True))
    jvm = [statistics.median(side.jvm_us for side in sides) for sides in zip(*pairs, strict=True)]
    detail = (
        f"{ours:.2f} against {bare:.2f} CPU-s a million records (JVM {jvm[0]:.1f} and {jvm[1]:.1f}); "
        f"rounds {min(quotients):.2f} to {max(quotients):.2f}"
    )
    return Figure("kcl_cpu", statistics.median(quotients), 0.4, False, detail)


def kcl_end_to_end_1(rounds: int) -> list[Figure]:
    return [_speed("kcl_end_to_end_1", 1.0, _pairs(1, 100_000, 6.0, rounds))]


def kcl_end_to_end_16(rounds: int) -> list[Figure]:
    pairs = _pairs(16, 400_000, 8.0, rounds)
    return [_speed("kcl_end_to_end_16", 1.1, pairs), _cpu(pairs)]
