from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from streamheal.errors import AlreadyRunning, StateError, StateUnavailable, UsageError
from streamheal.state import sqlite
from streamheal.state.open import open_state
from streamheal.state.sqlite import SqliteState
from tests.state.promises import check_state

OWN = """
import sys, time
from pathlib import Path
from streamheal.state.sqlite import SqliteState
state = SqliteState(Path(sys.argv[1]))
state.check()
state.own("shop-orders", "host-1 pid 4711")
state.write("app#kind", "key", {"written": True}, replaces=None)
print("owned", flush=True)
sys.stdin.read()
"""


def test_sqlite_keeps_every_promise_of_a_state(tmp_path: Path) -> None:
    check_state(lambda: SqliteState(tmp_path / "not" / "yet" / "there.db"))


def test_a_second_run_is_refused_until_the_first_dies_however_it_dies(tmp_path: Path) -> None:
    """The lock is the kernel's: kill -9 gives it back, and what was written is there."""
    path = tmp_path / "shop-orders.db"
    first = subprocess.Popen(
        [sys.executable, "-c", OWN, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "owned\n"
    state = SqliteState(path)
    with pytest.raises(
        AlreadyRunning, match=r"shop-orders is already running: host-1 pid 4711 holds .*shop-orders\.db"
    ):
        state.own("shop-orders", "host-1 pid 4712")
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=20)
    state.own("shop-orders", "host-1 pid 4712")
    row = state.read("app#kind", "key")
    assert row is not None
    assert row.value == {"written": True}
    state.close()


def test_children_do_not_hold_the_lock(tmp_path: Path) -> None:
    """A worker that outlives its host for a moment must not keep the next run out."""
    state = SqliteState(tmp_path / "state.db")
    state.own("shop-orders", "first")
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, close_fds=False
    )
    state.close()
    again = SqliteState(tmp_path / "state.db")
    again.own("shop-orders", "second")
    again.close()
    child.communicate(timeout=20)


def test_a_lock_file_that_was_removed_is_made_again(tmp_path: Path) -> None:
    """Somebody tidied up: the owner notices, and stays the owner."""
    state, other = SqliteState(tmp_path / "state.db"), SqliteState(tmp_path / "state.db")
    state.own("shop-orders", "first")
    (tmp_path / "state.db.shop-orders.lock").unlink()
    state.keep_owning()
    with pytest.raises(AlreadyRunning, match="first"):
        other.own("shop-orders", "second")
    state.close()


def test_an_owner_that_lost_its_lock_file_to_another_is_told(tmp_path: Path) -> None:
    state, other = SqliteState(tmp_path / "state.db"), SqliteState(tmp_path / "state.db")
    state.own("shop-orders", "first")
    (tmp_path / "state.db.shop-orders.lock").unlink()
    other.own("shop-orders", "second")
    with pytest.raises(AlreadyRunning, match="second"):
        state.keep_owning()
    other.close()
    state.close()


def test_every_write_is_on_disk_before_it_returns(tmp_path: Path) -> None:
    state = SqliteState(tmp_path / "state.db")
    state.check()
    assert state._execute("PRAGMA journal_mode")[0] == [("wal",)]
    assert state._execute("PRAGMA synchronous")[0] == [(2,)]  # FULL
    state.close()


def test_a_file_that_another_program_has_locked_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_S", 0.01)
    state = SqliteState(tmp_path / "state.db")
    state.check()
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateUnavailable, match="database is locked"):
        state.write("app#kind", "key", {}, replaces=None)
    other.execute("ROLLBACK")
    other.close()
    assert state.write("app#kind", "key", {}, replaces=None) == 1
    state.close()


def test_what_is_no_database_is_said_at_the_check(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_text("this is a letter, and not a database of any kind whatever it is named")
    state = SqliteState(tmp_path / "state.db")
    with pytest.raises(UsageError, match=r"state\.db cannot be used: file is not a database\. Expected a file"):
        state.check()
    with pytest.raises(StateError):
        state.read("app#kind", "key")


def test_a_place_that_cannot_be_written_is_said_at_the_check(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be used"):
        SqliteState(tmp_path / "file" / "state.db").check()
    with pytest.raises(UsageError, match="unable to open database file"):
        SqliteState(tmp_path).check()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_only_be_read_is_said_at_the_check(tmp_path: Path) -> None:
    SqliteState(tmp_path / "state.db").check()
    (tmp_path / "state.db").chmod(0o400)
    with pytest.raises(UsageError, match="readonly"):
        SqliteState(tmp_path / "state.db").check()


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("sqlite:.streamheal/orders.db", "sqlite:.streamheal/orders.db"),
        ("sqlite:/var/lib/orders.db", "sqlite:/var/lib/orders.db"),
        ("sqlite:///var/lib/orders.db", "sqlite:/var/lib/orders.db"),
        ("sqlite:", "sqlite:.streamheal/shop-orders.db"),
        ("dynamodb:orders", "dynamodb:orders"),
        ("dynamodb:", "dynamodb:shop-orders-streamheal"),
    ],
)
def test_a_state_is_named_by_a_url(url: str, opened: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert open_state(url, application="shop-orders").url == opened


@pytest.mark.parametrize("url", ["", "orders.db", "postgres:orders", "sqlite:"])
def test_a_state_of_no_known_form_is_said(url: str) -> None:
    with pytest.raises(UsageError, match="expected sqlite:PATH or dynamodb:TABLE"):
        open_state(url)
