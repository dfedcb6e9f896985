"""Whatever users' data says, the terminal obeys none of it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamheal.people.plain import count, duration, moment, one_line, plain, prefix_length, short, short_shard, size


@given(st.text(st.characters()))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = plain(text)
    obeyed = [char for char in shown if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert set(obeyed) <= {"\n", "\t"}
    shown.encode()  # lone surrogates are gone: every line can be written


@given(st.text(st.characters()))
def test_one_line_is_one_line_and_not_longer_than_asked(text: str) -> None:
    line = one_line(text, 40)
    assert "\n" not in line
    assert len(line) <= 40


def test_escape_sequences_are_shown() -> None:
    assert plain("\x1b[2Jgone\x07") == "\\x1b[2Jgone\\x07"
    assert plain("price \u202e001") == "price \\u202e001"
    assert plain("half \ud83d") == "half \\ud83d"


def test_letters_of_all_languages_stay() -> None:
    assert plain("Müller 注文 🙂\nnext") == "Müller 注文 🙂\nnext"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0008, "0.8 ms"),
        (0.708, "0.7 s"),
        (1.94, "1.9 s"),
        (250, "4 min 10 s"),
        (12_000, "3 h 20 min"),
        (0, "< 0.1 ms"),
    ],
)
def test_durations_carry_their_unit(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_numbers_carry_what_they_count() -> None:
    assert count(1, "record") == "1 record"
    assert count(1234, "record") == "1,234 records"
    assert count(2, "try", "tries") == "2 tries"
    assert size(188) == "188 bytes"
    assert size(64 * 1024) == "64 KiB"
    assert size(10 << 20) == "10 MiB"


def test_positions_are_known_by_their_ends() -> None:
    assert short("49638123456789012345678901234567890123456789012345672290") == "49638…2290"
    assert short("17") == "17"
    assert short_shard("shardId-000000000002") == "…000002"
    assert short_shard("replay") == "replay"


def test_a_time_that_is_none_is_shown_as_it_is() -> None:
    assert moment("2026-11-24T12:04:03.320Z") == "24 Nov 12:04:03"
    assert moment("2026-11-04T12:04:03.320Z", fraction=True) == "4 Nov 12:04:03.320"
    assert moment("soon\x1b[2J") == "soon\\x1b[2J"


def test_ids_are_shown_as_long_as_it_takes_to_tell_them_apart() -> None:
    assert prefix_length(["abcdefgh1", "zbcdefgh1"]) == 8
    assert prefix_length(["abcdefgh12", "abcdefgh19"]) == 10
    assert prefix_length(["abcdefgh12", "abcdefgh12"]) == 8
