"""Envelopes that somebody else has written, or cut, or edited: refused in words, or read and shown; never half read."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from streamheal.errors import StoreError
from streamheal.people.card import print_card
from streamheal.people.listing import print_list
from streamheal.quarantine import reading
from streamheal.quarantine.base import Selection
from streamheal.quarantine.envelope import Discard, Envelope, Replay
from streamheal.quarantine.folder import FolderStore

from .samples import attempt, envelope

WHOLE = reading.encode(
    envelope(
        1,
        attempts=[attempt(), attempt(number=2, outcome="crash", signal="SIGSEGV", stack="Fatal …")],
        replays=[Replay(at="2026-11-25T08:00:00.000Z", code_version="2", outcome="failed", attempt=attempt())],
        discard=Discard(at="2026-11-25T09:00:00.000Z", by="ops@here", why="known"),
    )
)
FIELDS = json.loads(WHOLE)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def refused_or_shown(raw: bytes) -> None:
    reading.header(raw, "here")
    try:
        read = reading.decode(raw, "here")
    except StoreError:
        return
    assert isinstance(read, Envelope)
    assert reading.decode(reading.encode(read), "again") == read
    assert read.data is None or isinstance(read.data, bytes)
    screen = Console(file=io.StringIO(), width=80)
    print_card(read, screen)
    print_list([read], screen)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), anything, min_size=1, max_size=3))
@example({"data_base64": "QUJ"})
@example({"masked_base64": "%%%%"})
@example({"approximate_arrival_timestamp": "yesterday"})
@example({"sequence_number": "4711x"})
@example({"sequence_number": "٤٧"})
def test_a_field_may_hold_anything(changed: dict[str, Any]) -> None:
    refused_or_shown(json.dumps(FIELDS | changed).encode())


@settings(deadline=None)
@given(st.integers(0, len(WHOLE)), st.binary(max_size=8), st.integers(0, 8))
def test_bytes_may_be_lost_or_overwritten_anywhere(at: int, put: bytes, cut: int) -> None:
    refused_or_shown(WHOLE[:at] + put + WHOLE[at + cut :])


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_a_file_may_be_something_else_altogether(raw: bytes) -> None:
    refused_or_shown(raw)


def test_a_payload_that_is_damaged_is_refused_rather_than_replayed_as_something_else() -> None:
    """Python's base64 skips what it does not know: four bytes less, and nobody would notice."""
    damaged = json.dumps(FIELDS | {"data_base64": "QUJD*REVG"}).encode()
    with pytest.raises(StoreError, match="data_base64"):
        reading.decode(damaged, "a file")


def test_one_damaged_envelope_hides_no_other(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.check()
    assert store.put([envelope(1), envelope(2), envelope(3)]) == [None, None, None]
    (sick,) = tmp_path.rglob(f"{envelope(2).id}.json")
    sick.write_text(sick.read_text().replace('"attempts":[', '"attempts":["?",'))
    assert [found.id for found in store.scan(Selection())] == [envelope(1).id, envelope(3).id]
