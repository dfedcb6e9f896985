"""The card explains one record: what failed, how often, where, and what to type."""

from __future__ import annotations

import base64
import ctypes
import json
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamheal.people.card import print_card
from streamheal.people.payload import _lay_out, preview
from streamheal.quarantine.envelope import Discard, Replay
from tests.people.envelopes import attempt, console, envelope, printed


def card(of: Any, width: int = 100, **options: Any) -> str:
    on = console(width)
    print_card(of, on, **options)
    return printed(on)


def failing(folder: Path) -> dict[str, Any]:
    """What a real exception in a real file leaves behind."""
    file = folder / "orders.py"
    file.write_text("def process_record(order):\n    total = 3\n    print(order['customer'], total)\n\n\nmore = 1\n")
    space: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), space)
    try:
        space["process_record"]({})
    except KeyError:
        return {"traceback": traceback.format_exc(), "where": "orders.py:3 in process_record"}
    raise AssertionError("it did not fail")


def test_a_card_says_it_all() -> None:
    assert (
        card(envelope(3), group_size=9, width=120)
        == """\
KeyError: 'customer'                                      exception · open · 9 records alike · since 24 Nov 12:04:03 UTC
orders.py:23 in process_record

  It failed 3 times in 1.9 s, while other records of this shard succeeded.

Record   shardId-000000000002  49638…0003  key cust-7  arrived 24 Nov 12:04:01.100 (2.0 s before its first try)
         {"order": 4711}
         15 bytes
Attempts
  1  12:04:03.100    0.8 ms   KeyError: 'customer'
  2  12:04:03.200    0.8 ms   the same
  3  12:04:03.300    0.8 ms   the same, in a process of its own
Code     shop.orders:Orders  release 3f9c2d1  Python 3.12.1  boto3 1.44.5  on ip-10-0-0-7

Next  streamheal replay {id}                       try it again, once mended
      streamheal replay --fingerprint 0a1b2c3d4e5f             try all 9 records that failed like it
      streamheal quarantine discard {id} --why …   give it up
      streamheal quarantine show {id} --json       all of it, bytes and tracebacks
""".replace("{id}", envelope(3).id)
    )


@pytest.mark.parametrize("width", [80, 120])
def test_lines_fit_but_for_commands(width: int) -> None:
    lines = card(envelope(1, title="E: " + "long " * 90), width).split("\n\nNext")[0].split("\n")
    assert max(map(len, lines)) <= width


def test_the_failing_line_is_shown_where_its_file_is_here(tmp_path: Path) -> None:
    text = card(envelope(attempts=[attempt(**failing(tmp_path))]))
    assert "▶    3      print(order['customer'], total)" in text
    assert "     2      total = 3" in text
    assert "Traceback" not in text


def test_a_file_that_changed_since_is_not_quoted(tmp_path: Path) -> None:
    left = failing(tmp_path)
    (tmp_path / "orders.py").write_text("# new\n# code\n# here\n")
    text = card(envelope(attempts=[attempt(**left)]))
    assert "▶" not in text
    assert "print(order['customer'], total)" in text
    assert "Traceback (most recent call last)" in text


def test_the_stack_of_a_hang_finds_its_line_too(tmp_path: Path) -> None:
    failing(tmp_path)
    stack = f'Thread 0x1 (most recent call first):\n  File "{tmp_path}/orders.py", line 2 in process_record\n'
    hung = attempt(
        outcome="deadline", exception_type=None, message=None, stack=stack, where="orders.py:2 in process_record"
    )
    text = card(envelope(reason="deadline", attempts=[hung]))
    assert "still running at its deadline: stopped" in text
    assert "▶    2      total = 3" in text


@pytest.mark.parametrize("path", ["/dev/zero", "/etc/hostname", "/nowhere/orders.py"])
def test_only_python_files_are_opened(path: str) -> None:
    """The path comes out of an envelope, and an envelope is somebody's input."""
    name = path.rsplit("/", 1)[1]
    stack = f'  File "{path}", line 1 in x'
    assert "▶" not in card(envelope(attempts=[attempt(stack=stack, where=f"{name}:1 in x")]))


def test_masked_payloads_stay_masked() -> None:
    secret = envelope(data=b'{"card": "4111111111111111"}')
    secret.masked_base64 = base64.b64encode(b'{"card": "4111 ****"}').decode()
    text = card(secret)
    assert "4111 ****" in text
    assert "4111111111111111" not in text
    assert "masked by the processor" in text


def test_spilled_payloads_say_where_they_are() -> None:
    assert "kept at s3://bucket/key" in card(envelope(data=None, data_ref="s3://bucket/key"))


