"""The demo's orders are as sick as it says, and its end counts them."""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import streamheal.demo.orders
from streamheal.demo import produce
from streamheal.demo.orders import Orders
from streamheal.demo.screen import faults, header, print_end
from streamheal.people.live import Totals
from streamheal.quarantine.envelope import Envelope
from streamheal.testing import Report, heal, record
from tests.people.envelopes import envelope

NEVER_IN_THIS_PROCESS = {"crash", "deadline"}


@pytest.fixture
def no_bank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda s: None)


def healed(given: list[produce.Order]) -> Report:
    return heal(Orders, [record(order.data, order.partition_key) for order in given])


def test_it_is_the_same_every_time() -> None:
    assert produce.orders() == produce.orders()
    orders = produce.orders()
    assert [order.number for order in orders] == list(range(1, 5001))
    assert Counter(order.sickness for order in orders) == {
        None: 4987,
        "exception": 9,
        "decode": 2,
        "crash": 1,
        "deadline": 1,
    }
    assert len(produce.expected()) == 13


@pytest.mark.usefixtures("no_bank")
def test_each_order_is_as_healthy_as_expected() -> None:
    orders = [order for order in produce.orders() if order.sickness not in NEVER_IN_THIS_PROCESS]
    report = healed(orders)
    assert len(report.done) == 4987
    assert {one.record.data: one.reason for one in report.quarantined} == {
        order.data: order.sickness for order in orders if order.sickness is not None
    }


@pytest.mark.parametrize(("sickness", "ends"), [("crash", -signal.SIGSEGV), ("deadline", "never")])
def test_what_crashes_and_what_never_ends_does_so(sickness: str, ends: object, tmp_path: Path) -> None:
    """In a process of its own, as the demo has it: the processor is copied into the user's folder."""
    shutil.copy(streamheal.demo.orders.__file__, tmp_path / "orders.py")
    (data,) = [order.data for order in produce.orders() if order.sickness == sickness]
    code = f"from orders import Orders; from streamheal import Record; Orders().process_record(Record(data={data!r}))"
    command = [sys.executable, "-X", "faulthandler=0", "-c", f"import resource; resource.setrlimit(4, (0, 0)); {code}"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        try:
            assert process.wait(timeout=1.5 if ends == "never" else 20) == ends
        except subprocess.TimeoutExpired:
            assert ends == "never"
        finally:
            process.kill()


def test_it_puts_all_of_them_in_order(stream: Any, aws: Any) -> None:
    name = stream(shards=4)
    kinesis = aws.client("kinesis")
    produce.put(kinesis, name, produce.orders()[:700])
    found = []
    for shard in kinesis.list_shards(StreamName=name)["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        mine = [one["Data"] for one in kinesis.get_records(ShardIterator=iterator)["Records"]]
        assert len(mine) > 100
        found += mine
    assert sorted(found) == sorted(order.data for order in produce.orders()[:700])


def sick() -> list[Envelope]:
    titles = {
        "crash": "SIGSEGV in ctypes.string_at, orders.py:41 in price",
        "deadline": "still in re.match after 2.0 s",
    }
    return [
        envelope(number, data=data, reason=reason, title=titles.get(reason, "KeyError: 'customer'"), fingerprint=reason)
        for number, (data, reason) in enumerate(produce.expected().items(), 1)
    ]


def end(totals: Totals, envelopes: list[Envelope], width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    wrong = faults(totals, envelopes, produce.expected(), orders=5000)
    print_end(console, totals, envelopes, orders=5000, took_s=9.44, wrong=wrong, options="--quarantine demo/quarantine")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_end_counts_says_what_happened_and_what_to_type() -> None:
    text = end(Totals(5000, 4987, 13, 0, 0), sick())
    assert " 5,000 orders read in 9.4 s: 4,987 done, 13 set aside, 0 lost.\n" in text
    causes = [line.split()[1] for line in text.split("\n") if line.endswith((" order", " orders"))]
    assert causes == ["crash", "deadline", "exception", "decode"]
    assert "9 orders" in text
    assert "streamheal quarantine show" in text
    assert "--quarantine demo/quarantine" in text
    assert "add up" not in text


@pytest.mark.parametrize(
    ("totals", "envelopes", "fault"),
    [
        (Totals(4999, 4986, 13, 0, 0), sick(), "4,999 of 5,000 orders read"),
        (Totals(5000, 4986, 13, 0, 1), sick(), "1 order still open"),
        (Totals(5000, 4985, 13, 0, 0), sick(), "read is not done"),
        (Totals(5000, 4988, 12, 0, 0), sick()[1:], "should be in quarantine for exception, and not so"),
        (Totals(5000, 4986, 14, 0, 0), [*sick(), envelope(99)], "in quarantine for exception, and should not be"),
        (Totals(5000, 4987, 13, 0, 0), sick() + sick()[:1], "in quarantine for exception, and should not be"),
    ],
)
def test_what_does_not_add_up_is_said(totals: Totals, envelopes: list[Envelope], fault: str) -> None:
    text = end(totals, envelopes, 120)
    assert "This does not add up: " in text
    assert fault in text


def test_the_header_says_what_it_runs_on() -> None:
    assert header("orders", 4, "http://127.0.0.1:4566") == (
        "streamheal demo   stream orders · 4 shards · embedded AWS on 127.0.0.1:4566 · no Java, no Docker, no account"
    )
