"""The live view: figures that add up, and the last events as sentences."""

from __future__ import annotations

import asyncio
import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from streamheal.people.live import LiveView, Totals
from streamheal.people.picture import save_picture
from streamheal.people.sentences import sentence
from streamheal.runtime.figures import ShardFigures
from tests.people.envelopes import console, printed


def shard(nth: int, **changes: object) -> ShardFigures:
    one = ShardFigures(
        stream="orders", shard_id=f"shardId-{nth:012d}", read=100, done=90, quarantined=2, in_flight=8, lag_s=0.4
    )
    return replace(one, **changes)  # type: ignore[arg-type]


def view(on: Console, *shards: ShardFigures, now: list[float] | None = None) -> LiveView:
    time = now or [0.0]
    return LiveView(
        lambda: shards, on, title="streamheal run", noun="order", clock=lambda: time[0], wall_clock=lambda: 43_447.0
    )


def picture(of: LiveView, on: Console) -> str:
    on.print(of.picture())
    return printed(on)


def test_a_shard_is_a_row_and_the_sum_adds_up() -> None:
    on = console(120)
    text = picture(view(on, shard(0), shard(1, waits_for="1 suspect to be judged", oldest_open_s=2.1)), on)
    rows = text.split("\n")
    assert rows[3].split() == ["…000000", "100", "90", "2", "8", "0", "0.4", "s"]
    assert rows[4].endswith("◀ 1 suspect to be judged (2.1 s)")
    assert " 200 orders   180 done   4 in quarantine   16 open      read = done + quarantined + open ✓" in text


def test_filtered_records_are_named_where_there_are_any() -> None:
    on = console(120)
    text = picture(view(on, shard(0, done=80, filtered=10)), on)
    assert "10 filtered   8 open      read = done + quarantined + filtered + open ✓" in text


def test_a_sum_that_does_not_add_up_is_not_hidden() -> None:
    on = console(120)
    assert "✗ does not add up" in picture(view(on, shard(0, done=1)), on)
    assert not Totals.of([shard(0, done=1)]).add_up


def test_rates_are_of_the_last_seconds() -> None:
    on, now = console(120), [0.0]
    figures = [shard(0)]
    live = LiveView(lambda: figures, on, clock=lambda: now[0])
    live.picture()
    now[0], figures[0] = 2.0, shard(0, read=4100, done=4090)
    on.print(live.picture())
    assert printed(on).split("\n")[1].split()[5] == "2,000"


def test_a_shard_that_is_not_ours_any_more_has_no_lag_and_one_that_was_lost_no_row() -> None:
    """What was done of them stays in the sum."""
    on = console(120)
    ended = shard(0, read=92, in_flight=0, lag_s=None, held=False)
    lost = shard(1, read=92, in_flight=0, lag_s=None, held=False, lost=True)
    text = picture(view(on, ended, lost), on)
    assert text.split("\n")[3].split() == ["…000000", "92", "90", "2", "0", "0", "–"]
    assert "…000001" not in text
    assert " 184 orders   180 done   4 in quarantine   0 open" in text


@pytest.mark.parametrize(("width", "height", "shards"), [(80, 24, 4), (80, 24, 100), (120, 30, 4), (120, 30, 200)])
def test_it_fits_on_the_screen(width: int, height: int, shards: int) -> None:
    on = console(width, height=height)
    live = view(
        on, *(shard(nth, waits_for="1 suspect to be judged" if nth % 7 == 3 else None) for nth in range(shards))
    )
    for nth in range(20):
        fields = {"shard_id": "shardId-000000000003", "id": f"{nth:08d}xyz", "title": "x" * 300, "fingerprint": nth}
        live.event("record_quarantined", fields)
    lines = picture(live, on).rstrip("\n").split("\n")
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    assert "00000019 set aside: xxx" in lines[-1]
    assert any("…000003" in line for line in lines[:12])


def test_nobody_watching_costs_nothing() -> None:
    """Not a terminal: nothing is printed, and the figures are never asked for."""
    on = console(80)

    def figures() -> list[ShardFigures]:
        raise AssertionError("asked for")

    with LiveView(figures, on) as live:
        live.event("shard_paused", {"shard_id": "shardId-000000000003"})
        asyncio.run(live.keep_fresh())
    assert printed(on) == ""


def test_on_a_terminal_it_is_drawn_and_the_last_picture_stays() -> None:
    on = console(120, force_terminal=True)
    figures = [shard(0)]

    async def watch() -> None:
        with LiveView(lambda: figures, on) as live:
            drawing = asyncio.create_task(live.keep_fresh())
            await asyncio.sleep(0)
            figures[0] = shard(0, done=98, in_flight=0)
            drawing.cancel()

    asyncio.run(watch())
    assert "98 done" in printed(on).split("\x1b[2K")[-1]
    assert printed(on).rstrip().endswith("\x1b[?25h")


