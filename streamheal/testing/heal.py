"""`heal`: a processor tried in memory, with the decisions of a real run and none of its waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from streamheal.core.policy import Policy
from streamheal.processor import Ordering
from streamheal.records import Record, Shard
from streamheal.testing.healing import Healing
from streamheal.testing.records import as_records
from streamheal.testing.report import Quarantined, Report
from streamheal.testing.subject import Subject


def heal(
    target: Callable[..., Any] | object,
    records: Iterable[Any],
    *,
    ordering: Ordering = "key",
    attempts_max: int = 3,
    patience_s: float = 60.0,
    retry_s_min: float = 0.5,
    retry_s_max: float = 30.0,
    stream: str = "test",
    goes_on: bool = True,
) -> Report:
    """Run a processor over records in memory, and say what became of each.

        report = heal(Orders, [{"customer": "ann"}, {}])
        assert [one.record.json() for one in report.quarantined] == [{}]

    Everything is decided by the core that decides in production: tries, backoff, order within a
    key, witnesses. Time is made up, so that minutes of backoff cost nothing. It all happens in
    the calling thread, one record at a time: monkeypatches, fakes and debuggers work as usual.
    For the same reason a record that crashes or never returns crashes or holds the test: only
    `streamheal run` has processes to keep such records apart.

    Args:
        target: A processor class, an instance of one, or a function of one record; plain or async.
        records: `Record`s (see `record`), or payloads: bytes and text as they are, anything else
            as JSON. They are one stream, in this order; each shard of them gets a processor.
        ordering, attempts_max, patience_s, retry_s_min, retry_s_max: As on the command line.
            What the processor's class says comes first.
        goes_on: What to do about records that still fail when nobody is left to judge them by.
            True: if any record succeeded, the stream is taken to go on with healthy ones, and they
            are set aside. False: they stay `undecided`, as they would at the end of a real stream.

    Raises:
        TypeError: The target is no processor; what it lacks.
        Exception: What `initialize` or a hook raised; failures of records never come out here.
    """
    given = as_records(records)
    shards: dict[str, list[int]] = {}
    for place, one in enumerate(given):
        shards.setdefault(one.shard_id, []).append(place)
    report = Report()
    fates: dict[int, tuple[list[Any], Any]] = {}
    for shard_id, places in shards.items():
        with Subject(target) as subject:
            policy = Policy(
                attempts_max=subject.attempts_max or attempts_max,
                patience_s=patience_s,
                retry_s_min=retry_s_min,
                retry_s_max=retry_s_max,
                batches=subject.batches,
            )
            mine = [given[place] for place in places]
            healing = Healing(Shard(shard_id, stream), mine, subject, policy, subject.ordering or ordering)
            healing.run(goes_on=goes_on)
        for nth, place in enumerate(places):
            fates[place] = _fate(report, healing, nth, mine[nth])
        if len(mine) > len(healing.done) + len(healing.aside) + len(healing.filtered):
            report.needs_human = healing.why
    for place in range(len(given)):
        where, what = fates[place]
        where.append(what)
    return report


def _fate(report: Report, healing: Healing, nth: int, record: Record) -> tuple[list[Any], Any]:
    if nth in healing.done:
        return report.done, record
    if nth in healing.filtered:
        return report.filtered, record
    if nth in healing.aside:
        return report.quarantined, Quarantined(record, healing.aside[nth], healing.errors.get(nth))
    return report.undecided, record
