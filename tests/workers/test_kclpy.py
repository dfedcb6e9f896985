"""Classes written for amazon_kclpy, run unchanged in real workers."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from streamheal.core.messages import At, Cause, Done, Halted, SpanDone, Stated, WorkerDied
from streamheal.errors import TargetError
from streamheal.records import Position

from .stand import FIRST, Ear, line, standing, until

pytest.importorskip("amazon_kclpy", reason="amazon_kclpy is not installed, whose processors these are")

# A payload is [n, what to do]. Version 3 and version 2 differ in their last hooks only.
V3 = """
from amazon_kclpy import kcl
from amazon_kclpy.v3 import processor

class App(processor.RecordProcessorBase):
    every_call = True

    def initialize(self, initialize_input):
        self.shard_id = initialize_input.shard_id

    def process_records(self, process_records_input):
        for record in process_records_input.records:
            n, do = json.loads(record.binary_data)
            if do == "raise": raise ValueError(f"no {n}")
            if do == "exit": sys.exit("a library called exit")
            if do in ("segv", "kill", "hang"): die(do)
        for record in process_records_input.records:
            n, do = json.loads(record.binary_data)
            print("handling", n)
            effect(f"{n} {record.partition_key}")
        if self.every_call:
            process_records_input.checkpointer.checkpoint()

    def lease_lost(self, lease_lost_input): effect("lease_lost")
    def shard_ended(self, shard_ended_input): shard_ended_input.checkpointer.checkpoint()
    def shutdown_requested(self, shutdown_requested_input): shutdown_requested_input.checkpointer.checkpoint()
"""
V2 = (
    V3.split("    def lease_lost", maxsplit=1)[0].replace("v3", "v2")
    + """
    def shutdown(self, shutdown_input):
        effect(shutdown_input.reason)
        try:
            shutdown_input.checkpointer.checkpoint()
        except kcl.CheckpointError as error:
            effect(error.value)
"""
)
BOTH = pytest.mark.parametrize("code", [V3, V2], ids=["v3", "v2"])


def app(code: str, body: str = "") -> str:
    """The code, with another class of it that overrides what `body` says."""
    return "import json\n" + code + (f"\nclass Other(App):\n{body}" if body else "")


def stated(ear: Ear) -> list[tuple[int | None, bool]]:
    """What was stated: the record's number, and whether something is owed."""
    return [(e.position and e.position.sequence - FIRST, e.owes) for e in ear.of(Stated)]


async def test_in_cautious_mode_ten_are_asked_for_at_once_and_stated_as_ever(tmp_path: Path) -> None:
    async with standing(tmp_path, app(V3)) as stand:
        ear = stand.ear()
        ear.seat.cautious(True)
        await ear.start()
        ear.bring(1, line([[n, ""] for n in range(25)]))
        await ear.span_done(1)
        await ear.until(lambda: len(ear.ended_there) == 25)
        assert [len(ats) for ats in ear.intents] == [10, 10, 5]
        assert stated(ear)[-1] == (24, False)


@BOTH
async def test_a_batch_is_handled_in_the_streams_order_and_stated(tmp_path: Path, code: str) -> None:
    async with standing(tmp_path, app(code)) as stand:
        assert (stand.facts.mode, stand.facts.overrides) == ("batch", {})
        ear = await stand.ear().start()
        ear.bring(1, line([[n, ""] for n in range(1200)], keys=lambda n: f"k{n % 7}"))
        assert (await ear.span_done(1)).records == 1200
        assert stand.effects() == [f"{n} k{n % 7}" for n in range(1200)]
        assert stated(ear) == [(499, False), (999, False), (1199, False)]
        assert [type(event) for event in ear.events][-1] is SpanDone


@BOTH
async def test_who_makes_a_call_raise_is_found_and_all_others_are_done(tmp_path: Path, code: str) -> None:
    """Poison, and a SystemExit: each fails alone. What the processor printed is of no harm to anybody."""
    sick = {40: "raise", 90: "exit"}
    async with standing(tmp_path, app(code)) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([[n, sick.get(n, "")] for n in range(200)]))
        await ear.until(lambda: not ear.open)
        assert {at.nth: cause for at, cause in ear.aside.items()} == {40: "RAISED", 90: "RAISED"}
        assert stand.counts() == {f"{n} k{n}": 1 for n in range(200) if n not in sick}
        assert [attempt.exception_type for attempt in ear.attempts[At(1, 40)]] == ["ValueError"]
        assert [attempt.exception_type for attempt in ear.attempts[At(1, 90)]] == ["SystemExit"]
        assert stated(ear)[-1] == (199, False)
        await until(lambda: "handling 199" in stand.log.printed())


