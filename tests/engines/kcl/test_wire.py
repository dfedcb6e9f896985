"""The daemon's words: lines as real daemons wrote them, and whatever else may come down a pipe."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamheal.engines.kcl import wire
from streamheal.records import Position
from tests.engines.kcl.lines import batch, record

# Written by a real MultiLangDaemon (KCL 2.5.8; 3.x differs in whitespace only).
INITIALIZE = (
    b'{"action":"initialize","shardId":"shardId-000000000000","sequenceNumber":"TRIM_HORIZON","subSequenceNumber":0}\n'
)
ONE_RECORD = (
    b'{"action":"processRecords","records":[{"data":"cmVjLTA=","partitionKey":"pk","sequenceNumber":"1",'
    b'"approximateArrivalTimestamp":1795424770703,"subSequenceNumber":0,"action":"record"}],"millisBehindLatest":0}\n'
)
STORED = b'{"action":"checkpoint","sequenceNumber":"1","subSequenceNumber":0,"error":null}\n'
NOT_STORED = b'{"action":"checkpoint","sequenceNumber":null,"subSequenceNumber":null,"error":"InvalidStateException"}\n'

# What the daemon's classes know (KCL 3.5.1, multilang/messages): one more field, and it skips the line.
KNOWN_FIELDS = {
    "status": {"action", "responseFor"},
    "checkpoint": {"action", "sequenceNumber", "subSequenceNumber"},
    "shutdownRequested": {"action"},
}


def read(line: bytes) -> wire.Message | wire.BatchLine:
    return wire.read(memoryview(line))


def message(line: bytes) -> wire.Message:
    said = read(line)
    assert isinstance(said, wire.Message)
    return said


@pytest.mark.parametrize(
    ("line", "after"),
    [
        (INITIALIZE, None),
        (INITIALIZE.replace(b"TRIM_HORIZON", b"LATEST"), None),
        (INITIALIZE.replace(b"TRIM_HORIZON", b"AT_TIMESTAMP"), None),
        (INITIALIZE.replace(b'"TRIM_HORIZON"', b"null"), None),
        (INITIALIZE.replace(b"TRIM_HORIZON", b"4" * 56), Position(int("4" * 56), 0)),
        (INITIALIZE.replace(b"TRIM_HORIZON", b"0"), Position(0, 0)),
        (
            b'{"subSequenceNumber":7,"shardId":"shardId-000000000000","new":[1],"sequenceNumber":"12","action":"initialize"}',
            Position(12, 7),
        ),
        (b'{"action":"initialize","shardId":"shardId-000000000000","sequenceNumber":"12"}', Position(12, 0)),
    ],
)
def test_initialize_names_the_shard_and_where_it_was_checkpointed(line: bytes, after: Position | None) -> None:
    said = message(line)
    assert (said.action, said.shard_id) == ("initialize", "shardId-000000000000")
    assert wire.begin(said) == after


def test_what_became_of_a_checkpoint_is_read() -> None:
    assert (message(STORED).action, message(STORED).error) == ("checkpoint", None)
    assert message(NOT_STORED).error == "InvalidStateException"


@pytest.mark.parametrize("action", ["leaseLost", "shardEnded", "shutdownRequested"])
def test_the_bare_actions_are_read(action: str) -> None:
    assert message(b'{"action":"%s"}\r\n' % action.encode()).action == action


def test_a_short_batch_is_told_from_an_empty_one() -> None:
    """The empty one holds nothing for a worker; it is a chance to checkpoint."""
    assert read(ONE_RECORD) == wire.BatchLine(0.0)
    empty = message(b'{"action":"processRecords","records":[],"millisBehindLatest":1500}\n')
    assert (empty.action, empty.records, wire.lag_s(empty)) == ("processRecords", [], 1.5)


@pytest.mark.parametrize("records", [1, 500], ids=["short", "long"])
@pytest.mark.parametrize(("lag", "lag_s"), [(0, 0.0), (2500, 2.5), (None, None), (-5, 0.0)])
def test_the_lag_is_read_where_the_daemon_knows_it(records: int, lag: int | None, lag_s: float | None) -> None:
    assert read(batch([record(number) for number in range(records)], lag)) == wire.BatchLine(lag_s)


def test_a_long_batch_is_read_whatever_the_order_of_its_fields() -> None:
    said = {
        "millisBehindLatest": 2500,
        "new": {"a": []},
        "records": [record(1, "A" * 9000)],
        "action": "processRecords",
    }
    assert read(json.dumps(said).encode()) == wire.BatchLine(2.5)


def test_a_lag_within_a_record_is_not_the_batch_s() -> None:
    """A partition key is the user's: it may look like the end of a line."""
    sly = record(1, "A" * 9000) | {"partitionKey": '"millisBehindLatest":77}'}
    said = {"action": "processRecords", "records": [sly]}
    assert read(json.dumps(said, separators=(",", ":")).encode()) == wire.BatchLine(None)
    assert read(batch([sly], 3000)) == wire.BatchLine(3.0)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\n", id="blank"),
        pytest.param(b"null\n", id="null"),
        pytest.param(b"[]\n", id="a list"),
        pytest.param(b"{}\n", id="no action"),
        pytest.param(b'{"action":"start"}\n', id="an unknown action"),
        pytest.param(b'{"action":"shutdown","reason":"ZOMBIE"}\n', id="a word of KCL 1"),
        pytest.param(b'{"action":"initialize"}\n', id="no shard"),
        pytest.param(b'{"action":"initialize","shardId":""}\n', id="an empty shard"),
        pytest.param(b'{"action":"initialize","shardId":"\xff"}\n', id="not UTF-8"),
        pytest.param(INITIALIZE[:40], id="cut short"),
        pytest.param(STORED + STORED, id="two in one"),
        pytest.param(b"Exception in thread main " + STORED, id="text before it"),
        pytest.param(b"text " + batch([record(1, "A" * 9000)]), id="text before a long batch"),
        pytest.param(ONE_RECORD.replace(b'"millisBehindLatest":0', b'"millisBehindLatest":1.5'), id="a lag of parts"),
        pytest.param(ONE_RECORD.replace(b'Latest":0', b'Latest":' + b"9" * 400), id="a lag beyond any long"),
        pytest.param(INITIALIZE.replace(b"TRIM_HORIZON", b"9" * 5000), id="a number longer than any"),
        pytest.param(b'{"action":"leaseLost","x":' + b"[" * 5000 + b"]" * 5000 + b"}", id="deep"),
        pytest.param(b'{"action":"processRecords","records":[' + b"[" * 9000 + b"]" * 9000 + b"]}", id="deep records"),
    ],
)
def test_what_is_not_the_protocol_is_a_bad_line(line: bytes) -> None:
    with pytest.raises(wire.BadLine):
        read(line)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ACTIONS = st.sampled_from(
    ["initialize", "processRecords", "checkpoint", "leaseLost", "shardEnded", "shutdownRequested"]
)
# Objects that are nearly right find more than bytes do.
NEARLY = st.fixed_dictionaries(
    {"action": ACTIONS | JSON},
    optional={
        "shardId": st.text(max_size=20) | JSON,
        "sequenceNumber": st.from_regex(r"\A\d{1,60}\Z") | st.text() | JSON,
        "subSequenceNumber": st.integers() | JSON,
        "records": st.lists(JSON, max_size=3) | JSON,
        "millisBehindLatest": st.integers() | st.integers(10**300, 10**310) | JSON,
        "error": st.text() | JSON,
        "other": JSON,
    },
)
LINES = (
    st.binary(max_size=200)
    | st.builds(lambda said, tail: json.dumps(said).encode() + tail, NEARLY, st.binary(max_size=3))
    | st.builds(lambda said, padding: batch([record(1, "A" * padding), said]), JSON, st.integers(4000, 4200))
)


