"""How records run: their order, their lanes, what is said of them. With real processes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from streamheal.core.messages import At, Cause, Done, Failed, SpanCounted, SpanDone, Witnessed
from streamheal.workers.journal import PAGE_WORDS, STATES

from .stand import FIRST, line, numbers, standing, until

# One processor in each of the four ways to write it. A payload is [n, what to do].
BODY = """
    def act(self, record):
        n, do = record.json()
        record.data = b"spoiled"
        if do == "slow": __import__("time").sleep(0.02)
        if do == "raise" or do == "flaky" and record.attempt == 1: raise ValueError(f"no {n}")
        effect(f"{n} {record.partition_key} {record.attempt}")
"""
PLAIN = f"class App(RecordProcessor):{BODY}    def process_record(self, record): self.act(record)"
THREADS = PLAIN.replace(":", ":\n    concurrency = 8", 1)
ASYNC = f"class App(RecordProcessor):{BODY}    async def process_record(self, record): self.act(record)"
BATCH = f"""class App(RecordProcessor):{BODY}
    def process_records(self, records):
        if any(json[1] == "raise" or json[1] == "flaky" and r.attempt == 1 for r in records for json in [r.json()]):
            raise ValueError("somebody")
        for record in records: self.act(record)
"""
MODES = pytest.mark.parametrize("code", [PLAIN, THREADS, ASYNC, BATCH], ids=["plain", "threads", "async", "batch"])


@MODES
async def test_a_clean_span_is_one_report(tmp_path: Path, code: str) -> None:
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([[n, ""] for n in range(100)], keys=lambda n: f"k{n % 7}"))
        done = await ear.span_done(1)
        assert (done.records, done.last and done.last.sequence, done.filtered, done.held) == (100, FIRST + 99, 0, ())
        assert [type(event) for event in ear.events if type(event) is not SpanCounted] == [SpanDone]
        assert sorted(numbers(stand.effects())) == list(range(100))


@MODES
async def test_some_records_are_timed(tmp_path: Path, code: str) -> None:
    """The first to begin, and then not each."""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([[n, "slow"] for n in range(8)], keys=lambda n: f"k{n}"))
        await ear.span_done(1)
        calls = 8 if code == BATCH else 1  # there a call is timed
        assert 0.02 * calls <= ear.times["took"][0] < 0.02 * calls + 5.0
        assert len(ear.times["took"]) < 8


@MODES
async def test_records_behind_a_sick_one_have_their_waiting_added_up(tmp_path: Path, code: str) -> None:
    """Two wait behind 0 when it is tried again; the one of another key waits for nobody."""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        began = time.monotonic()
        ear.bring(1, line([[0, "flaky"], [1, ""], [2, ""], [3, ""]], keys=lambda n: "other" if n == 2 else "one"))
        await ear.span_done(1)
        told = time.monotonic()
        await until(lambda: time.monotonic() > told + 0.05)
        assert ear.times["waited"] == []
        ear.seat.retry(At(1, 0), 2)
        await ear.until(lambda: len(ear.of(Done)) == 3)
        (waited_s,) = ear.times["waited"]
        assert 2 * 0.05 <= waited_s <= 2 * (time.monotonic() - began)


@MODES
async def test_a_failed_record_holds_up_its_key_and_no_other(tmp_path: Path, code: str) -> None:
    """3 fails: 13 and 23, of its key, wait behind it, and so does 33 of the next span. Then it passes."""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([[n, "flaky" if n == 3 else ""] for n in range(30)], keys=lambda n: f"k{n % 10}"))
        done = await ear.span_done(1)
        assert [named.at.nth for named in done.held] == [13, 23]
        assert [named.before and named.before.sequence for named in done.held] == [FIRST + 12, FIRST + 22]
        ear.bring(2, line([[n, ""] for n in range(30, 40)], first=30, keys=lambda n: f"k{n % 10}"))
        assert [named.at for named in (await ear.span_done(2)).held] == [At(2, 3)]
        assert sorted(numbers(stand.effects())) == [n for n in range(40) if n % 10 != 3]

        ear.seat.retry(At(1, 3), 2)
        await ear.until(lambda: len(ear.of(Done)) == 4)
        assert [done.at for done in ear.of(Done)] == [At(1, 3), At(1, 13), At(1, 23), At(2, 3)]
        assert stand.effects()[-4:] == ["3 k3 2", "13 k3 1", "23 k3 1", "33 k3 1"]


@MODES
async def test_a_settled_record_lets_its_key_go_on(tmp_path: Path, code: str) -> None:
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([[0, "raise"], [1, ""], [2, "raise"], [3, ""]], keys=lambda n: "one"))
        assert [named.at.nth for named in (await ear.span_done(1)).held] == [1, 2, 3]
        ear.seat.settle(At(1, 0))
        await ear.failed(At(1, 2))
        assert ear.seat.record(At(1, 2)).data == b'[2, "raise"]', "what came, not what user code made of it"
        ear.seat.settle(At(1, 2))
        await ear.until(lambda: len(ear.of(Done)) == 2)
        assert numbers(stand.effects()) == [1, 3]


@MODES
async def test_nothing_starts_beyond_the_limit(tmp_path: Path, code: str) -> None:
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start(limit=0)
        ear.bring(1, line([[n, ""] for n in range(5)]), ask=(4,))
        assert (await ear.failed(At(1, 4))).cause is Cause.SUSPECTED
        assert stand.effects() == []
        ear.seat.limit(2)
        ear.seat.limit(1)  # replaces, does not add
        ear.seat.limit(None)
        assert {named.at.nth for named in (await ear.span_done(1)).held} == set()
        assert sorted(numbers(stand.effects())) == [0, 1, 2, 3]


@MODES
async def test_a_probe_is_one_record_and_told_ones_run_whatever_the_limit(tmp_path: Path, code: str) -> None:
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start(lanes_max=1)
        ear.bring(1, line([[0, "flaky"], [1, ""]]))
        await ear.span_done(1)
        ear.seat.limit(0)
        ear.bring(2, line([[2, "raise"], [3, ""]], first=2))
        ear.seat.limit(1)
        await ear.failed(At(2, 0))
        ear.seat.retry(At(1, 0), 2)
        await ear.until(lambda: ear.of(Done))
        assert sorted(numbers(stand.effects())) == [0, 1]


async def test_strict_order_is_one_lane_and_none_is_a_lane_a_record(tmp_path: Path) -> None:
    for ordering, held in (("shard", [2, 3]), ("none", [])):
        async with standing(tmp_path, PLAIN, ordering=ordering) as stand:
            ear = await stand.ear().start()
            ear.bring(1, line([[0, ""], [1, "raise"], [2, ""], [3, ""]], keys=lambda n: f"k{n % 2}"))
            assert [named.at.nth for named in (await ear.span_done(1)).held] == held


@MODES
async def test_unwanted_records_are_filtered_and_no_witnesses(tmp_path: Path, code: str) -> None:
    code += "\n    def wants(self, record): return record.json()[1] != 'skip'"
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([[0, "skip"], [1, "raise"], [2, "skip"]], keys=lambda n: f"k{n % 2}"))
        done = await ear.span_done(1)
        assert (done.filtered, done.held, ear.of(Witnessed)) == (2, (), [])
        ear.bring(2, line([[3, "skip"], [4, ""]], keys=lambda n: "k1"))
        assert [named.at for named in (await ear.span_done(2)).held] == [At(2, 0), At(2, 1)]
        ear.seat.settle(At(1, 1))
        await ear.until(lambda: len(ear.of(Done)) == 2)
        assert [(done.at, done.filtered) for done in ear.of(Done)] == [(At(2, 0), True), (At(2, 1), False)]


@MODES
async def test_a_processors_own_key_makes_the_lanes(tmp_path: Path, code: str) -> None:
    """By `key` 0, 2 and 3 belong together; 1, whose `key` raises, fails under its partition key."""
    code += """
    def key(self, record):
        if record.json()[0] == 1: raise LookupError("no key")
        return "even"
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([[0, "raise"], [1, ""], [2, ""], [3, ""]]))
        assert [named.at.nth for named in (await ear.span_done(1)).held] == [2, 3]
        assert ear.attempts[At(1, 1)][0].exception_type == "LookupError"