async def test_a_killer_is_found_and_its_neighbours_are_stated_from_where_they_run_alone(tmp_path: Path) -> None:
    async with standing(tmp_path, app(V3)) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([[n, "segv" if n == 5 else ""] for n in range(12)]))
        await ear.until(lambda: not ear.open)
        assert ear.aside == {At(1, 5): Cause.CRASHED.name}
        assert stand.counts() == {f"{n} k{n}": 1 for n in range(12) if n != 5}
        assert not [event for event in ear.of(Stated) if event.owes]


async def test_a_record_that_ran_alone_is_stated_by_shutdown_requested_at_the_latest(tmp_path: Path) -> None:
    """Its process ends with it, so the processor is asked to shut down; who is silent then owes for good."""
    body = """
    every_call = False
    def shutdown_requested(self, shutdown_requested_input):
        if not os.path.exists("silent"): shutdown_requested_input.checkpointer.checkpoint()
"""
    async with standing(tmp_path, app(V3, body), target="app:Other") as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([[n, ""] for n in range(3)]), ask=(0, 1))
        await ear.failed(At(1, 0))
        ear.seat.run_alone(At(1, 0), 1, fresh=True)
        await ear.until(lambda: ear.of(Done))
        assert not [event for event in ear.of(Stated) if event.gone]
        await ear.failed(At(1, 1))
        (tmp_path / "silent").touch()
        ear.seat.run_alone(At(1, 1), 1, fresh=True)
        await ear.until(lambda: len(ear.of(Done)) == 2)
        assert [type(event) for event in ear.events[-2:]] == [Stated, Done]
        assert ear.of(Stated)[-1] == Stated(None, owes=True, gone=True)


async def test_what_a_buffering_processor_has_not_stated_is_owed(tmp_path: Path) -> None:
    """It states the third record of its first call in the second. The host hears of it before a span is over."""
    body = """
    def process_records(self, process_records_input):
        given, checkpointer = process_records_input.records, process_records_input.checkpointer
        if not hasattr(self, "kept"):
            self.kept = given[2]
        else:
            checkpointer.checkpoint(self.kept.sequence_number, self.kept.sub_sequence_number)
"""
    async with standing(tmp_path, app(V3, body), target="app:Other") as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([[n, ""] for n in range(5)]))
        await ear.span_done(1)
        ear.bring(2, line([[n, ""] for n in range(5, 9)], first=5))
        await ear.span_done(2)
        assert stated(ear) == [(None, True), (2, True)]
        kinds = [type(event) for event in ear.events if isinstance(event, Stated | SpanDone)]
        assert kinds == [Stated, SpanDone, Stated, SpanDone]


async def test_a_worker_that_dies_has_told_what_it_owed_before(tmp_path: Path) -> None:
    body = "    every_call = False"
    async with standing(tmp_path, app(V3, body), target="app:Other") as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([[n, ""] for n in range(5)]))
        await ear.span_done(1)
        ear.bring(2, line([[5, "kill"]], first=5))
        await ear.until(lambda: not ear.open)
        kinds = [type(event) for event in ear.events if isinstance(event, Stated | SpanDone | WorkerDied)]
        assert kinds[:3] == [Stated, SpanDone, WorkerDied]
        assert stated(ear)[0] == (None, True)


@pytest.mark.parametrize(("every_call", "runs"), [(False, 2), (True, 1)])
async def test_what_is_marked_done_and_not_stated_runs_again_after_a_death(
    tmp_path: Path, every_call: bool, runs: int
) -> None:
    """500 were returned from when one of the next four kills the worker, and their span is not over."""
    async with standing(tmp_path, app(V3, f"    every_call = {every_call}"), target="app:Other") as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([[n, "kill" if n == 502 else ""] for n in range(504)]))
        await ear.until(lambda: not ear.open)
        (died,) = ear.of(WorkerDied)
        assert died.kept
        assert died.again is None
        expected = {f"{n} k{n}": runs for n in range(500)} | {f"{n} k{n}": 1 for n in (500, 501, 503)}
        assert stand.counts() == expected


