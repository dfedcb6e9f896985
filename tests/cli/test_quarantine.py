"""`streamheal quarantine`, over a folder with five records of two causes in it."""

from __future__ import annotations

import base64
import getpass
import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from streamheal.quarantine.envelope import Envelope
from streamheal.quarantine.folder import FolderStore
from tests.cli.calling import call
from tests.people.envelopes import envelope


def at(ago: timedelta) -> str:
    return (datetime.now(UTC) - ago).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.fixture
def records(folder: Path) -> list[Envelope]:
    """Three that lack a customer, one crash (discarded), one healed; the crash is masked."""
    mask = base64.b64encode(b'{"card": "****"}').decode()
    made = [
        envelope(1, quarantined_at=at(timedelta(days=2))),
        envelope(2, quarantined_at=at(timedelta(hours=3)), partition_key="cust-8"),
        envelope(3, quarantined_at=at(timedelta(minutes=5)), shard_id="shardId-000000000001"),
        envelope(4, reason="crash", fingerprint="ffffffffffff", masked_base64=mask, data=b'{"card": "4711"}'),
        envelope(5, status="healed", stream="returns"),
    ]
    assert FolderStore(folder / "quarantine").put(made) == [None] * 5
    return made


def listed(*arguments: str) -> list[dict[str, Any]]:
    code, out, err = call("quarantine", "list", "--json", *arguments)
    assert (code, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def ids(rows: list[dict[str, Any]]) -> set[str]:
    return {row["id"] for row in rows}


# -- list and its selections -----------------------------------------------------------------


def test_list_prints_one_envelope_a_line(records: list[Envelope]) -> None:
    rows = listed()
    assert ids(rows) == {one.id for one in records[:4]}
    assert rows[0]["streamheal"] == 1
    assert rows[0]["data_base64"] is not None


def test_list_for_people_groups_by_cause_and_says_what_to_type(records: list[Envelope]) -> None:
    code, out, err = call("quarantine", "list")
    assert (code, err) == (0, "")
    assert "4 records in quarantine, 2 causes" in out
    assert f"streamheal quarantine show {records[3].id[:8]}" in out  # the crash: the worst comes first


def test_the_commands_shown_find_the_same_quarantine(records: list[Envelope]) -> None:
    _, out, _ = call("quarantine", "list", "--quarantine", "./quarantine", "--application", "orders")
    assert "--application orders --quarantine ./quarantine" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--status", "healed"], {5}),
        (["--status", "all"], {1, 2, 3, 4, 5}),
        (["--all"], {1, 2, 3, 4, 5}),
        (["--reason", "crash"], {4}),
        (["--fingerprint", "ffffffffffff"], {4}),
        (["--shard", "shardId-000000000001"], {3}),
        (["--shard", "1"], {3}),
        (["--key", "cust-8"], {2}),
        (["--since", "2h", "--reason", "exception"], {3}),
        (["--since", "1d", "--reason", "exception"], {2, 3}),
        (["--until", "4h", "--reason", "exception"], {1}),
        (["--stream", "returns", "--all"], {5}),
        (["--application", "others"], set()),
    ],
)
def test_every_part_of_a_selection_counts(records: list[Envelope], arguments: list[str], expected: set[int]) -> None:
    assert ids(listed(*arguments)) == {records[nth - 1].id for nth in expected}


def test_ids_are_listed_whatever_became_of_them(records: list[Envelope]) -> None:
    assert ids(listed(records[4].id[:10], records[0].id)) == {records[4].id, records[0].id}
    assert listed(records[4].id, "--status", "open") == []


def test_a_wrong_status_is_wrong_usage(records: list[Envelope]) -> None:
    assert call("quarantine", "list", "--status", "closed") == (
        2, "", "streamheal: --status is 'closed': expected open, healed, discarded or all\n",
    )  # fmt: skip


def test_an_unknown_id_is_wrong_usage_in_every_command(records: list[Envelope]) -> None:
    for command in (["list"], ["show"], ["export"], ["discard", "--why", "x"]):
        code, out, err = call("quarantine", *command, "zzzz")
        assert (code, out) == (2, "")
        assert "zzzz" in err


def test_an_ambiguous_id_is_wrong_usage(folder: Path, records: list[Envelope]) -> None:
    twin = envelope(6, id=records[0].id[:6] + "aaaaaaaaaa")
    FolderStore(folder / "quarantine").put([twin])
    code, _, err = call("quarantine", "show", records[0].id[:6])
    assert code == 2
    assert records[0].id[:6] in err


def test_an_empty_quarantine_is_no_error() -> None:
    assert listed() == []
    assert call("quarantine", "list") == (0, "Nothing in quarantine.\n", "")