@MODES
async def test_a_failure_comes_with_its_times_and_the_last_success_before_it(tmp_path: Path, code: str) -> None:
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.seat.curious(True)
        before = stand.pool.loop.time()
        ear.bring(1, line([[0, ""], [1, "raise"], [2, ""]], keys=lambda n: f"k{n}"))
        await ear.span_done(1)
        after = stand.pool.loop.time()
        failed: Failed = ear.of(Failed)[0]
        assert before <= failed.began <= failed.ended <= after
        at = ear.events.index(failed)
        since = [event for event in ear.events[:at] if isinstance(event, Witnessed)]
        later = [event for event in ear.events[at:] if isinstance(event, Witnessed)]
        if "process_records" not in code:  # there 0 succeeds only after the first call has failed
            assert since
        assert all(before <= one.since <= one.until <= failed.ended for one in since)
        assert later, "the first success after a failure is told at once"
        assert all(failed.ended <= one.since <= one.until <= after for one in later if one.since >= failed.ended)


async def test_a_curious_host_hears_of_successes_until_it_is_not(tmp_path: Path) -> None:
    async with standing(tmp_path, PLAIN) as stand:
        ear = await stand.ear().start()
        ear.seat.curious(True)
        ear.bring(1, line([[0, ""]]))
        await ear.span_done(1)
        await ear.until(lambda: ear.of(Witnessed))
        ear.seat.curious(False)
        told = len(ear.of(Witnessed))
        ear.bring(2, line([[1, ""]]))
        await ear.span_done(2)
        assert len(ear.of(Witnessed)) == told


