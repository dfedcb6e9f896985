"""What is told of a shard while it is stuck, while it is idle, and once it is not ours any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import structlog
from prometheus_client.core import Metric

from streamheal.core.messages import Cause
from streamheal.core.policy import Policy
from streamheal.engines.base import Batch
from streamheal.records import Dialect, Record, Shard
from streamheal.runtime.chronicle import Chronicle
from streamheal.runtime.figures import ShardFigures
from streamheal.runtime.keeper import Keeper
from streamheal.runtime.lag import Lag
from streamheal.runtime.runtime import Runtime
from streamheal.web.metrics import HostCollector
from tests.runtime.fakes import FakeEngine, FakePool, FakeShelf, FakeStarts, no_marks
from tests.runtime.test_runtime import _seal as seal
from tests.runtime.test_runtime import fine

SHARD = Shard("shard-0", "orders")
PATIENT = Policy(retry_s_min=0.01, shutdown_s=0.0)


# -- how far behind ----------------------------------------------------------------------------


def test_an_idle_shard_is_as_far_behind_as_was_measured() -> None:
    lag = Lag()
    lag.measured(0.0, now=100.0)
    assert lag.lag_s(101.0, oldest_age_s=None) == 0.0


def test_a_shard_that_is_read_to_its_tip_is_behind_by_what_is_still_open() -> None:
    """A window of 10,000 records hides hours, where only the reading is asked about."""
    lag = Lag()
    lag.measured(0.0, now=100.0)
    assert lag.lag_s(101.0, oldest_age_s=3600.0) == 3600.0


def test_a_shard_that_nobody_could_read_for_a_while_falls_behind() -> None:
    lag = Lag()
    lag.measured(2.0, now=100.0)
    assert lag.lag_s(129.0, oldest_age_s=None) == 2.0
    assert lag.lag_s(700.0, oldest_age_s=None) == 602.0


def test_a_replay_is_behind_nothing() -> None:
    assert Lag().lag_s(100.0, oldest_age_s=86_400.0) is None
    assert Lag().age_s(100.0, oldest_age_s=86_400.0) == 86_400.0


def test_a_clock_that_runs_behind_the_streams_makes_nothing_negative() -> None:
    lag = Lag()
    lag.measured(0.0, now=100.0)
    assert lag.lag_s(100.0, oldest_age_s=-3.0) == 0.0


# -- whose it is ---------------------------------------------------------------------------------


class Held(FakeEngine):
    """An engine whose one shard tests give and take away."""

    async def run(self, sink: object) -> None:
        await asyncio.Event().wait()


class Host:
    def __init__(self, handler: Callable[[Record], None] = fine) -> None:
        self.engine, self.pool, self.shelf = Held(), FakePool(handler), FakeShelf()
        self.started = asyncio.Event()
        self.stopped = asyncio.Event()
        chronicle = Chronicle(structlog.get_logger())
        chronicle.listen(self._heard)
        self.runtime = Runtime(
            engine=self.engine, pool=self.pool, policy=PATIENT, keeper=Keeper(self.shelf, chronicle), seal=NoSeal(),
            starts=FakeStarts(), marks=no_marks(), chronicle=chronicle, retention_s=86_400.0,
        )  # fmt: skip

    def _heard(self, event: str, fields: object) -> None:
        if event == "shard_started":
            self.started.set()
        elif event == "shard_stopped":
            self.stopped.set()

    async def takes(self) -> None:
        self.started.clear()
        self.runtime.shard_started(SHARD, None)
        await self.started.wait()

    async def reads(self, *numbers: int) -> None:
        before = self.read()
        self.runtime.batch_arrived(SHARD.shard_id, batch(self, *numbers))
        self.runtime.lag_measured(SHARD.shard_id, 1.5, at_tip=False)
        while self.read() < before + len(numbers):  # noqa: ASYNC110 - the fake worker counts in a later turn
            await asyncio.sleep(0)

    def read(self) -> int:
        return sum(one.read for one in self.runtime.figures() if one.held)

    def loses(self) -> None:
        self.runtime.lease_lost(SHARD.shard_id)

    def scrape(self) -> dict[tuple[str, str], float]:
        """What Prometheus gets: the sums over reasons and outcomes, by metric and shard."""
        found: dict[tuple[str, str], float] = {}
        families: list[Metric] = list(HostCollector(self.runtime).collect())
        for sample in (sample for family in families for sample in family.samples):
            key = sample.name.removeprefix("streamheal_"), sample.labels.get("shard", "")
            found[key] = found.get(key, 0.0) + sample.value
        return found


def batch(host: Host, *numbers: int) -> Batch:
    slot = host.runtime.take_slot()
    assert slot is not None
    slot.view[: len(numbers)] = bytes(numbers)
    return Batch(slot, len(numbers), Dialect.DAEMON)


class NoSeal:
    """Nobody is set aside here."""

    def id_of(self, record: Record, shard: Shard) -> str:
        return record.sequence_number

    def __call__(self, *_: Any) -> Any:
        raise AssertionError("a record is set aside")


def held(story: Callable[[Host], Awaitable[None]], handler: Callable[[Record], None] = fine) -> None:
    async def tell() -> None:
        host = Host(handler)
        running = asyncio.create_task(host.runtime.run())
        try:
            await asyncio.wait_for(story(host), 20)
        finally:
            host.runtime.stop()
            await running
            await host.runtime.keeper.close()

    asyncio.run(tell())


def only(found: list[ShardFigures]) -> ShardFigures:
    (one,) = found
    return one


def broken(record: Record) -> None:
    """Two of each batch are done, then one fails for ever."""
    if record.data == b"3":
        raise KeyError("customer")


def test_of_a_shard_that_was_lost_only_the_counts_stay() -> None:
    async def story(host: Host) -> None:
        await host.takes()
        await host.reads(1, 2)
        assert host.scrape()["shard_lag_seconds", "shard-0"] == 1.5
        host.loses()
        found = host.scrape()
        assert found["records_read_total", "shard-0"] == found["records_done_total", "shard-0"] == 2
        assert found["records_in_flight", "shard-0"] == 0
        gone = {"shard_lag_seconds", "retention_left_seconds", "oldest_open_seconds", "paused"}
        assert not gone & {name for name, _ in found}

    held(story)


def test_a_shard_that_comes_back_counts_on() -> None:
    async def story(host: Host) -> None:
        await host.takes()
        await host.reads(1, 2)
        host.loses()
        await host.takes()
        assert host.scrape()["records_done_total", "shard-0"] == 2
        await host.reads(3)
        found = host.scrape()
        assert found["records_read_total", "shard-0"] == found["records_done_total", "shard-0"] == 3
        assert found["shard_lag_seconds", "shard-0"] == 1.5

    held(story)


def test_a_shard_that_is_lost_with_records_open_is_not_told_of_until_it_comes_back() -> None:
    """3 is open: to count it for ever would be wrong, and so would a count that falls."""
    scrapes: list[dict[tuple[str, str], float]] = []

    async def story(host: Host) -> None:
        await host.takes()
        await host.reads(1, 2, 3)
        scrapes.append(host.scrape())
        assert scrapes[-1]["records_in_flight", "shard-0"] == 1
        assert scrapes[-1]["records_read_total", "shard-0"] == 3
        host.loses()
        scrapes.append(host.scrape())
        assert not any(shard == "shard-0" for _, shard in scrapes[-1])
        people = only(host.runtime.figures())
        assert (people.read, people.done, people.in_flight, people.held) == (2, 2, 0, False)

        await host.takes()
        await host.reads(4)
        scrapes.append(host.scrape())
        assert scrapes[-1]["records_read_total", "shard-0"] == 1
        assert sum(one.done for one in host.runtime.figures()) == 3
        for before, after in pairwise(scrapes):
            assert before["attempts_total", ""] <= after["attempts_total", ""]

    held(story, broken)


def test_the_end_of_a_run_that_was_lost_does_not_end_the_next_one() -> None:
    """Its worker may say its last word after the lease has come back."""

    async def story(host: Host) -> None:
        await host.takes()
        old = host.pool.seats["shard-0"]
        host.loses()
        await host.takes()
        old.end("lease_lost")
        await host.reads(1)
        assert only(host.runtime.figures()).held

    held(story)


def test_a_shard_that_stopped_for_a_human_goes_on_to_tell_how_far_behind_it_falls() -> None:
    """It is still this host's: a picture of the moment at which it stopped would call nobody."""
    tried: set[bytes] = set()

    def dies_beside_others(record: Record) -> None:
        if record.data not in tried:
            tried.add(record.data)
            raise SystemExit

    async def story(host: Host) -> None:
        await host.takes()
        await host.reads(*range(1, 20))
        await host.stopped.wait()
        host.runtime.lag_measured("shard-0", 99.0, at_tip=False)
        found = host.scrape()
        assert found["shard_lag_seconds", "shard-0"] == 99
        assert found["records_in_flight", "shard-0"] == 19 - found["records_done_total", "shard-0"] > 0
        host.loses()
        assert not any(shard == "shard-0" for _, shard in host.scrape())

    held(story, dies_beside_others)