def test_what_is_written_meanwhile_stands_above_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log line written over the view would tear it; and a thousand a second would stop the host."""
    terminal = io.StringIO()
    monkeypatch.setattr("sys.stderr", terminal)
    on = Console(stderr=True, force_terminal=True, width=120, height=30)
    with LiveView(lambda: [shard(0)], on, title="THE VIEW") as live:
        for number in range(1000):
            print(f"line {number}", file=sys.stderr)
        drawn_before = terminal.getvalue().count("THE VIEW")
        live.refresh()
        assert terminal.getvalue().count("THE VIEW") - drawn_before <= 2
        print("half a line", end="", file=sys.stderr)
    assert sys.stderr is terminal
    text = terminal.getvalue()
    assert "… 971 lines not shown …" in text
    assert "line 999\n" in text
    assert "line 970\n" not in text
    assert text.index("line 999") < text.rindex("THE VIEW")
    assert text.endswith("half a line")


def test_a_replay_shows_how_far_it_is() -> None:
    on = console(120)
    live = view(on, shard(0))
    live.event("replay_progress", {"done": 5, "total": 10, "failed": 1})
    assert "██████████░░░░░░░░░░  5 of 10   4 healed   1 failed again" in picture(live, on)


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        (
            "worker_died",
            {"cause": "signal", "signal": "SIGSEGV", "running": 3, "worker": "worker 1"},
            "worker 1 died (SIGSEGV) while 3 records ran; each is tried alone",
        ),
        (
            "worker_died",
            {"cause": "signal", "signal": "SIGSEGV", "running": 3, "suspects": 1, "worker": "worker 1"},
            "worker 1 died (SIGSEGV) while 3 records ran; the one that was not waiting is tried alone",
        ),
        (
            "worker_died",
            {"cause": "exit", "exit_code": 7, "running": 1},
            "a worker exited with 7 while 1 record ran; it is tried alone",
        ),
        ("worker_died", {"cause": "deadline"}, "a worker was stopped: a record passed its deadline"),
        (
            "worker_died",
            {"cause": "cell", "signal": "SIGSEGV", "worker": "cell (pid 9)"},
            "cell (pid 9) died (SIGSEGV), with one record in it, alone",
        ),
        ("worker_died", {}, "a worker died"),
        ("worker_died", {"cause": "exit", "why": "by_us"}, None),
        (
            "record_quarantined",
            {"id": "7f3k9x2mzzz", "title": "KeyError: 'customer'", "reason": "exception"},
            "7f3k9x2m set aside: KeyError: 'customer'",
        ),
        ("record_quarantined", {"sequence_number": "4963812345"}, "a record set aside: no reason given"),
        ("record_cleared", {"sequence_number": "4963812345"}, "a record was suspect, ran alone, and is done"),
        ("shard_paused", {"why": "nothing succeeds"}, "paused: nothing succeeds; it probes until something succeeds"),
        ("shard_resumed", {}, "goes on: something succeeded"),
        (
            "shard_blocked",
            {
                "id": "7f3k9x2mzzz",
                "for_s": 61.2,
                "attempts": 2,
                "waits_for": "its next try in 7 s",
                "last_failure": "KeyError: 'customer'",
            },
            "7f3k9x2m waits for 61.2 s, after 2 tries for its next try in 7 s (last: KeyError: 'customer')",
        ),
        (
            "shard_blocked",
            {"for_s": 60.0, "waits_for": "the engine to acknowledge a checkpoint", "attempts": 0},
            "all of it waits for 60.0 s for the engine to acknowledge a checkpoint",
        ),
        ("shard_unblocked", {"after_s": 75.0}, "moves on after 75.0 s"),
        ("shard_cautious", {"why": "another shard of this host is"}, "cautious: another shard of this host is"),
        ("shard_at_full_speed", {}, "past where hosts have died: at full speed again"),
        ("shard_complete", {}, "complete: every record of it is settled"),
        (
            "quarantine_unavailable",
            {"records": 2, "error": "503"},
            "the quarantine does not answer (503); 2 records wait, nothing is lost",
        ),
        ("human_called", {"why": "nobody dies alone"}, "needs a human: nobody dies alone"),
        ("record_quarantined", {"id": "7f3k9x2m", "title": "\x1b[2J"}, "7f3k9x2m set aside: \\x1b[2J"),
        ("checkpointed", {"sequence_number": "1"}, None),
        ("shard_started", {}, None),
        ("something_new", {}, None),
    ],
)
def test_events_become_sentences(name: str, fields: dict[str, object], said: str | None) -> None:
    assert sentence(name, fields) == said


def test_events_that_say_the_same_are_one_line() -> None:
    on = console(120)
    live = view(on, shard(3))
    for nth in range(1000):
        same = {"shard_id": "shardId-000000000003", "id": f"{nth:08d}", "fingerprint": "f", "title": "KeyError"}
        live.event("record_quarantined", same)
        live.event("record_cleared", {"shard_id": "shardId-000000000003", "sequence_number": str(nth)})
    live.event("worker_died", {"worker": "worker 1", "signal": "SIGKILL"})
    live.event(
        "record_quarantined", {"shard_id": "shardId-000000000004", "id": "zzz", "fingerprint": "f", "title": "x"}
    )
    assert [line.split(maxsplit=2)[2] for line in picture(live, on).rstrip("\n").split("\n")[-4:-2]] == [
        "00000999 and 999 more set aside: KeyError",
        "1,000 suspects ran alone, and are done",
    ]


def test_a_screen_can_be_kept_as_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "screen.svg"
    save_picture(lambda on: on.print(view(on, shard(0)).picture()), path, width=100)
    first = path.read_text()
    save_picture(lambda on: on.print(view(on, shard(0)).picture()), path, width=100)
    assert first.startswith("<svg")
    assert "orders" in first
    assert path.read_text() == first
