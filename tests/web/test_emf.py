"""Figures for CloudWatch: what a line says, when it is written, and what happens when it cannot be."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from streamheal.runtime.figures import ShardFigures
from streamheal.web.emf import Emitter
from tests.web.emf_rules import check_emf

FIRST = ShardFigures(
    stream="orders",
    shard_id="shardId-000000000000",
    read=100,
    done=80,
    quarantined=12,
    filtered=5,
    in_flight=3,
    lag_s=1.5,
    retention_left_s=86_000.0,
    oldest_open_s=0.25,
    paused=True,
)
SECOND = ShardFigures(
    stream="orders",
    shard_id="shardId-000000000001",
    read=9,
    done=7,
    quarantined=0,
    in_flight=2,
    lag_s=30.0004,
    retention_left_s=70_000.0,
    oldest_open_s=29.0,
)


class Host:
    def __init__(self, *shards: ShardFigures) -> None:
        self.shards = shards

    def figures(self) -> tuple[ShardFigures, ...]:
        return self.shards


class Paper:
    """An output that takes every line, or none."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.refuses = False

    def write(self, line: bytes) -> None:
        if self.refuses:
            raise BlockingIOError(11, "nobody reads it")
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        self.lines.append(check_emf(line.decode()))

    def take(self) -> dict[str, dict[str, Any]]:
        """What was written since, by shard; the line of all is under the empty name."""
        taken, self.lines = self.lines, []
        found = {line.get("shard", ""): figures(line) for line in taken}
        assert len(found) == len(taken), "two lines for one shard"
        return found


def figures(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in ("_aws", "application", "stream", "shard")}


def emitter(host: Host, paper: Paper, **options: Any) -> Emitter:
    return Emitter("order-service", "orders", host, paper, wall_clock=lambda: 1_750_000_000.25, **options)


def test_a_shard_has_a_line_with_its_figures_and_their_units() -> None:
    paper = Paper()
    emitter(Host(FIRST), paper).tell()
    assert paper.lines[0] == {
        "_aws": {
            "Timestamp": 1_750_000_000_250,
            "CloudWatchMetrics": [
                {
                    "Namespace": "streamheal",
                    "Dimensions": [["application", "stream", "shard"]],
                    "Metrics": [
                        {"Name": "records_done", "Unit": "Count"},
                        {"Name": "records_quarantined", "Unit": "Count"},
                        {"Name": "shard_lag_seconds", "Unit": "Seconds"},
                        {"Name": "oldest_open_seconds", "Unit": "Seconds"},
                        {"Name": "retention_left_seconds", "Unit": "Seconds"},
                        {"Name": "records_in_flight", "Unit": "Count"},
                        {"Name": "paused", "Unit": "Count"},
                    ],
                }
            ],
        },
        "application": "order-service",
        "stream": "orders",
        "shard": "shardId-000000000000",
        "records_done": 80,
        "records_quarantined": 12,
        "shard_lag_seconds": 1.5,
        "oldest_open_seconds": 0.25,
        "retention_left_seconds": 86_000,
        "records_in_flight": 3,
        "paused": 1,
    }


def test_the_line_of_all_has_the_worst_times_and_the_sums() -> None:
    paper = Paper()
    emitter(Host(FIRST, SECOND), paper).tell()
    (directive,) = paper.lines[-1]["_aws"]["CloudWatchMetrics"]
    assert directive["Dimensions"] == [["application", "stream"]]
    assert paper.take()[""] == {
        "shards_held": 2,
        "records_done": 87,
        "records_quarantined": 12,
        "shard_lag_seconds": 30.0,
        "oldest_open_seconds": 29.0,
        "retention_left_seconds": 70_000.0,
        "records_in_flight": 5,
        "paused": 1,
    }


def test_a_host_without_a_shard_says_so_and_tells_no_lag() -> None:
    paper = Paper()
    emitter(Host(), paper).tell()
    assert paper.take() == {
        "": {"shards_held": 0, "records_done": 0, "records_quarantined": 0, "records_in_flight": 0, "paused": 0}
    }


def test_what_is_not_known_is_left_out() -> None:
    paper = Paper()
    emitter(Host(replace(SECOND, lag_s=None, retention_left_s=None, oldest_open_s=None)), paper).tell()
    for line in paper.take().values():
        assert not {"shard_lag_seconds", "retention_left_seconds", "oldest_open_seconds"} & line.keys()


def test_counts_are_what_has_come_since_the_line_before() -> None:
    paper, host = Paper(), Host(FIRST)
    telling = emitter(host, paper)
    telling.tell()
    paper.take()
    host.shards = (replace(FIRST, done=95),)
    telling.tell()
    found = paper.take()
    assert found[FIRST.shard_id]["records_done"] == found[""]["records_done"] == 15
    assert found[FIRST.shard_id]["records_quarantined"] == found[""]["records_quarantined"] == 0


def test_a_shard_that_is_gone_has_one_more_line_for_what_was_done_and_then_none() -> None:
    paper, host = Paper(), Host(FIRST, SECOND)
    telling = emitter(host, paper)
    telling.tell()
    paper.take()
    host.shards = (FIRST, replace(SECOND, done=8).left())
    telling.tell()
    found = paper.take()
    assert found[SECOND.shard_id] == {"records_done": 1, "records_quarantined": 0}
    assert (found[""]["shards_held"], found[""]["shard_lag_seconds"]) == (1, 1.5)
    telling.tell()
    assert SECOND.shard_id not in paper.take()