async def test_after_trouble_the_clean_path_is_taken_again(tmp_path: Path) -> None:
    async with standing(tmp_path, PLAIN) as stand:
        ear = await stand.ear().start()
        slots = []
        for span, do in ((1, ""), (2, "raise"), (3, ""), (4, "")):
            if span == 4:
                ear.seat.settle(At(2, 0))
                ear.seat.curious(False)
            slots.append(stand.pool._arena._free[-1].index)
            ear.bring(span, line([[0, do], [1, ""]]))
            await ear.span_done(span)
            assert ear.seat.process is not None
            slow = ear.seat.process.journal.words[slots[-1] * PAGE_WORDS + STATES]
            assert slow == (span in (2, 3)), f"span {span}"


async def test_a_batch_is_halved_to_its_culprits_and_what_succeeded_never_runs_again(tmp_path: Path) -> None:
    code = BATCH.replace("if any", "effect('call ' + ' '.join(str(r.json()[0]) for r in records))\n        if any")
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([[n, "raise" if n in (5, 6) else ""] for n in range(8)], keys=lambda n: f"k{n % 7}"))
        await ear.span_done(1)
        assert [failed.record.at.nth for failed in ear.of(Failed)] == [5, 6]
        calls = [text for text in stand.effects() if text.startswith("call")]
        assert calls[:4] == ["call 0 1 2 3 4 5 6 7", "call 0 1 2 3", "call 4 5", "call 4"]
        assert sorted(int(text.split()[0]) for text in stand.effects() if text not in calls) == [0, 1, 2, 3, 4, 7]


