from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from streamheal.attempts import Attempt
from streamheal.core.messages import At, Quarantine, Verdict
from streamheal.quarantine.envelope import Envelope
from streamheal.quarantine.prose import title, verdict
from streamheal.quarantine.seal import seal
from streamheal.records import Record
from tests.quarantine.samples import CODE, attempt

NOON = datetime(2026, 11, 24, 12, 4, 5, 12_345, tzinfo=UTC)

STRING_AT = """\
Fatal Python error: Segmentation fault

Thread 0x00007f11d5ffb6c0 (most recent call first):
  File "/usr/local/lib/python3.12/threading.py", line 355 in wait
  File "/usr/local/lib/python3.12/threading.py", line 1431 in run

Current thread 0x00007f11f0a3b740 (most recent call first):
  File "/usr/local/lib/python3.12/ctypes/__init__.py", line 524 in string_at
  File "/app/shop/orders.py", line 41 in price
  File "/app/shop/orders.py", line 23 in process_record
"""


def sealed(*attempts: Attempt, grounds: Verdict = Verdict.WITNESSED, **fields: Any) -> Envelope:
    record = Record(
        data=b'{"order": 4711}',
        partition_key="cust-7",
        sequence_number="49638",
        sub_sequence_number=2,
        approximate_arrival_timestamp=datetime(2026, 11, 24, 13, 4, 1, 120_000, tzinfo=UTC),
        shard_id="shardId-000000000000",
    )
    return seal(
        record,
        application="shop-orders",
        stream="orders",
        decision=Quarantine(At(0, 1), grounds, since=10.0, until=10.4),
        attempts=attempts,
        code=CODE,
        host="ip-10-0-0-1",
        now=NOON,
        **fields,
    )


def test_an_envelope_has_the_record_and_its_whole_story() -> None:
    tries = (attempt(), attempt(number=2), attempt(number=3, alone=True))
    envelope = sealed(*tries)
    assert envelope.data == b'{"order": 4711}'
    assert (envelope.sequence_number, envelope.sub_sequence_number) == ("49638", 2)
    assert envelope.approximate_arrival_timestamp == "2026-11-24T13:04:01.120Z"
    assert envelope.quarantined_at == "2026-11-24T12:04:05.012Z"
    assert envelope.attempts == list(tries)
    assert envelope.status == "open"
    assert envelope.shown == b'{"order": 4711}'


def test_the_id_is_the_same_for_the_same_record_and_application() -> None:
    assert sealed(attempt()).id == sealed(attempt(message="something else")).id
    assert len(sealed(attempt()).id) == 16
    assert sealed(attempt()).id.isalnum()


def test_what_is_masked_is_what_is_shown() -> None:
    envelope = sealed(attempt(), masked=b"***")
    assert envelope.data == b'{"order": 4711}'
    assert envelope.shown == b"***"


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("exception", "exception"),
        ("decode", "decode"),
        ("rejected", "rejected"),
        ("deadline", "deadline"),
        ("crash", "crash"),
    ],
)
def test_the_reason_is_how_the_last_try_ended(outcome: str, reason: str) -> None:
    assert sealed(attempt(), attempt(number=2, outcome=outcome)).reason == reason


def test_a_throttled_try_is_never_the_reason() -> None:
    """Throttled says that the world was busy: the record's own failure came before."""
    envelope = sealed(attempt(outcome="crash", message=None, signal="SIGSEGV"), attempt(number=2, outcome="throttled"))
    assert envelope.reason == "crash"
    assert envelope.title.startswith("SIGSEGV")


# -- titles --------------------------------------------------------------------------------


def test_an_exception_is_titled_by_its_type_message_and_place() -> None:
    assert title(attempt()) == "KeyError: 'customer', orders.py:23 in process_record"
    assert title(attempt(exception_type="botocore.exceptions.ClientError", message="no such table\nmore")) == (
        "ClientError: no such table, orders.py:23 in process_record"
    )
    assert title(attempt(message="", where=None)) == "KeyError"