def test_other_peoples_text_is_neither_obeyed_nor_read_as_markup() -> None:
    evil = "[bold red]x[/] \x1b[2J\x1b]0;owned\x07"
    of = envelope(
        data=evil.encode(), title=evil, verdict=evil, partition_key=evil, host=evil,
        attempts=[attempt(message=evil, log=evil, traceback=evil, where=evil)],
    )  # fmt: skip
    on = console(100, force_terminal=True, color_system="truecolor")
    print_card(of, on)
    text = printed(on)
    assert "\x1b]0" not in text
    assert "\x1b[2J" not in text
    assert text.count("[bold red]x[/]") >= 6


def test_a_crash_is_named_by_its_signal() -> None:
    died = attempt(outcome="crash", exception_type=None, message=None, signal="SIGSEGV", alone=True)
    left = attempt(outcome="crash", exception_type=None, message=None, exit_code=7)
    text = card(envelope(reason="crash", attempts=[died, left]))
    assert "its process died: SIGSEGV, in a process of its own" in text
    assert "its process exited with 7" in text


def test_a_try_alone_where_others_had_run_before_is_told_from_one_in_a_worker() -> None:
    """Only the last is one that nobody else can have to do with."""
    of = {"outcome": "crash", "exception_type": None, "message": None, "signal": "SIGSEGV"}
    shared, used = attempt(**of, worker="worker 1 (pid 7)"), attempt(**of, worker="cell (pid 8)", number=2)
    fresh = attempt(**of, worker="cell (pid 9)", number=3, alone=True)
    tries = [
        line.split("   ")[-1] for line in card(envelope(reason="crash", attempts=[shared, used, fresh])).split("\n")
    ]
    at = tries.index("its process died: SIGSEGV")
    assert tries[at + 1] == "the same, alone, where others had run before"
    assert tries[at + 2] == "the same, in a process of its own"


def test_of_very_many_tries_the_first_and_the_last_are_shown() -> None:
    text = card(envelope(attempts=[attempt(n % 9 + 1, message=str(n)) for n in range(25)]))
    assert "…  19 tries left out" in text
    assert "KeyError: 24" in text


def test_the_log_of_the_last_try_is_shown_by_its_end() -> None:
    log = "\n".join(f"line {n}" for n in range(100))
    text = card(envelope(attempts=[attempt(log=log)]))
    assert "log: line 99" in text
    assert "log: line 93" not in text


def test_what_became_of_it_is_told() -> None:
    again = Replay(at="2026-11-25T08:00:00Z", code_version="aaaa111", outcome="failed", attempt=attempt())
    healed = Replay(at="2026-11-25T09:00:00Z", code_version="bbbb222", outcome="healed")
    text = card(envelope(replays=[again, healed], status="healed"))
    assert "Replays  25 Nov 08:00:00  failed  release aaaa111  KeyError: 'customer'" in text
    assert "         25 Nov 09:00:00  healed  release bbbb222" in text
    assert "Next" not in text
    gone = card(envelope(status="discarded", discard=Discard(at="2026-11-25T09:00:00Z", by="ann", why="a test order")))
    assert "Given up 25 Nov 09:00:00 by ann: a test order" in gone


def test_an_envelope_without_tries_is_shown_too() -> None:
    assert "none: it was set aside without being tried" in card(envelope(attempts=[], reason="parked"))


def test_json_is_laid_out_when_it_does_not_fit_on_a_line() -> None:
    small, big = {"order": 1}, {f"item {n}": n for n in range(40)}
    assert preview(json.dumps(small).encode(), 60) == ['{"order": 1}']
    lines = preview(json.dumps(big).encode(), 60)
    assert lines[:2] == ["{", '  "item 0": 0,']
    assert lines[-1] == "…"
    assert len(lines) <= 16
    nested = {"order": 4711, "items": [{"article": "lamp", "cents": 4450}, {"article": "rug", "cents": 11900}]}
    assert preview(json.dumps(nested).encode(), 50) == [
        "{",
        '  "order": 4711,',
        '  "items": [',
        '    {"article": "lamp", "cents": 4450},',
        '    {"article": "rug", "cents": 11900}',
        "  ]",
        "}",
    ]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=9),
        lambda one: st.lists(one) | st.dictionaries(st.text(max_size=9), one),
    )
)
def test_laid_out_json_is_the_same_json(value: Any) -> None:
    ascii_only = json.dumps(value)
    lines = "\n".join(_lay_out(json.loads(ascii_only), "", 20))
    if "\\u" not in ascii_only and "\\x" not in lines:
        assert json.loads(lines) == value


def test_text_is_text_and_the_rest_is_bytes() -> None:
    assert preview(b"<order>\n\tx\n</order>", 60) == ["<order>", "    x", "</order>"]
    assert preview(b"\x00\x01AB\xff", 80) == ["000000  00 01 41 42 ff" + " " * 33 + "  ..AB."]
    assert preview(b"", 80) == ["(no bytes)"]
    assert preview(b"[" * 100_000, 80)[0].startswith("[[[")


def test_a_payload_of_megabytes_is_cut_quickly() -> None:
    lines = preview(bytes(ctypes.create_string_buffer(b"x" * (10 << 20))), 80)
    assert len(lines) <= 16