@given(LINES)
def test_any_line_is_a_message_or_a_batch_or_bad(line: bytes) -> None:
    try:
        said = read(line)
    except wire.BadLine:
        return
    if isinstance(said, wire.BatchLine):
        assert said.lag_s is None or said.lag_s >= 0
    else:
        lag_s, after = wire.lag_s(said), wire.begin(said)
        assert lag_s is None or lag_s >= 0
        assert after is None or after.sequence >= 0


@given(st.data())
def test_a_bitten_off_line_is_bad_or_says_the_same(data: st.DataObject) -> None:
    line = data.draw(st.sampled_from([INITIALIZE, ONE_RECORD, STORED, NOT_STORED]))
    end = data.draw(st.integers(0, len(line)))
    try:
        said = read(line[:end])
    except wire.BadLine:
        return
    assert end >= len(line) - 1  # all but the newline
    assert said == read(line)


POSITIONS = st.builds(Position, st.integers(0, 10**60), st.integers(0, 10**6))
WRITTEN = (
    st.builds(wire.status, st.sampled_from(["initialize", "processRecords", "leaseLost", "shardEnded"]))
    | st.builds(wire.checkpoint, POSITIONS)
    | st.sampled_from([wire.CHECKPOINT_END, wire.KEEP_ALIVE])
)


