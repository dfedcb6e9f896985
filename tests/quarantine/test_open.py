from __future__ import annotations

from pathlib import Path

import pytest

from streamheal.errors import UsageError
from streamheal.quarantine.open import open_store
from streamheal.state.sqlite import SqliteState

STATE = SqliteState(Path("never-opened.db"))


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("./quarantine", "quarantine"),
        ("/var/lib/quarantine", "/var/lib/quarantine"),
        ("file:///var/lib/a%20b", "/var/lib/a b"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("kinesis://orders-quarantine", "kinesis://orders-quarantine"),
        ("kinesis://orders-quarantine?spill=s3://bucket/a", "kinesis://orders-quarantine?spill=s3://bucket/a"),
    ],
)
def test_a_store_is_named_by_a_url(url: str, opened: str) -> None:
    assert open_store(url, state=STATE).url == opened


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "--quarantine is empty: expected s3://bucket/prefix, kinesis://"),
        ("gs://bucket", "gs:// is not known: expected s3://bucket/prefix, kinesis://.* or a folder"),
        ("s3://", "names no bucket: expected s3://bucket/prefix"),
        ("s3:///prefix", "names no bucket"),
        ("kinesis://", r"expected kinesis://stream\?spill=s3://bucket/prefix"),
        ("kinesis://orders/more", "expected kinesis://stream"),
        ("kinesis://orders?spil=s3://bucket", "expected kinesis://stream"),
        ("kinesis://orders?spill=bucket", "spills to 'bucket': expected"),
        ("kinesis://orders?spill=s3://", "names no bucket"),
    ],
)
def test_a_store_of_no_known_form_is_said(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_store(url, state=STATE)


def test_a_stream_needs_a_state_for_what_became_of_its_records() -> None:
    with pytest.raises(UsageError, match="give --state too"):
        open_store("kinesis://orders")


def test_opening_touches_nothing(tmp_path: Path) -> None:
    """`--show-config` and `--help` open stores too."""
    open_store(str(tmp_path / "quarantine"))
    open_store("kinesis://orders?spill=s3://bucket", state=SqliteState(tmp_path / "state.db"))
    assert list(tmp_path.iterdir()) == []
