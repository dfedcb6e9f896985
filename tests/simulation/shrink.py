"""The smallest world that still fails in the same way, and its story."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tests.simulation.generate import Spec
from tests.simulation.world import World


def failure(spec: Spec) -> str:
    """How the world fails; empty: it does not."""
    return failure_of(spec, Counter())


def failure_of(spec: Spec, seen: Counter[str]) -> str:
    """The same; what was seen in the world, if it does not fail, is added."""
    try:
        seen.update(World(spec).run().oracle.seen)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def kind(text: str) -> str:
    """Equal for failures of one kind: without numbers, names of records, and what is left of a list."""
    return re.sub(r"record \d+ \(\w+, \w+\)|[\d.]+|\[.*", "", text)[:60]


def shrink(spec: Spec) -> Spec:
    """Drop one part after the other, as long as it still fails in the same way."""
    wanted = kind(failure(spec))
    while (smaller := _smaller(spec, wanted)) is not None:
        spec = smaller
    return spec


def _smaller(spec: Spec, wanted: str) -> Spec | None:
    for candidate in _candidates(spec):
        for seed in (spec.seed, spec.seed + 1, spec.seed + 2):
            tried = replace(candidate, seed=seed)
            if kind(failure(tried)) == wanted:
                return tried
    return None


def _candidates(spec: Spec) -> Iterator[Spec]:
    if spec.fails or spec.unready:
        yield replace(spec, fails=0.0, unready=0.0)
    if spec.store_down[1]:
        yield replace(spec, store_down=(0.0, 0.0))
    if spec.coroutines or spec.states:
        yield replace(spec, coroutines=False, states=False)
    if spec.restless:
        yield replace(spec, restless=False)
    if spec.children or spec.ends != "stop":
        yield replace(spec, children=False, ends="stop")
    for nth in range(len(spec.faults)):
        yield replace(spec, faults=spec.faults[:nth] + spec.faults[nth + 1 :])
    for nth in range(len(spec.outages)):
        yield replace(spec, outages=spec.outages[:nth] + spec.outages[nth + 1 :])
    for shard, records in enumerate(spec.shards):
        before, after = spec.shards[:shard], spec.shards[shard + 1 :]
        if len(spec.shards) > 1 and not any(down.shard for down in spec.outages):
            yield replace(spec, shards=before + after)
        for nth, rec in enumerate(records):
            if len(records) > 1:
                yield replace(spec, shards=(*before, records[:nth] + records[nth + 1 :], *after))
            if rec.kind != "fine":
                fine = replace(rec, kind="fine")
                yield replace(spec, shards=(*before, (*records[:nth], fine, *records[nth + 1 :]), *after))


def story(spec: Spec, lines: int = 60) -> str:
    """What the world is, and the end of what happened in it."""
    transcript: list[str] = []
    try:
        world = World(spec, transcript)
        world.run()
    except Exception as error:
        transcript.append(f"{type(error).__name__}: {error}")
    parts = [
        f"seed {spec.seed}, ordering {spec.ordering}, concurrency {spec.concurrency}, batches of {spec.batch_max}",
        f"{spec.policy}",
        f"shared {spec.shared}, trickle {spec.trickle_s} s, pace {spec.pace_s} s, store down {spec.store_down}",
        f"children {spec.children}, coroutines {spec.coroutines}, fails {spec.fails}, unready {spec.unready}",
        f"restless {spec.restless}, states {spec.states}, ends {spec.ends}",
        *(f"{down}" for down in spec.outages),
        *(f"{fault}" for fault in spec.faults),
    ]
    for records in spec.shards:
        parts.append("  ".join(f"{nth}/{rec.key}/{rec.kind}{rec.times or ''}" for nth, rec in enumerate(records, 1)))
    # A line repeats Named(...) often; the bare numbers are what one reads.
    short = [re.sub(r"Position\(sequence=(\d+), sub_sequence=0\)", r"\1", line) for line in transcript[-lines:]]
    short = [re.sub(r"At\(span=(\d+), nth=(\d+)\)", r"\1.\2", line) for line in short]
    return "\n".join(parts + short)
