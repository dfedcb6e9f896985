"""The list answers: what is sick, how much of it, what to type."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamheal.people.listing import grouped, print_list, program
from streamheal.quarantine.envelope import Envelope
from tests.people.envelopes import console, envelope, printed


def crash(nth: int = 50) -> Envelope:
    title = "SIGSEGV in ctypes.string_at, orders.py:41 in price"
    return envelope(nth, reason="crash", fingerprint="ffffffffffff", title=title)


def test_records_that_failed_alike_are_one_line() -> None:
    on = console(120)
    print_list([envelope(nth) for nth in range(1, 10)] + [crash()], on)
    text = printed(on)
    assert text.startswith("10 records in quarantine, 2 causes\n")
    crashed, raised = text.split("\n")[3:5]
    assert "crash" in crashed
    assert crashed.split()[-4:] == ["1", "24", "Nov", "12:04:50"]
    assert "KeyError: 'customer', orders.py:23 in process_record" in raised
    assert raised.split()[-4:] == ["9", "24", "Nov", "12:04:01"]


def test_the_commands_to_type_next_are_whole_and_find_the_same_quarantine() -> None:
    on = console(60)
    print_list([crash()], on, options="--quarantine s3://bucket/a/long/prefix/of/a/quarantine")
    lines = printed(on).split("\n")
    shown = crash().id[:8]
    assert f"Next  streamheal quarantine show {shown} --quarantine s3://bucket/a/long/prefix/of/a/quarantine" in lines
    assert (
        "      streamheal replay --fingerprint ffffffffffff --quarantine s3://bucket/a/long/prefix/of/a/quarantine"
        in lines
    )


def test_an_empty_quarantine_says_so() -> None:
    on = console()
    print_list([], on)
    assert printed(on) == "Nothing in quarantine.\n"


def test_what_was_healed_is_a_line_of_its_own_and_needs_no_command() -> None:
    groups = grouped([envelope(1), envelope(2, status="healed")])
    assert [(group.first.status, group.records) for group in groups] == [("open", 1), ("healed", 1)]
    on = console()
    print_list([envelope(2, status="healed")], on)
    assert "exception · healed" in printed(on)
    assert "replay" not in printed(on)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_other_peoples_text_is_neither_obeyed_nor_read_as_markup(width: int) -> None:
    on = console(width, force_terminal=True, color_system="truecolor")
    evil = envelope(1, title="[red]x[/red] :smile: \x1b]0;owned\x07 \x1b[2J", fingerprint="$(reboot)")
    print_list([evil], on)
    text = printed(on)
    assert "\x1b]0" not in text
    assert "\x1b[2J" not in text
    assert "[red]x[/red]" in text
    assert ":smile:" in text
    assert "--fingerprint '$(reboot)'" in text


@pytest.mark.parametrize("width", [80, 120])
def test_without_colours_nothing_is_lost(width: int) -> None:
    plain_one, coloured = console(width), console(width, force_terminal=True, color_system="truecolor")
    for on in (plain_one, coloured):
        print_list([envelope(1), crash()], on)
    assert "\x1b" not in printed(plain_one)
    assert "\x1b[" in printed(coloured)


def test_lines_fit_on_the_screen() -> None:
    on = console(80)
    print_list([envelope(1, title="a very long title " * 20)], on)
    assert max(map(len, printed(on).split("\n"))) <= 80


def test_of_a_flood_only_one_envelope_a_cause_is_kept() -> None:
    (group,) = grouped(envelope(nth) for nth in range(1, 2000))
    assert group.records == 1999
    assert group.since == min(envelope(nth).quarantined_at for nth in range(1, 2000))


def test_commands_are_called_as_this_one_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`make demo` runs .venv/bin/streamheal; no shell would find a bare streamheal then."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", [".venv/bin/streamheal", "demo"])
    assert program() == ".venv/bin/streamheal"
    (tmp_path / "streamheal").touch(0o755)
    assert program() == "streamheal"
    monkeypatch.setattr("sys.argv", ["/usr/bin/pytest"])
    assert program() == "streamheal"