def test_a_shard_that_was_lost_with_records_open_and_has_come_back_counts_on() -> None:
    paper, host = Paper(), Host(SECOND)
    telling = emitter(host, paper)
    telling.tell()
    paper.take()
    host.shards = (SECOND.left(), ShardFigures("orders", SECOND.shard_id, read=4, done=4, quarantined=0))
    telling.tell()
    found = paper.take()
    assert found[SECOND.shard_id]["records_done"] == found[""]["records_done"] == 4
    assert found[""]["shards_held"] == 1


def test_what_could_not_be_written_is_part_of_the_next_line_and_said_once() -> None:
    paper, host = Paper(), Host(FIRST)
    telling = emitter(host, paper)
    with structlog.testing.capture_logs() as log:
        paper.refuses = True
        telling.tell()
        telling.tell()
        paper.refuses = False
        host.shards = (replace(FIRST, done=90),)
        telling.tell()
    assert paper.take()[""]["records_done"] == 90
    assert log == [{"event": "metrics_not_written", "to": "stdout", "error": "nobody reads it", "log_level": "warning"}]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 9), st.booleans(), st.booleans()), max_size=12
    )
)
def test_the_counts_add_up_whatever_comes_between(steps: list[tuple[int, int, int, bool, bool]]) -> None:
    """Shards come and go and work on, lines are refused: their sums are what was done, by shard and in all."""
    paper, host = Paper(), Host()
    telling = emitter(host, paper)
    told: Counter[str] = Counter()
    true = {nth: ShardFigures("orders", f"shardId-{nth:012d}", 0, 0, 0) for nth in range(4)}
    for nth, done, quarantined, held, refuses in (*steps, (0, 0, 0, False, False)):
        before = true[nth]
        true[nth] = replace(before, done=before.done + done, quarantined=before.quarantined + quarantined, held=held)
        host.shards, paper.refuses = tuple(true.values()), refuses
        telling.tell()
        for shard_id, line in paper.take().items():
            told[shard_id] += line["records_done"] + line["records_quarantined"]
    assert told[""] == sum(told.values()) - told[""]
    for shard in true.values():
        assert told[shard.shard_id] == shard.done + shard.quarantined


def test_the_first_line_comes_soon_and_the_others_by_the_minute() -> None:
    paper, waits = Paper(), list[float]()

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 4:
            raise asyncio.CancelledError

    async def tell() -> None:
        telling = asyncio.create_task(emitter(Host(FIRST), paper, pause=pause).keep_telling())
        await asyncio.wait([telling], timeout=20)
        assert telling.cancelled()

    asyncio.run(tell())
    assert waits[0] <= 5
    assert [round(due, 0) for due in waits[1:]] == [65, 125, 185]
    assert len(paper.lines) == 6


# -- standard output itself: a real process, because descriptors are the operating system's business

WRITER = """
import sys
from streamheal.web.stdout import Stdout
out = Stdout()
try:
    for number in range(int(sys.argv[1])):
        out.write(b"%04000d\\n" % number)
except OSError as error:
    sys.exit(f"{type(error).__name__} {error.strerror}")
"""


def test_a_pipe_that_nobody_reads_is_told_and_not_waited_for() -> None:
    """What was written before is whole."""
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, "1000"], stdout=writing, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(writing)
        try:
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read().split(b"\n")
    assert (process.returncode, said) == (1, "BlockingIOError nobody reads it\n")
    assert lines.pop() == b""
    assert [int(line) for line in lines] == list(range(len(lines)))
    assert {len(line) for line in lines} == {4000}


def test_a_pipe_whose_reader_has_gone_is_told() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", WRITER, "1"], stdout=writing, stderr=subprocess.PIPE, timeout=20, check=False
    )
    os.close(writing)
    assert done.stderr == b"BrokenPipeError Broken pipe\n"


def test_a_closed_output_is_told_and_whoever_has_its_number_now_is_left_alone(tmp_path: Path) -> None:
    """`>&-`: the next file that is opened gets number 1, and might be the state's database."""
    code = f"import os; assert os.open({str(tmp_path / 'state.db')!r}, os.O_CREAT | os.O_WRONLY) == 1\n{WRITER}"
    done = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" 1 >&-', sys.executable, code], stderr=subprocess.PIPE, timeout=20, check=False
    )
    assert done.stderr == b"OSError Bad file descriptor\n"
    assert (tmp_path / "state.db").read_bytes() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full: only Linux has a disk that is always full")
def test_a_full_disk_is_told() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", WRITER, "1"], stdout=full, stderr=subprocess.PIPE, timeout=20, check=False
        )
    assert done.stderr == b"OSError No space left on device\n"


def test_the_longest_names_fit_into_a_line_that_stays_whole() -> None:
    """Application and stream as long as they may be, and numbers of fifteen digits."""
    written: list[bytes] = []

    class Ruler:
        def write(self, line: bytes) -> None:
            written.append(line)

    big = 999_999_999_999_999
    shard = replace(
        FIRST, done=big, quarantined=big, in_flight=big, lag_s=big / 7, oldest_open_s=big / 7, retention_left_s=big / 7
    )
    Emitter("a" * 255, "s" * 128, Host(shard), Ruler()).tell()
    assert max(map(len, written)) <= 2048
    assert json.loads(written[0])["application"] == "a" * 255
