from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import structlog

from streamheal.errors import StoreUnavailable, UsageError
from streamheal.quarantine import disk, reading
from streamheal.quarantine.base import Selection
from streamheal.quarantine.folder import FolderStore
from tests.quarantine.promises import EVERY, check_store
from tests.quarantine.samples import envelope


def test_a_folder_keeps_every_promise_of_a_store(tmp_path: Path) -> None:
    check_store(lambda: FolderStore(tmp_path / "quarantine"))


def test_where_there_is_no_syncfs_every_file_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, and on Linux before 5.8."""
    monkeypatch.setattr(disk, "_libc", None)
    check_store(lambda: FolderStore(tmp_path))


@pytest.mark.skipif(disk._libc is None, reason="this system has no syncfs that tells of errors")
def test_a_flood_costs_one_sync_of_the_disk_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 envelopes, and no more calls of fsync than there are directories to make and to name in."""
    calls: list[int] = []
    fsync = os.fsync

    def counted(descriptor: int) -> None:
        calls.append(descriptor)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    store = FolderStore(tmp_path)
    assert store.put([envelope(nth) for nth in range(500)]) == [None] * 500
    assert len(calls) < 10
    assert len(list(tmp_path.rglob("*.json"))) == 500


def test_files_lie_where_athena_and_duckdb_look_for_them(tmp_path: Path) -> None:
    FolderStore(tmp_path).put([envelope(1, application="a/b", stream="orders")])
    assert (
        tmp_path / "application=a%2Fb/stream=orders/date=2026-11-24" / f"{envelope(1, application='a/b').id}.json"
    ).is_file()


def test_nothing_but_whole_envelopes_bears_a_name(tmp_path: Path) -> None:
    """Killed at any moment of a flood: every file there is an envelope, and those acknowledged are all there."""
    program = """
import sys
from pathlib import Path
from streamheal.quarantine.folder import FolderStore
from tests.quarantine.samples import envelope
store = FolderStore(Path(sys.argv[1]))
for first in range(0, 1_000_000, 100):
    assert store.put([envelope(nth) for nth in range(first, first + 100)]) == [None] * 100
    print(first + 100, flush=True)
"""
    writer = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = 0
    while acknowledged < 500:
        acknowledged = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    rest, _ = writer.communicate(timeout=20)
    acknowledged = int(rest.split()[-1]) if rest.split() else acknowledged
    found = {path.stem for path in tmp_path.rglob("*.json") if reading.decode(path.read_bytes(), str(path))}
    assert found >= {envelope(nth).id for nth in range(acknowledged)}


def test_what_a_killed_writer_left_is_ignored_and_swept_away(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.check()
    old, fresh = tmp_path / ".streamheal" / "1-1-0-0.tmp", tmp_path / ".streamheal" / "1-1-0-1.tmp"
    for leftover in (old, fresh):
        leftover.write_bytes(b'{"streamheal": 1, "id"')
    hours_ago = time.time() - 7200
    os.utime(old, (hours_ago, hours_ago))
    FolderStore(tmp_path).check()
    assert not old.exists()
    assert fresh.exists(), "another writer may still be at it"
    assert list(store.scan(EVERY)) == []


def test_a_strange_file_hides_no_envelope(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put([envelope(1), envelope(2)])
    day = next(tmp_path.glob("*/*/date=*"))
    (day / "notanenvelope234.json").write_text("{")
    (day / "later00000000000.json").write_bytes(
        reading.encode(envelope(3)).replace(b'"streamheal":1', b'"streamheal":2')
    )
    (day / "README.txt").write_text("read me")
    (tmp_path / "application=x").write_text("not a directory")
    (tmp_path / "application=y" / "stream=z" / "date=someday").mkdir(parents=True)
    with structlog.testing.capture_logs() as logs:
        assert [one.id for one in store.scan(EVERY)] == [envelope(1).id, envelope(2).id]
    assert [log["event"] for log in logs] == ["envelope_unreadable", "envelope_unreadable"]


def test_an_envelope_that_somebody_removed_is_stored_again(tmp_path: Path) -> None:
    """Only the disk says what is stored; nobody remembers it."""
    store = FolderStore(tmp_path)
    store.put([envelope(1)])
    next(tmp_path.rglob("*.json")).unlink()
    assert store.put([envelope(1)]) == [None]
    assert store.get(envelope(1).id) == envelope(1)


def test_a_full_disk_is_waited_for(tmp_path: Path) -> None:
    """On a real file system of 1 MiB: what does not fit is unavailable, what was kept stays, and
    room made is used."""
    program = """
import sys
from pathlib import Path
from streamheal.errors import StoreUnavailable
from streamheal.quarantine.base import Selection
from streamheal.quarantine.folder import FolderStore
from tests.quarantine.samples import envelope
root = Path(sys.argv[1])
ballast = root / "ballast"
ballast.write_bytes(bytes(700_000))
store = FolderStore(root / "quarantine")
store.check()
some = [envelope(nth, data_base64="A" * 20_000) for nth in range(30)]
outcomes = store.put(some)
kept = [one for one, outcome in zip(some, outcomes) if outcome is None]
assert len(kept) < 30, outcomes
assert all(outcome is None or type(outcome) is StoreUnavailable for outcome in outcomes), outcomes
assert {one.id for one in store.scan(Selection())} == {one.id for one in kept}
ballast.unlink()
assert store.put(some) == [None] * 30
assert len(list(store.scan(Selection()))) == 30
print("healed", len(kept), str(outcomes[-1]))
"""
    mount = tmp_path / "small"
    mount.mkdir()
    script = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(mount), sys.executable, program]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare(1) here to mount a small disk with")
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    assert done.stdout.startswith("healed"), done.stderr
    assert "No space left on device" in done.stdout


def test_a_folder_that_cannot_be_made_is_said_at_the_check(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file/quarantine cannot be written: Not a directory\. Expected a folder"):
        FolderStore(tmp_path / "file" / "quarantine").check()


def test_too_many_open_files_is_waited_out(tmp_path: Path) -> None:
    """A real limit of the kernel: what cannot be opened now is answered unavailable, and kept later."""
    store = FolderStore(tmp_path)
    store.check()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 256
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(highest, *taken), hard))
        outcomes = store.put([envelope(1), envelope(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
    assert store.put([envelope(1), envelope(2)]) == [None, None]


def test_scanning_a_day_of_large_payloads_holds_few_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a scan holds is bounded; the rest is read again in its turn."""
    monkeypatch.setattr(reading, "_HELD_BYTES_MAX", 10_000)
    store = FolderStore(tmp_path)
    some = [envelope(nth, data_base64="A" * 4000) for nth in range(1, 11)]
    store.put(some)
    assert list(store.scan(Selection())) == some
