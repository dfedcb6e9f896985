from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamheal.attempts import cut, fingerprint
from tests.quarantine.samples import attempt


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 4711 is unknown", "order 12 is unknown"),
        ("<Order object at 0x7f3a9c0d1e50>", "<Order object at 0x55aa01ffee00>"),
        ("no 3f2b8c1e-77aa-4c51-9d0e-0a1b2c3d4e5f", "no 00000000-0000-4000-8000-000000000000"),
        ("late since 2026-11-24T12:04:03.100Z", "late since 2025-01-02T00:00:00Z"),
        ("missing rows 1, 2, 3", "missing rows 8, 9"),
        ("refused\nrow 1 of many", "refused\nsomething else entirely"),
    ],
)
def test_failures_that_differ_in_particulars_have_one_fingerprint(one: str, other: str) -> None:
    assert fingerprint(attempt(message=one)) == fingerprint(attempt(message=other))


def test_line_numbers_do_not_change_the_fingerprint() -> None:
    """A release that moves the code by a line does not make a new failure of the old one."""
    before = attempt(where="orders.py:23 in process_record", traceback="line 23")
    after = attempt(where="orders.py:29 in process_record", traceback="line 29", number=7, started_at="later")
    assert fingerprint(before) == fingerprint(after)


def test_type_frames_and_words_each_make_another_fingerprint() -> None:
    different = [
        attempt(),
        attempt(exception_type="ValueError"),
        attempt(frames=("orders.py:process_record", "orders.py:price")),
        attempt(message="'address'"),
        attempt(outcome="crash", exception_type=None, message=None, signal="SIGSEGV"),
        attempt(outcome="crash", exception_type=None, message=None, exit_code=1),
        attempt(outcome="crash", exception_type=None, message=None, exit_code=2),
        attempt(outcome="deadline", exception_type=None, message=None),
    ]
    assert len({fingerprint(one) for one in different}) == len(different)


def test_a_hang_is_told_by_its_place_and_not_by_how_it_was_ended() -> None:
    hang = attempt(outcome="deadline", exception_type=None, message=None)
    killed = attempt(outcome="deadline", exception_type=None, message=None, signal="SIGKILL")
    assert fingerprint(hang) == fingerprint(killed)


def test_a_fingerprint_never_changes_from_release_to_release() -> None:
    """People write them into tickets, and replay by them. Changing this value breaks theirs."""
    assert fingerprint(attempt(message="order 4711 has no 'customer'")) == "b8b009c7a0d4"


def test_a_message_without_a_digit_costs_no_time() -> None:
    """A word of 8 KiB in which no digit comes is looked through once, not once from each letter."""
    began = time.perf_counter()
    fingerprint(attempt(message="x" * 8192 + " " + "y" * 8192))
    assert time.perf_counter() - began < 0.1


def test_texts_are_cut_in_the_middle() -> None:
    text = cut("begin" + "x" * 10_000 + "end", 100)
    assert text.startswith("begin")
    assert text.endswith("end")
    assert "… 9,934 bytes cut …" in text


def test_a_text_of_just_the_size_stays_whole() -> None:
    assert cut("ä" * 50, 100) == "ä" * 50


@given(st.text(), st.integers(40, 200))
def test_whatever_is_cut_fits_and_can_be_written(text: str, bytes_max: int) -> None:
    """Half a character at the edge, lone surrogates: what comes out is text in UTF-8 that fits."""
    assert len(cut(text, bytes_max).encode()) <= bytes_max


def test_lone_surrogates_become_text() -> None:
    assert cut("name \udcff", 100) == "name \\udcff"