def test_a_dry_run_of_a_replay_shows_what_it_would_replay(records: list[Envelope]) -> None:
    code, out, err = call("replay", "--reason", "exception", "--since", "1d", "--dry-run")
    assert (code, err) == (0, "")
    assert "2 records" in out
    assert all(row["replays"] == [] for row in listed("--all"))


# -- show and export ---------------------------------------------------------------------------


def test_show_takes_as_much_of_an_id_as_is_unambiguous(records: list[Envelope]) -> None:
    code, out, err = call("quarantine", "show", records[0].id[:8], "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["id"] == records[0].id


def test_show_for_people_counts_those_that_failed_alike(records: list[Envelope]) -> None:
    _, out, _ = call("quarantine", "show", records[0].id)
    assert "3 records" in out


def test_masked_payloads_are_shown_masked(records: list[Envelope]) -> None:
    """The store keeps the original for replay; what leaves it is masked unless asked for."""
    crash = records[3].id
    for arguments in (["show", crash, "--json"], ["list", crash, "--json"], ["export", crash]):
        row = json.loads(call("quarantine", *arguments).out)
        assert base64.b64decode(row["data_base64"]) == b'{"card": "****"}'
        row = json.loads(call("quarantine", *arguments, "--unmasked").out)
        assert base64.b64decode(row["data_base64"]) == b'{"card": "4711"}'
    assert "4711" not in call("quarantine", "show", crash).out.split("Record", 1)[1].split("Attempts")[0]
    assert '"4711"' in call("quarantine", "show", crash, "--unmasked").out


def test_export_writes_whole_envelopes(folder: Path, records: list[Envelope]) -> None:
    code, out, err = call("quarantine", "export", "--out", "out.jsonl")
    rows = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert (code, out, err) == (0, "", "4 exported to out.jsonl\n")
    assert ids(rows) == {one.id for one in records[:4]}


def test_an_export_that_cannot_be_written_leaves_nothing_behind(folder: Path, records: list[Envelope]) -> None:
    code, _, err = call("quarantine", "export", "--out", "no/such/folder.jsonl")
    assert (code, err) == (
        2, "streamheal: --out: no/such/folder.jsonl cannot be written: No such file or directory\n",
    )  # fmt: skip
    (folder / "taken").mkdir()
    assert call("quarantine", "export", "--out", "taken").code == 2
    assert sorted(path.name for path in folder.iterdir()) == ["quarantine", "taken"]


# -- discard ------------------------------------------------------------------------------------


def test_discard_keeps_who_when_and_why(records: list[Envelope]) -> None:
    first, second = records[0].id, records[1].id
    code, out, _ = call("quarantine", "discard", first, second, "--why", "test data")
    assert (code, out) == (0, f"{first} discarded: test data\n{second} discarded: test data\n")

    row = json.loads(call("quarantine", "show", first, "--json").out)
    assert row["status"] == "discarded"
    assert row["discard"]["by"] == f"{getpass.getuser()}@{socket.gethostname()}"
    assert row["discard"]["why"] == "test data"
    assert datetime.fromisoformat(row["discard"]["at"]).tzinfo is not None
    assert first not in ids(listed())
    assert ids(listed("--status", "discarded")) == {first, second}


def test_a_second_discard_changes_nothing_and_says_so(records: list[Envelope]) -> None:
    id = records[0].id
    call("quarantine", "discard", id, "--why", "first")
    code, out, _ = call("quarantine", "discard", id, "--why", "second")
    assert code == 0
    assert out.startswith(f"{id} was discarded already, by ")
    assert out.endswith(": first\n")


def test_what_is_healed_cannot_be_discarded(records: list[Envelope]) -> None:
    id = records[4].id
    assert call("quarantine", "discard", id, "--why", "x") == (
        2, "", f"streamheal: {id} is healed already: there is nothing to discard\n",
    )  # fmt: skip


def test_one_unknown_id_keeps_all_from_being_discarded(records: list[Envelope]) -> None:
    assert call("quarantine", "discard", records[0].id, "zzzz", "--why", "x").code == 2
    assert records[0].id in ids(listed())


def test_a_reason_of_nothing_is_no_reason(records: list[Envelope]) -> None:
    code, _, err = call("quarantine", "discard", records[0].id, "--why", " ")
    assert (code, err) == (2, "streamheal: --why is empty: expected the reason, for whoever looks later\n")


def test_a_store_that_gives_no_sense_is_told_of_without_a_traceback(folder: Path, records: list[Envelope]) -> None:
    """Not the user's fault, and nothing that a traceback would explain: exit code 1."""
    (path,) = (folder / "quarantine").rglob(f"{records[0].id}.json")
    path.write_text('{"streamheal": 99}')
    code, out, err = call("quarantine", "show", records[0].id, "--json")
    assert (code, out) == (1, "")
    assert err.startswith("streamheal: ")
    assert f"{records[0].id}.json" in err
    assert "Traceback" not in err