@given(WRITTEN)
def test_what_is_written_is_one_object_of_known_fields_between_newlines(written: bytes) -> None:
    """An unknown field, and the daemon skips the line; a stray byte before it, and it is no JSON."""
    assert (written[:1], written[-1:]) == (b"\n", b"\n")
    (line,) = written.decode("ascii").split()
    said = json.loads(line)
    assert set(said) == KNOWN_FIELDS[said["action"]]


@given(POSITIONS)
def test_a_checkpoint_says_both_numbers(position: Position) -> None:
    """Without the second one, KCL takes it for 0 and redelivers the rest of an aggregate."""
    assert json.loads(wire.checkpoint(position)) == {
        "action": "checkpoint",
        "sequenceNumber": str(position.sequence),
        "subSequenceNumber": position.sub_sequence,
    }


def test_the_end_of_a_shard_is_checkpointed_without_a_number() -> None:
    assert json.loads(wire.CHECKPOINT_END) == {
        "action": "checkpoint",
        "sequenceNumber": None,
        "subSequenceNumber": None,
    }


@given(st.lists(st.integers(0, 60), max_size=40), st.integers(300, 900))
def test_a_line_cut_in_pieces_keeps_every_record_once_and_in_order(paddings: list[int], bytes_max: int) -> None:
    records = [record(number, "A" * padding) for number, padding in enumerate(paddings)]
    pieces = list(wire.cut(batch(records), bytes_max))

    assert all(len(piece) <= bytes_max and piece.endswith(b"}\n") for piece in pieces)
    assert [found for piece in pieces for found in json.loads(piece)["records"]] == records
    assert all(json.loads(piece)["action"] == "processRecords" for piece in pieces)
    assert len(pieces) == 1 or all(json.loads(piece)["records"] for piece in pieces)


def test_a_piece_holds_as_many_records_as_fit() -> None:
    one = len(json.dumps(record(10), separators=(",", ":"))) + 1  # and its comma
    around = len(b'{"action":"processRecords","records":[]}\n')
    line = batch([record(number) for number in range(10, 70)])
    for bytes_max in range(around + one, around + 4 * one):
        fit = (bytes_max - around) // one
        pieces = list(wire.cut(line, bytes_max))
        assert [len(json.loads(piece)["records"]) for piece in pieces] == [fit] * (60 // fit)
        assert max(map(len, pieces)) <= bytes_max


def test_a_record_may_fill_a_piece_alone() -> None:
    piece = b'{"action":"processRecords","records":["AAAA"]}\n'
    line = b'{"action":"processRecords","records":["AAAA","AAAA"]}'
    assert list(wire.cut(line, len(piece) + 1)) == [piece, piece]


def test_a_record_longer_than_a_piece_is_a_bad_line() -> None:
    with pytest.raises(wire.BadLine, match=r"one record of 9,\d\d\d bytes, with room for 962"):
        list(wire.cut(batch([record(1), record(2, "A" * 9000)]), 1003))


@pytest.mark.parametrize("line", [STORED, INITIALIZE, b'{"action":"processRecords","records":[{', b"\xff" * 50])
def test_only_a_batch_is_cut(line: bytes) -> None:
    with pytest.raises(wire.BadLine):
        list(wire.cut(line, 1000))
