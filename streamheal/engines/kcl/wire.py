"""The words of KCL's MultiLangDaemon: one JSON object a line, each way.

    daemon                                   us
    {"action":"processRecords",…}     ──►
                                      ◄──    {"action":"checkpoint",…}        while the action is open
    {"action":"checkpoint","error":…} ──►
                                      ◄──    {"action":"status","responseFor":"processRecords"}

A batch is found and measured here without being decoded: its records are the workers' to read.
Field order and unknown fields are the daemon's own business (KCL 3.1.3 and 3.5.1,
`software.amazon.kinesis.multilang.messages`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

import msgspec

from streamheal.records import Position

Action = Literal["initialize", "processRecords", "leaseLost", "shardEnded", "shutdownRequested", "checkpoint"]


class BadLine(Exception):
    """What came is not the protocol. Nothing can be known of what follows."""


# A Java long; and Kinesis' own pattern of a sequence number, 0|([1-9]\d{0,128}) (its API reference).
Millis = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
SequenceNumber = Annotated[str, msgspec.Meta(max_length=129)]


class Message(msgspec.Struct):
    """Anything but a long batch. Positions come as text and number, as the daemon keeps them."""

    action: Action
    shard_id: str | None = msgspec.field(name="shardId", default=None)
    sequence_number: SequenceNumber | None = msgspec.field(name="sequenceNumber", default=None)
    sub_sequence_number: int | None = msgspec.field(name="subSequenceNumber", default=None)
    error: str | None = None
    records: list[msgspec.Raw] = []
    millis_behind_latest: Millis | None = msgspec.field(name="millisBehindLatest", default=None)


class BatchLine(NamedTuple):
    """A processRecords line, as far as it is read here. `lag_s`: None where the daemon does not know."""

    lag_s: float | None


# Longer lines are batches; what is shorter is decoded whole.
SHORT_BYTES = 4096
_LONG_BATCH = re.compile(rb'\{"action":"processRecords","records":\[\{')
_LAG = re.compile(rb'"millisBehindLatest":(null|\d{1,18})\}\s*$')
_TAIL_BYTES = 64

_decode = msgspec.json.Decoder(Message).decode


def read(line: memoryview) -> Message | BatchLine:
    """What the daemon said: a `BatchLine` for one that holds records, else the message.

    Raises:
        BadLine: It is not JSON, or no message of the protocol.
    """
    if len(line) > SHORT_BYTES and _LONG_BATCH.match(line) and (lag := _LAG.search(line[-_TAIL_BYTES:])):
        return BatchLine(None if lag[1] == b"null" else int(lag[1]) / 1000)
    message = decode(line)
    if message.action == "processRecords" and message.records:
        return BatchLine(_seconds(message.millis_behind_latest))
    return message


def decode(line: memoryview | bytes | bytearray) -> Message:
    """
    Raises:
        BadLine: It is not JSON, or no message of the protocol.
    """
    try:
        message = _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadLine(str(error)) from error
    if message.action == "initialize" and not message.shard_id:
        raise BadLine("initialize without a shardId")
    return message


def lag_s(message: Message) -> float | None:
    return _seconds(message.millis_behind_latest)


def _seconds(millis: int | None) -> float | None:
    return None if millis is None else max(0, millis) / 1000


def begin(message: Message) -> Position | None:
    """The checkpoint that an `initialize` names; None: `TRIM_HORIZON`, `LATEST` or a time."""
    text = message.sequence_number or ""
    return Position(int(text), message.sub_sequence_number or 0) if text.isdecimal() else None


def cut(line: bytes | bytearray, bytes_max: int) -> Iterator[bytes]:
    """A batch too long for one piece of memory, as several lines of whole records.

    One aggregate of the Kinesis Producer Library becomes thousands of records here, each with an
    envelope of its own: a line may be many times what Kinesis sends at once.

    Raises:
        BadLine: It is not the protocol, or one record alone is longer than that.
    """
    head, tail = b'{"action":"processRecords","records":[', b"]}\n"
    room = bytes_max - len(head) - len(tail)
    part: list[msgspec.Raw] = []
    size = 0
    message = decode(line)
    if message.action != "processRecords":
        raise BadLine(f"{message.action} in a line of {len(line):,} bytes")
    for record in message.records:
        length = len(bytes(record)) + 1
        if length > room:
            raise BadLine(f"one record of {length:,} bytes, with room for {room:,}")
        if size + length > room:
            yield head + b",".join(map(bytes, part)) + tail
            part, size = [], 0
        part.append(record)
        size += length
    yield head + b",".join(map(bytes, part)) + tail


def status(action: str) -> bytes:
    return _line(b'{"action":"status","responseFor":"%s"}' % action.encode())


def checkpoint(position: Position) -> bytes:
    return _line(b'{"action":"checkpoint","sequenceNumber":"%d","subSequenceNumber":%d}' % position)


# Without a number: at a shard's end that stores SHARD_END. With the number of its last record, which is
# stored already, it would be no write at all (KCL issue 211).
CHECKPOINT_END = b'\n{"action":"checkpoint","sequenceNumber":null,"subSequenceNumber":null}\n'

# Known to the daemon and waited for by nobody, so that it is skipped, and starts the daemon's own
# clock anew (MultiLangProtocol.waitForStatusMessage).
KEEP_ALIVE = b'\n{"action":"shutdownRequested"}\n'


def _line(message: bytes) -> bytes:
    # The newline before it ends whatever else might have come onto the pipe, as amazon_kclpy does.
    return b"\n" + message + b"\n"