def test_a_decode_error_is_titled_by_its_message_alone() -> None:
    decode = attempt(
        outcome="decode", exception_type="streamheal.DecodeError", message="not JSON: expected value at byte 0"
    )
    assert title(decode) == "not JSON: expected value at byte 0"


def test_a_crash_is_titled_by_its_signal_and_the_call_it_died_in() -> None:
    crash = attempt(
        outcome="crash",
        exception_type=None,
        message=None,
        signal="SIGSEGV",
        stack=STRING_AT,
        where="orders.py:41 in price",
    )
    assert title(crash) == "SIGSEGV in ctypes.string_at, orders.py:41 in price"


def test_a_crash_in_the_applications_own_code_names_it_once() -> None:
    stack = 'Current thread 0x1 (most recent call first):\n  File "/app/orders.py", line 41 in price\n'
    crash = attempt(
        outcome="crash", exception_type=None, message=None, signal="SIGABRT", stack=stack, where="orders.py:41 in price"
    )
    assert title(crash) == "SIGABRT, orders.py:41 in price"


def test_a_process_that_left_is_titled_by_its_exit_code() -> None:
    crash = attempt(outcome="crash", exception_type=None, message=None, exit_code=3, where=None)
    assert title(crash) == "its process exited with 3"


def test_a_kill_that_nobody_of_ours_sent_is_put_down_to_memory() -> None:
    crash = attempt(outcome="crash", exception_type=None, message=None, signal="SIGKILL", where=None)
    assert title(crash) == "SIGKILL, as the kernel sends it when memory runs out"


@pytest.mark.parametrize(
    "message",
    ["grew past 512 MiB", "the process was stopped again and again (SIGSTOP)", "the host died while this record ran"],
)
@pytest.mark.parametrize("signal", ["SIGKILL", None])
def test_a_process_that_did_not_end_by_itself_is_titled_by_what_was_wrong_with_it(
    message: str, signal: str | None
) -> None:
    crash = attempt(outcome="crash", exception_type=None, message=message, signal=signal, where="orders.py:41 in price")
    assert title(crash) == f"{message}, orders.py:41 in price"


@pytest.mark.parametrize(
    ("message", "how", "titled"),
    [
        ("the process died of SIGSEGV", {"signal": "SIGSEGV"}, "SIGSEGV"),
        ("the process exited with code 3", {"exit_code": 3}, "its process exited with 3"),
    ],
)
def test_one_that_did_is_titled_by_how_it_ended(message: str, how: dict[str, Any], titled: str) -> None:
    assert title(attempt(outcome="crash", exception_type=None, message=message, where=None, **how)) == titled


def test_a_hang_is_titled_by_the_call_it_was_in() -> None:
    stack = """\
Current thread 0x00007f11f0a3b740 (most recent call first):
  File "/usr/local/lib/python3.12/re/__init__.py", line 166 in match
  File "/app/shop/orders.py", line 57 in postcode
"""
    hang = attempt(
        outcome="deadline",
        exception_type=None,
        message=None,
        duration_s=2.003,
        stack=stack,
        where="orders.py:57 in postcode",
    )
    assert title(hang) == "still in re.match after 2.0 s, orders.py:57 in postcode"
    assert title(attempt(outcome="deadline", duration_s=30.0, where=None)) == "still running after 30.0 s"


def test_a_library_in_site_packages_is_named_by_its_module() -> None:
    stack = """\
Thread 0x1 (most recent call first):
  File "/opt/venv/lib/python3.12/site-packages/psycopg/connection.py", line 88 in wait
  File "/app/orders.py", line 9 in save
"""
    hang = attempt(outcome="deadline", duration_s=30.0, stack=stack, where="orders.py:9 in save")
    assert title(hang) == "still in psycopg.connection.wait after 30.0 s, orders.py:9 in save"


def test_a_title_is_one_line_of_bounded_length() -> None:
    long = title(attempt(message="word " * 1000))
    assert "\n" not in long
    assert len(long) < 160
    assert long.endswith("…, orders.py:23 in process_record")


# -- verdicts ------------------------------------------------------------------------------