async def test_records_that_process_records_returns_have_failed(tmp_path: Path) -> None:
    code = """
class App(RecordProcessor):
    def process_records(self, records):
        return [record for record in records if record.json() % 3 == 0]
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line(range(10), keys=lambda n: f"k{n % 5}"))
        done = await ear.span_done(1)
        assert [failed.record.at.nth for failed in ear.of(Failed)] == [0, 3, 6, 9]
        assert done.held == ()
        assert ear.attempts[At(1, 3)][0].message == "process_records returned it as failed"


async def test_a_throttled_batch_is_not_halved(tmp_path: Path) -> None:
    code = """
class App(RecordProcessor):
    def process_records(self, records):
        effect(len(records))
        raise Throttled(retry_after_s=2.5)
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line(range(6), keys=lambda n: f"k{n % 4}"))
        assert [named.at.nth for named in (await ear.span_done(1)).held] == [4, 5]
        assert {(failed.cause, failed.retry_after_s) for failed in ear.of(Failed)} == {(Cause.THROTTLED, 2.5)}
        assert stand.effects() == ["6"]


async def test_async_batches_run_too(tmp_path: Path) -> None:
    code = """
import asyncio
class App(RecordProcessor):
    async def initialize(self, shard): await asyncio.sleep(0)
    async def process_records(self, records):
        await asyncio.sleep(0)
        for record in records: effect(record.json())
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line(range(6)))
        await ear.span_done(1)
        assert numbers(stand.effects()) == list(range(6))


@pytest.mark.parametrize("code", [THREADS, ASYNC], ids=["threads", "async"])
async def test_as_many_records_run_at_once_as_concurrency_says(tmp_path: Path, code: str) -> None:
    """Five records wait for each other: they can only pass together."""
    meeting = {
        THREADS: ("meeting = threading.Barrier(5)\n", "meeting.wait(10)"),
        ASYNC: ("import asyncio\nmeeting = None\n", "await met()"),
    }
    head, wait = meeting[code]
    helper = """
async def met():
    global meeting
    meeting = meeting or [0, asyncio.Event()]
    meeting[0] += 1
    if meeting[0] % 5 == 0: meeting[1].set()
    await asyncio.wait_for(meeting[1].wait(), 10)
"""
    code = head + (helper if "async" in code else "") + code.replace("self.act(record)", f"({wait}, self.act(record))")
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([[n, ""] for n in range(10)]))
        await ear.span_done(1)
        assert sorted(numbers(stand.effects())) == list(range(10))


@MODES
async def test_two_shards_share_a_worker_and_its_process(tmp_path: Path, code: str) -> None:
    async with standing(tmp_path, code) as stand:
        one, two = await stand.ear("shardId-1").start(), await stand.ear("shardId-2").start()
        assert one.seat.process is two.seat.process
        for span in range(1, 6):
            one.bring(span, line([[n, "raise" if n == 3 else ""] for n in range(9)]))
            two.bring(span, line([[n, ""] for n in range(9)]))
        for span in range(1, 6):
            await one.span_done(span)
            assert (await two.span_done(span)).held == ()
        assert len(stand.effects()) == 5 * 9 + 5 * 9 - len(one.of(Failed)) - sum(len(d.held) for d in one.of(SpanDone))
        assert two.of(Failed) == []


async def test_after_a_death_as_many_lanes_begin_as_ran(tmp_path: Path) -> None:
    """Four ran. In the next worker no lane is added to those that begin: four records wait for one another there."""
    code = """
from streamheal.workers.child import threads
class App(RecordProcessor):
    concurrency = 4
    def initialize(self, shard):
        if os.path.exists("effects"): threads._TICK_S = 1000
    def process_record(self, record):
        n = record.json()
        effect(n)
        others = set("0123" if n < 4 else "4567")
        while n in (0, 4, 5, 6, 7) and not others <= set(open("effects").read()): time.sleep(0.001)
        if n == 0: os._exit(1)
        if n < 4 and record.attempt == 1: time.sleep(60)
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line(range(8)))
        await ear.until(lambda: ear.open == 0)
