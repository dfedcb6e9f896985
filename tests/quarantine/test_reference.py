from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from streamheal.quarantine import reading, reference
from streamheal.quarantine.envelope import Discard, Replay
from tests.quarantine.samples import attempt, envelope

ROOT = Path(__file__).parents[2]
AGAIN = "run: python -m streamheal.quarantine.reference"


def test_the_shipped_schema_is_what_the_code_writes() -> None:
    assert reference.SCHEMA.read_text(encoding="utf-8") == reference.schema_text(), AGAIN


def test_the_page_is_what_the_code_says() -> None:
    assert (ROOT / reference.PAGE).read_text(encoding="utf-8") == reference.page(), AGAIN


@pytest.mark.parametrize("struct", reference._STRUCTS)
def test_every_field_is_described_and_nothing_else(struct: type[msgspec.Struct]) -> None:
    assert list(reference.descriptions(struct)) == list(struct.__struct_fields__)


def validator() -> Any:
    schema = json.loads(reference.SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_envelopes_are_valid_by_the_shipped_schema() -> None:
    """With everything in it, and with nothing that may be left out."""
    full = envelope(
        1,
        explicit_hash_key="1",
        data_base64=None,
        data_ref="s3://bucket/key",
        masked_base64="KioqKg==",
        attempts=[attempt(stack="File", log="…", worker="cell (pid 1)", alone=True, signal="SIGSEGV", exit_code=None)],
        status="discarded",
        replays=[Replay(at="2026-11-24T13:00:00.000Z", code_version=None, outcome="failed", attempt=attempt())],
        discard=Discard(at="2026-11-24T14:00:00.000Z", by="ann", why="a test order"),
    )
    for one in (full, envelope(2)):
        validator().validate(json.loads(reading.encode(one)))


def test_an_envelope_begins_with_its_format_and_has_every_field() -> None:
    written = reading.encode(envelope(1))
    assert written.startswith(b'{"streamheal":1,"id":')
    assert list(json.loads(written)) == list(reference.schema()["required"])


@pytest.mark.parametrize(
    "change",
    [{"reason": "unknown"}, {"status": "lost"}, {"streamheal": 2}, {"id": None}, {"attempts": [{"number": 1}]}],
)
def test_what_is_no_envelope_is_not_valid(change: dict[str, object]) -> None:
    plain = {**json.loads(reading.encode(envelope(1))), **change}
    assert not validator().is_valid(plain)
    lacking = {key: value for key, value in plain.items() if key != "discard"}
    assert not validator().is_valid(lacking)


def test_a_field_that_a_later_version_adds_is_passed_over() -> None:
    raw = reading.encode(envelope(1)).replace(b'{"streamheal":1,', b'{"streamheal":1,"severity":{"level":3},')
    assert reading.decode(raw, "here") == envelope(1)