# -- at every scrape -----------------------------------------------------------------------------


def adds_up(found: dict[tuple[str, str], float], shard_id: str = "shard-0") -> bool:
    def sum_of(name: str) -> float:
        return found.get((name, shard_id), 0.0)

    settled = sum(sum_of(f"records_{how}_total") for how in ("done", "quarantined", "filtered"))
    return sum_of("records_read_total") == settled + sum_of("records_in_flight")


def test_the_records_add_up_while_shards_are_lost_and_begun_anew_and_a_scraper_asks() -> None:
    """Each turn of the loop is a moment at which somebody may ask; the shard is lost with records
    open, with none open, while it is begun, and while a batch is decoded."""
    scrapes = 0

    async def story(host: Host) -> None:
        async def scrape() -> None:
            nonlocal scrapes
            while True:
                assert adds_up(host.scrape())
                scrapes += 1
                await asyncio.sleep(0)

        scraper = asyncio.create_task(scrape())
        for turn in range(60):
            await host.takes()
            for first in range(turn % 4):
                await host.reads(first * 4 + 1, first * 4 + 2, first * 4 + 3, first * 4 + 4)
            if turn % 3 == 0:
                host.runtime.batch_arrived("shard-0", batch(host, 1, 2, 3))
            host.loses()
            if turn % 5 == 0:
                host.runtime.shard_started(SHARD, None)
                await asyncio.sleep(0)
                host.loses()
        scraper.cancel()
        with suppress(asyncio.CancelledError):
            await scraper
        assert scrapes > 300

    held(story, broken)


def test_what_is_stored_after_its_shard_has_stopped_is_still_open_here() -> None:
    """The store answers late. The record is in quarantine, and will be read and counted again."""
    asked, answer = threading.Event(), threading.Event()

    def slow(envelopes: Sequence[Any]) -> list[None]:
        asked.set()
        assert answer.wait(10)
        return [None] * len(envelopes)

    async def story(host: Host) -> None:
        host.pool.cause = Cause.POISON
        host.runtime.seal = seal
        host.shelf.put = slow  # type: ignore[method-assign,assignment]
        await host.takes()
        await host.reads(1, 2, 3)
        assert await asyncio.to_thread(asked.wait, 10)
        host.runtime._shards["shard-0"].broke(AssertionError("a rule"))
        await host.stopped.wait()
        answer.set()
        while not host.runtime.keeper.writes["stored"]:  # noqa: ASYNC110 - the keeper tells nobody else
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        found = host.scrape()
        assert adds_up(found)
        assert found["records_in_flight", "shard-0"] == 1

    held(story, broken)