@pytest.mark.parametrize(("every_call", "first_open"), [(False, None), (True, 500)])
async def test_what_is_done_and_not_stated_is_open_when_a_shard_is_halted(
    tmp_path: Path, every_call: bool, first_open: int | None
) -> None:
    """It has returned from 500 of 504, and stands in its second call."""
    body = f"""
    every_call = {every_call}
    def process_records(self, process_records_input):
        super().process_records(process_records_input)
        if len(process_records_input.records) < 500:
            effect("stands")
            time.sleep(60)
"""
    async with standing(tmp_path, app(V3, body), target="app:Other") as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([[n, ""] for n in range(504)]))
        await until(lambda: "stands" in stand.effects())
        ear.seat.halt()
        await ear.until(lambda: ear.of(Halted))
        (halted,) = ear.of(Halted)
        assert halted.done == ()
        assert (halted.first_open and halted.first_open.at.nth) == first_open
        ear.seat.abandon()


async def test_who_waits_behind_a_failed_record_does_not_run_again_with_the_others(tmp_path: Path) -> None:
    """0 has failed, 4 of its key waits, and the worker dies with the other four unstated."""
    async with standing(tmp_path, app(V3, "    every_call = False"), target="app:Other") as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([[n, "raise" if n == 0 else ""] for n in range(6)], keys=lambda n: f"k{n % 4}"))
        assert [named.at.nth for named in (await ear.span_done(1)).held] == [4]
        ear.bring(2, line([[6, "kill"]], first=6))
        await ear.until(lambda: ear.of(WorkerDied))
        (died,) = ear.of(WorkerDied)
        assert died.again is not None
        assert died.again.records == 4


ERRORS = """
    def tries(self, checkpointer, *places):
        for place in places:
            try:
                checkpointer.checkpoint(*place)
            except kcl.CheckpointError as error:
                effect(f"{error.value}")
            except TypeError:
                effect("TypeError")
            else:
                effect("kept")
    def initialize(self, initialize_input):
        assert initialize_input.sequence_number == "TRIM_HORIZON" and initialize_input.sub_sequence_number == 0
        self.before = None
    def process_records(self, process_records_input):
        records, checkpointer = process_records_input.records, process_records_input.checkpointer
        first, last = int(records[0].sequence_number), int(records[-1].sequence_number)
        self.checkpointer = checkpointer
        self.tries(checkpointer, [], [str(first)], [str(last)], [last, 0], [str(last), "0"])
        self.tries(checkpointer, [str(last + 1)], ["TRIM_HORIZON"], [str(last), -1], [str(first - 1)])
        self.tries(checkpointer, [str(last), True])
        self.tries(checkpointer, [records[0]], [None, 7])
    def lease_lost(self, lease_lost_input):
        self.tries(self.checkpointer, [], ["1"])
"""


async def test_a_wrong_checkpoint_raises_as_kcl_has_it(tmp_path: Path) -> None:
    """The last and the first of a call may be stated in any order; a Record is no sequence number, there as here."""
    async with standing(tmp_path, app(V3, ERRORS), target="app:Other") as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([[n, ""] for n in range(5)]))
        await ear.span_done(1)
        ear.seat.end("lease_lost")
        await ear.until(lambda: ear.over)
        assert stand.effects() == [
            *["kept"] * 5,
            *["IllegalArgumentException"] * 5,
            *["TypeError", "kept"],
            *["InvalidStateException"] * 2,
        ]
        assert not ear.hook_failures


@pytest.mark.parametrize(
    ("hook", "v3", "v2"),
    [
        ("shard_ended", [], ["TERMINATE"]),
        ("lease_lost", ["lease_lost"], ["ZOMBIE", "Checkpointing is not allowed when the lease is lost"]),
        ("shutdown_requested", [], []),
    ],
)
async def test_the_last_hooks_are_the_versions_own(tmp_path: Path, hook: str, v3: list[str], v2: list[str]) -> None:
    """Version 2 has `shutdown` with a reason. A checkpoint at a shard's end, and on request, states everything."""
    for code, expected in ((V3, v3), (V2, v2)):
        folder = tmp_path / str(len(code))
        folder.mkdir()
        async with standing(folder, app(code, "    every_call = False"), target="app:Other") as stand:
            ear = await stand.ear().start()
            ear.bring(1, line([[0, ""], [1, ""]]))
            await ear.span_done(1)
            ear.seat.end(hook)  # type: ignore[arg-type]  # one of the three
            await ear.until(lambda ear=ear: ear.over)
            assert stand.effects()[2:] == expected
            says = hook == "shard_ended" or (hook == "shutdown_requested" and code is V3)
            assert stated(ear) == [(None, True), *[(1, False)] * says]
            assert not ear.hook_failures


