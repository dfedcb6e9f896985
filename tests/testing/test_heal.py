"""`heal` decides as a real run does, and waits for nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamheal import DecodeError, Poison, Record, RecordProcessor, Retry, Shard, Throttled
from streamheal.testing import heal, record

GOOD, BAD = {"customer": "ann"}, {"items": 3}


def handle(record: Record) -> None:
    record.json()["customer"]


def test_the_sick_one_is_set_aside_and_the_others_are_done() -> None:
    first, sick, last = record(GOOD), record(BAD), record(GOOD)
    report = heal(handle, [first, sick, last])
    assert report.done == [first, last]
    assert [one.record for one in report.quarantined] == [sick]
    assert report.filtered == report.undecided == []

    (one,) = report.quarantined
    assert (one.reason, one.exception_type, one.message) == ("exception", "KeyError", "'customer'")
    assert one.title.startswith("KeyError: 'customer', ")
    assert one.title.endswith(" in handle")
    assert [attempt.number for attempt in one.attempts] == [1, 2, 3]
    assert one.attempts[-1].alone
    assert isinstance(one.exception, KeyError)
    assert "succeeded just before and just after" in one.verdict
    assert one.envelope.data == sick.data


@pytest.mark.parametrize(
    "given", [[BAD], [GOOD, BAD], [BAD, GOOD], [GOOD, BAD, BAD, GOOD], [GOOD, BAD, {"x": 1}, GOOD]]
)
def test_a_sick_record_is_tried_as_often_as_configured_wherever_it_stands(given: list[Any]) -> None:
    report = heal(handle, given)
    assert {len(one.attempts) for one in report.quarantined} == {3}
    assert len(report.quarantined) == sum("customer" not in one for one in given)
    assert [len(one.attempts) for one in heal(handle, [GOOD, BAD], attempts_max=5).quarantined] == [5]


def test_waiting_costs_no_time() -> None:
    began = time.perf_counter()
    report = heal(handle, [GOOD, BAD, GOOD], retry_s_min=100, retry_s_max=1000)
    assert len(report.quarantined) == 1
    assert time.perf_counter() - began < 5


def test_tries_are_numbered_from_one() -> None:
    seen = []

    def flaky(record: Record) -> None:
        seen.append(record.attempt)
        if record.attempt < 3:
            raise ConnectionError("try again")

    mine = record(b"x")
    report = heal(flaky, [mine])
    assert seen == [1, 2, 3]
    assert report.done == [mine]
    assert mine.attempt == 1


def test_poison_needs_one_try_and_no_witness() -> None:
    class Strict(RecordProcessor):
        poison = (ZeroDivisionError,)

        def process_record(self, record: Record) -> None:
            match record.data:
                case b"poison":
                    raise Poison("no such product")
                case b"zero":
                    print(1 / 0)
                case _:
                    record.json()

    report = heal(Strict, ["poison", "zero", "nojson"])
    assert [(one.reason, len(one.attempts)) for one in report.quarantined] == [
        ("rejected", 1),
        ("exception", 1),
        ("decode", 1),
    ]
    assert isinstance(report.quarantined[2].exception, DecodeError)


def test_throttling_is_not_counted_as_a_try() -> None:
    seen: list[int] = []

    def busy(record: Record) -> None:
        seen.append(record.attempt)
        if len(seen) < 9:
            raise Throttled(retry_after_s=5)

    assert len(heal(busy, [b"x"]).done) == 1
    assert seen == list(range(1, 10))


def test_throttling_of_botocore_is_known_by_its_code() -> None:
    from botocore.exceptions import ClientError

    seen: list[int] = []

    def busy(record: Record) -> None:
        seen.append(record.attempt)
        if len(seen) < 7:
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, "PutItem")

    assert len(heal(busy, [b"x"]).done) == 1


def test_who_is_throttled_for_ever_stays_undecided() -> None:
    def busy(record: Record) -> None:
        raise Throttled

    report = heal(busy, [b"x"])
    assert len(report.undecided) == 1
    assert report.quarantined == []


def test_an_outage_sets_nobody_aside() -> None:
    """Down from the third call to the sixtieth: everybody is tried until it is over."""
    calls = 0

    def down(record: Record) -> None:
        nonlocal calls
        calls += 1
        if 3 <= calls <= 60:
            raise ConnectionError("the database is down")

    report = heal(down, [{"n": n} for n in range(10)])
    assert len(report.done) == 10


def test_where_everything_fails_nobody_is_blamed() -> None:
    report = heal(handle, [BAD] * 5)
    assert len(report.undecided) == 5
    assert report.quarantined == []
    assert report.needs_human == "different records fail, and none succeeds"
    assert repr(report) == "<Report 0 done; 5 undecided (different records fail, and none succeeds)>"


def test_what_looks_like_the_beginning_of_an_outage_is_not_judged() -> None:
    """Two fail alike and nobody comes after them: a record more that succeeds decides it."""
    assert len(heal(handle, [GOOD, BAD, BAD]).undecided) == 2
    assert len(heal(handle, [GOOD, BAD, BAD, GOOD]).quarantined) == 2


def test_a_stream_that_does_not_go_on_leaves_what_a_real_one_leaves() -> None:
    report = heal(handle, [GOOD, BAD, {"other": 1}], goes_on=False)
    assert len(report.quarantined) + len(report.undecided) == 2
    (lonely,) = heal(handle, [GOOD, BAD], goes_on=False).quarantined
    assert "nobody was left" in lonely.verdict or "no other record" in lonely.verdict


def test_records_of_a_key_stay_in_order_and_others_go_on() -> None:
    order: list[str] = []

    def flaky(record: Record) -> None:
        if record.data == b"a1" and record.attempt < 3:
            raise Retry("not yet")
        order.append(record.data.decode())

    heal(flaky, [record("a1", "a"), record("b1", "b"), record("a2", "a"), record("b2", "b")])
    assert order == ["b1", "b2", "a1", "a2"]
    order.clear()
    heal(flaky, [record("a1", "a"), record("b1", "b")], ordering="shard")
    assert order == ["a1", "b1"]
    order.clear()
    heal(flaky, [record("a1", "a"), record("a2", "a")], ordering="none")
    assert order == ["a2", "a1"]


def test_records_behind_a_sick_one_of_their_key_are_done_after_it() -> None:
    line = [record(GOOD, "a"), record(BAD, "a"), record(GOOD, "a"), record(GOOD, "b")]
    report = heal(handle, line)
    assert report.done == [line[0], line[2], line[3]]
    assert [one.record for one in report.quarantined] == [line[1]]


def test_unwanted_records_are_filtered_and_keys_are_the_processors() -> None:
    class Choosy(RecordProcessor):
        def wants(self, record: Record) -> bool:
            return record.data != b"no"

        def key(self, record: Record) -> str:
            return str(record.json()["customer"])

        def process_record(self, record: Record) -> None:
            assert record.data != b"no"

    yes, no = record(GOOD), record("no")
    report = heal(Choosy, [yes, no])
    assert report.done == [yes]
    # Its `key` reads JSON, and this is none: a failure of the record, as every other.
    assert [(one.record, one.reason) for one in report.quarantined] == [(no, "decode")]
    Choosy.key = lambda self, record: "all"  # type: ignore[method-assign]
    assert heal(Choosy, [yes, no]).filtered == [no]


class Sink(RecordProcessor):
    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def process_records(self, records: Sequence[Record]) -> list[Record]:
        numbers = [one.json()["n"] for one in records]
        self.calls.append(numbers)
        if 5 in numbers:
            raise ValueError("five")
        return [one for one in records if one.json()["n"] == 3]


def test_a_batch_that_raises_is_halved_to_the_culprit() -> None:
    sink = Sink()
    report = heal(sink, [{"n": n} for n in range(1, 9)])
    assert [one.record.json() for one in report.quarantined] == [{"n": 3}, {"n": 5}]
    assert [one.json()["n"] for one in report.done] == [1, 2, 4, 6, 7, 8]
    assert sink.calls[:3] == [[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert [one.exception_type for one in report.quarantined] == [None, "ValueError"]
    runs = Counter(number for call in sink.calls for number in call)
    assert max(runs[number] for number in (1, 2, 4, 6, 7, 8)) <= 4


def test_a_batch_keeps_the_order_of_a_key_behind_a_culprit() -> None:
    done: list[int] = []

    class Flaky(RecordProcessor):
        def process_records(self, records: Sequence[Record]) -> None:
            if records[0].attempt == 1 and any(one.json() == 2 for one in records):
                raise OSError("busy")
            done.extend(one.json() for one in records)

    report = heal(Flaky, [record(n, "all") for n in range(1, 6)])
    assert done == [1, 2, 3, 4, 5]
    assert len(report.done) == 5


def test_a_throttled_batch_is_not_halved() -> None:
    """To look for a culprit would only make a busy world busier."""
    calls: list[int] = []

    class Busy(RecordProcessor):
        def process_records(self, records: Sequence[Record]) -> None:
            calls.append(len(records))
            if len(calls) == 1:
                raise Throttled(retry_after_s=2)

    report = heal(Busy, [record(n, f"key-{n % 4}") for n in range(8)])
    assert len(report.done) == 8
    assert calls[0] == 8
    assert sum(calls[1:]) == 8


def test_a_batch_may_name_who_failed_by_copies() -> None:
    import msgspec

    class Copies(RecordProcessor):
        def process_records(self, records: Sequence[Record]) -> list[Record]:
            return [msgspec.structs.replace(one, data=b"") for one in records if one.data == b"bad"]

    assert [one.record.data for one in heal(Copies, ["good", "bad", "good"]).quarantined] == [b"bad"]


def test_async_processors_share_one_event_loop() -> None:
    loops = set()

    class Async(RecordProcessor):
        async def initialize(self, shard: Shard) -> None:  # type: ignore[override]
            loops.add(asyncio.get_running_loop())

        async def process_record(self, record: Record) -> None:
            await asyncio.sleep(0)
            loops.add(asyncio.get_running_loop())
            handle(record)

    report = heal(Async, [GOOD, BAD, GOOD])
    assert (len(report.done), len(report.quarantined)) == (2, 1)
    assert len(loops) == 1


def test_a_plain_function_must_do_its_work_itself() -> None:
    """As in a run: what it returns to await would never be awaited."""

    async def work() -> None: ...

    (one,) = heal(lambda record: work(), [b"x"]).quarantined
    assert "async def" in (one.message or "")


def test_within_a_running_loop_it_says_what_to_do() -> None:
    async def handle_async(record: Record) -> None: ...

    async def test() -> None:
        with pytest.raises(RuntimeError, match="to_thread"):
            heal(handle_async, [b"x"])
        assert len((await asyncio.to_thread(heal, handle_async, [b"x"])).done) == 1

    asyncio.run(test())


def test_the_processors_life_is_as_in_a_run() -> None:
    happened: list[str] = []

    class Life(RecordProcessor):
        def initialize(self, shard: Shard) -> None:
            happened.append(f"initialize {shard.shard_id} of {shard.stream}")

        def process_record(self, record: Record) -> None:
            happened.append("record")
            if record.data == b"bad":
                raise Throttled

        def shard_ended(self) -> None:
            happened.append("ended")

        def shutdown_requested(self) -> None:
            happened.append("shutdown")

    heal(Life, ["x"], stream="orders")
    assert happened == ["initialize shardId-000000000000 of orders", "record", "ended"]
    happened.clear()
    heal(Life, ["bad"])
    assert happened[-1] == "shutdown"


def test_each_shard_has_a_processor_and_records_come_back_as_given() -> None:
    made = []

    class Each(RecordProcessor):
        def __init__(self) -> None:
            made.append(self)

        def process_record(self, record: Record) -> None: ...

    line = [record(n, shard_id=f"shardId-{n % 2:012d}") for n in range(6)]
    assert heal(Each, line).done == line
    assert len(made) == 2


def test_an_instance_is_used_as_it_is() -> None:
    class Counting(RecordProcessor):
        def __init__(self, fake: list[bytes]) -> None:
            self.fake = fake

        def process_record(self, record: Record) -> None:
            self.fake.append(record.data)

    fake: list[bytes] = []
    heal(Counting(fake), ["a", "b"])
    assert fake == [b"a", b"b"]


def test_class_attributes_come_first() -> None:
    class Twice(RecordProcessor):
        attempts_max = 2
        ordering = "shard"

        def process_record(self, record: Record) -> None:
            handle(record)

    assert [len(one.attempts) for one in heal(Twice, [GOOD, BAD, GOOD], attempts_max=7).quarantined] == [2]


def test_masks_are_applied_to_what_people_would_see() -> None:
    class Masked(RecordProcessor):
        def mask(self, record: Record) -> bytes:
            return b"****"

        def mask_text(self, text: str) -> str:
            return text.replace("4111", "****")

        def process_record(self, record: Record) -> None:
            raise Poison(f"card {record.data.decode()}")

    (one,) = heal(Masked, ["4111"]).quarantined
    assert one.message == "card ****"
    assert one.envelope.shown == b"****"
    assert one.envelope.data == b"4111"


@pytest.mark.parametrize(
    "error", [SystemExit(3), asyncio.CancelledError(), BaseExceptionGroup("x", [KeyboardInterrupt()])]
)
def test_what_a_library_raises_to_leave_is_a_failure_of_the_record(error: BaseException) -> None:
    def leaves(record: Record) -> None:
        if record.data == b"bad":
            raise error

    assert len(heal(leaves, ["good", "bad", "good"]).quarantined) == 1


def test_what_is_raised_for_whoever_runs_the_test_gets_there() -> None:
    def interrupted(record: Record) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        heal(interrupted, [b"x"])

    def judged(record: Record) -> None:
        pytest.fail("the fake was asked for something strange")

    with pytest.raises(pytest.fail.Exception, match="strange"):
        heal(judged, [b"x"])


def test_what_is_no_processor_is_refused_in_plain_words() -> None:
    class Nothing(RecordProcessor): ...

    class Stranger: ...

    with pytest.raises(TypeError, match="Nothing overrides neither process_record nor process_records"):
        heal(Nothing, [b"x"])
    with pytest.raises(TypeError, match="Stranger has neither"):
        heal(Stranger, [b"x"])
    with pytest.raises(TypeError, match="int has neither"):
        heal(3, [b"x"])
    with pytest.raises(TypeError, match=r"write \[it\]"):
        heal(handle, GOOD)
    with pytest.raises(TypeError, match="attempt_max"):
        heal(handle, [GOOD], attempt_max=3)  # type: ignore[call-arg]


def test_initialize_failing_is_the_tests_business() -> None:
    class Broken(RecordProcessor):
        def initialize(self, shard: Shard) -> None:
            raise RuntimeError("no settings")

        def process_record(self, record: Record) -> None: ...

    with pytest.raises(RuntimeError, match="no settings"):
        heal(Broken, [b"x"])


def test_records_are_made_of_whatever_is_at_hand() -> None:
    @dataclass
    class Order:
        customer: str

    seen: list[bytes] = []
    heal(lambda one: seen.append(one.data), [b"\x00", "text", {"a": 1}, [1], Order("ann"), 7])
    assert seen == [b"\x00", b"text", b'{"a":1}', b"[1]", b'{"customer":"ann"}', b"7"]


def test_records_made_later_are_later_and_wait_for_nobody() -> None:
    one, other = record(), record()
    assert one.position < other.position
    assert one.partition_key != other.partition_key
    assert one.approximate_arrival_timestamp < other.approximate_arrival_timestamp
    assert len(one.sequence_number) == 56


def test_nothing_given_is_nothing_done() -> None:
    assert repr(heal(handle, [])) == "<Report 0 done>"


def test_thousands_of_records_take_a_moment() -> None:
    report = heal(handle, [BAD if n % 50 == 7 else GOOD for n in range(5000)])
    assert (len(report.done), len(report.quarantined)) == (4900, 100)


_KINDS = st.sampled_from(["fine", "fine", "fine", "bad", "flaky", "poison", "busy", "unwanted"])


@settings(max_examples=60, deadline=None)
@given(
    line=st.lists(st.tuples(_KINDS, st.sampled_from("abc")), max_size=25),
    ordering=st.sampled_from(["shard", "key", "none"]),
    batches=st.booleans(),
)
def test_in_any_mixture_each_record_meets_its_own_fate(
    line: list[tuple[str, str]], ordering: Any, batches: bool
) -> None:
    """Followed by two healthy ones: who is sick is set aside, who is not is done, in the order of its key."""
    effects: list[tuple[str, int]] = []

    class One(RecordProcessor):
        def wants(self, record: Record) -> bool:
            return bool(record.json()[0] != "unwanted")

        def process_record(self, record: Record) -> None:
            kind, number = record.json()
            if kind == "bad":
                raise KeyError(number)
            if kind == "poison":
                raise Poison
            if (kind == "flaky" and record.attempt == 1) or (kind == "busy" and record.attempt < 4):
                raise ConnectionError if kind == "flaky" else Throttled
            effects.append((record.partition_key, number))

    class Many(One):
        def process_records(self, records: Sequence[Record]) -> None:
            for one in records:
                One.process_record(self, one)

    kinds = [*line, ("fine", "x"), ("fine", "y")]
    records = [record([kind, number], key) for number, (kind, key) in enumerate(kinds)]
    report = heal(Many if batches else One, records, ordering=ordering)
    sick = [one for one, (kind, _) in zip(records, kinds, strict=True) if kind in ("bad", "poison")]
    unwanted = [one for one, (kind, _) in zip(records, kinds, strict=True) if kind == "unwanted"]
    assert [one.record for one in report.quarantined] == sick
    assert report.undecided == []
    assert report.filtered == unwanted
    assert len(report.done) == len(records) - len(sick) - len(unwanted)
    if ordering != "none":
        first: dict[tuple[str, int], int] = {}
        for place, (key, number) in enumerate(effects):
            first.setdefault((key, number), place)
        for key in "abcxy":
            numbers = [number for (of, number) in sorted(first, key=first.__getitem__) if of == key]
            assert numbers == sorted(numbers)


def test_a_class_written_for_amazon_kclpy_is_healed_as_it_is() -> None:
    """It gets amazon_kclpy's inputs, and may checkpoint: that alone makes nothing done."""
    pytest.importorskip("amazon_kclpy", reason="amazon_kclpy is not installed, whose processors these are")
    from amazon_kclpy.v3 import processor

    seen: list[str] = []

    class Theirs(processor.RecordProcessorBase):  # type: ignore[misc]  # it comes without types
        def initialize(self, initialize_input: Any) -> None:
            seen.append(initialize_input.shard_id)

        def process_records(self, process_records_input: Any) -> None:
            for one in process_records_input.records:
                if b"items" in one.binary_data:
                    raise KeyError("customer")
            process_records_input.checkpointer.checkpoint()

        def shard_ended(self, shard_ended_input: Any) -> None:
            shard_ended_input.checkpointer.checkpoint()
            seen.append("ended")

    first, sick, last = record(GOOD), record(BAD), record(GOOD)
    report = heal(Theirs, [first, sick, last])
    assert report.done == [first, last]
    assert [one.record for one in report.quarantined] == [sick]
    assert seen == ["shardId-000000000000", "ended"]