THREE_TRIES = (
    attempt(),
    attempt(number=2, started_at="2026-11-24T12:04:03.640Z"),
    attempt(number=3, started_at="2026-11-24T12:04:05.000Z", duration_s=0.0, alone=True),
)


def said(grounds: Verdict, *attempts: Attempt, since: float | None = None, until: float | None = None) -> str:
    tries = attempts or THREE_TRIES
    return verdict(Quarantine(At(0, 0), grounds, since, until), tries, tries[-1])


def test_a_witnessed_verdict_names_the_tries_and_the_witnesses() -> None:
    assert said(Verdict.WITNESSED, since=4.0, until=4.4) == (
        "It failed 3 times in 1.9 s, the last time alone in a process of its own; other records of its shard "
        "succeeded just before and just after (0.4 s apart)."
    )


def test_a_crash_says_that_it_killed_its_process() -> None:
    crash = {"outcome": "crash", "signal": "SIGSEGV", "alone": True}
    text = said(
        Verdict.WITNESSED,
        attempt(**crash),
        attempt(**crash, number=2, started_at="2026-11-24T12:04:05.099Z", duration_s=0),
    )
    assert text.startswith("It killed its process twice in 2.0 s, the last time alone in a process of its own; ")


def test_a_process_that_died_around_a_record_is_no_failure_of_its_own() -> None:
    stood = attempt(outcome="crash", exception_type=None, message=None, signal="SIGSEGV")
    second, third = THREE_TRIES[1:]
    assert said(Verdict.STAYS, stood, second, third) == (
        "It failed twice in 1.4 s, the last time alone in a process of its own, not counting a process that ended "
        "while it ran, in a replay: it stays in quarantine."
    )
    once = said(Verdict.WITNESSED, stood, second)
    assert once.startswith("It failed once, not counting a process that ended while it ran; other records")
    shared = attempt(outcome="crash", signal="SIGSEGV")
    alone = attempt(outcome="crash", signal="SIGSEGV", alone=True, number=2, started_at="2026-11-24T12:04:05.099Z")
    assert said(Verdict.WITNESSED, shared, alone).startswith("It killed its process twice")


def test_a_throttled_try_is_not_counted_among_the_failures() -> None:
    """The world was busy, or its processor could not be initialized in the cell."""
    crash = {"outcome": "crash", "signal": "SIGSEGV", "alone": True}
    tries = attempt(**crash), attempt(outcome="throttled", number=2), attempt(**crash, number=3)
    assert said(Verdict.WITNESSED, *tries).startswith("It killed its process twice in ")


def test_what_the_processor_said_needs_no_witness() -> None:
    assert said(Verdict.SAID_SO, attempt(outcome="decode")) == (
        "The processor itself said that this record does not decode, and the same bytes will not decode later: "
        "one try is enough, and no witness is needed."
    )
    rejected = attempt(outcome="rejected", exception_type="streamheal.errors.Poison")
    assert "can never be handled (Poison)" in said(Verdict.SAID_SO, rejected)


@pytest.mark.parametrize("grounds", [Verdict.THINLY, Verdict.NOBODY_ELSE, Verdict.LEFT_OVER])
def test_a_verdict_that_may_be_wrong_says_so(grounds: Verdict) -> None:
    assert "less sure" in said(grounds)


@pytest.mark.parametrize("grounds", [Verdict.WITNESSED, Verdict.SAID_SO, Verdict.STAYS])
def test_a_verdict_on_good_grounds_hedges_nothing(grounds: Verdict) -> None:
    assert "less sure" not in said(grounds)


def test_a_record_tried_once_has_failed_once() -> None:
    assert said(Verdict.STAYS, attempt()) == "It failed once, in a replay: it stays in quarantine."


def test_a_verdict_on_a_record_that_killed_hosts_says_that_it_was_not_run_again() -> None:
    died = [attempt(outcome="crash", exception_type=None, alone=True) for _ in range(2)]
    assert said(Verdict.KILLED_HOSTS, *died) == (
        "Twice the host died while this record ran in it, with nothing else beside it; it was not run again. "
        "Other records of its shard have succeeded since."
    )