async def test_inputs_and_records_are_amazon_kclpys_own(tmp_path: Path) -> None:
    """Each attribute is what amazon_kclpy makes of the daemon's line, by its own decoding of it."""
    body = """
    def initialize(self, initialize_input):
        given = initialize_input
        self.first = [given.shard_id, given.sequence_number, given.sub_sequence_number]
    def process_records(self, given):
        from amazon_kclpy import dispatch, messages
        theirs = json.loads(open("line").read(), object_hook=dispatch.message_decode)
        assert type(given) is type(theirs) and given.action == theirs.action
        assert type(given.checkpointer) is kcl.Checkpointer
        names = ("binary_data", "data", "sequence_number", "sub_sequence_number", "partition_key",
                 "approximate_arrival_timestamp", "timestamp_millis")
        for mine, other in zip(given.records, theirs.records, strict=True):
            assert type(mine) is messages.Record
            for name in names:
                assert getattr(mine, name) == getattr(other, name), name
            for field in ("data", "partitionKey", "sequenceNumber", "approximateArrivalTimestamp", "action"):
                assert mine.get(field) == other[field] == mine[field], field
        effect(json.dumps([*self.first, given.millis_behind_latest, len(given.records)]))
"""
    raw = line([[n, "é"] for n in range(10)]).replace(b'"millisBehindLatest": 0', b'"millisBehindLatest": 4711')
    (tmp_path / "line").write_bytes(raw)
    async with standing(tmp_path, app(V3, body), target="app:Other") as stand:
        ear = stand.ear()
        ear.seat.resumes_after(Position(FIRST - 1, 2))
        await ear.start()
        ear.bring(1, raw)
        assert not (await ear.span_done(1)).held, ear.attempts
        assert json.loads(stand.effects()[0]) == ["shardId-000000000000", str(FIRST - 1), 2, 4711, 10]


async def test_a_class_that_never_imports_amazon_kclpys_kcl_runs_too(tmp_path: Path) -> None:
    """`amazon_kclpy.v2.processor` loads nothing else by itself."""
    code = V2.replace("from amazon_kclpy import kcl\n", "").split("    def shutdown")[0]
    async with standing(tmp_path, app(code)) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([[0, ""]]))
        await ear.span_done(1)
        assert stated(ear) == [(0, False)]


async def test_a_thread_of_the_processor_may_state_between_calls(tmp_path: Path) -> None:
    body = """
    def process_records(self, process_records_input):
        def later():
            while not os.path.exists("go"): time.sleep(0.001)
            process_records_input.checkpointer.checkpoint()
            effect("stated")
        threading.Thread(target=later).start()
"""
    async with standing(tmp_path, app(V3, body), target="app:Other") as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([[n, ""] for n in range(3)]))
        await ear.span_done(1)
        (tmp_path / "go").touch()
        await ear.until(lambda: len(ear.of(Stated)) == 2)
        assert stated(ear) == [(None, True), (2, False)]


V1 = (
    "from amazon_kclpy import kcl\nclass App(kcl.RecordProcessorBase):\n    def process_records(self, records, c): pass"
)
ASYNC = (
    app(V3, "    async def process_records(self, given): pass")
    .replace("App(", "Base(")
    .replace("Other(App", "App(Base")
)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (V1, "amazon_kclpy's first interface"),
        (ASYNC, "awaits none"),
        (app(V3, "    def __init__(self, table): pass").replace("Other", "App"), "made without arguments"),
    ],
    ids=["v1", "async", "arguments"],
)
async def test_what_cannot_be_run_is_said_in_one_sentence(tmp_path: Path, code: str, words: str) -> None:
    code = code.replace("class App(App)", "Base = App\nclass App(Base)")
    with pytest.raises(TargetError, match=words) as caught:
        async with standing(tmp_path, code):
            pass
    assert "\n" not in str(caught.value)


def published_sample() -> str:
    """The sample processor that amazon_kclpy is published with, as it is installed."""
    for name in ("amazon_kclpy", "kclpy-ext"):
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if str(file) == "samples/sample_kclpy_app.py":
                return file.read_text()
    pytest.skip("the installed amazon_kclpy comes without its sample")


async def test_amazon_kclpys_published_sample_runs_unchanged(tmp_path: Path) -> None:
    """It states once a minute, and on request."""
    (tmp_path / "published.py").write_text(published_sample())
    async with standing(tmp_path, "", target="published:RecordProcessor") as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([[n, ""] for n in range(700)]))
        await ear.span_done(1)
        ear.seat.end("shutdown_requested")
        await ear.until(lambda: ear.over)
        assert [owes for _, owes in stated(ear)[-2:]] == [True, False]
        assert stated(ear)[-1] == (699, False)
        assert not ear.hook_failures
