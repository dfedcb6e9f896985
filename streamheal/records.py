"""What a record is, where it lies in its stream, and the two ways it comes written.

A record reaches user code exactly as it was decoded: `Record` is the struct that msgspec
fills in, so that the happy path never builds a second object for it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

import msgspec

from streamheal.errors import DecodeError

T = TypeVar("T")

# Kinesis gives arrival times as seconds (GetRecords: a float) or milliseconds (the KCL
# daemon: an integer). Seconds reach this number in the year 5138, milliseconds passed it in 1973.
_MILLISECONDS_FROM = 1e11

_EPOCH = datetime.fromtimestamp(0, UTC)
if TYPE_CHECKING:
    _Arrival = datetime
else:
    _Arrival = datetime | int | float | None


class Position(NamedTuple):
    """Where a record lies in its shard. Compares as numbers do; the text of them would not.

    `sub_sequence` counts the user records within one KPL aggregate, and is 0 elsewhere.
    """

    sequence: int
    sub_sequence: int = 0


class Dialect(IntEnum):
    """How the bytes of a batch are written."""

    DAEMON = 0  # a processRecords line of KCL's MultiLangDaemon
    GET_RECORDS = 1  # the body of a Kinesis GetRecords response


class Shard(msgspec.Struct, frozen=True):
    """The shard that a processor is initialized for."""

    shard_id: str
    stream: str = ""


class Record(msgspec.Struct, gc=False, rename="camel"):
    """One record, as a processor sees it.

    Attributes:
        data: The payload, decoded from base64 and, where it came in a KPL aggregate, opened.
        partition_key: As the producer gave it.
        sequence_number: Up to 129 decimal digits, as Kinesis writes it; compare `position`, not this.
        sub_sequence_number: Place within a KPL aggregate; 0 elsewhere.
        approximate_arrival_timestamp: When Kinesis took the record in; aware, in UTC.
        explicit_hash_key: Known only for records out of a KPL aggregate.
        shard_id: The shard it was read from.
        attempt: 1 for the first try of this record, 2 for the second, …
    """

    data: bytes
    partition_key: str = ""
    sequence_number: str = "0"
    sub_sequence_number: int = 0
    # On the wire this is a number, and making a datetime of each would cost more than
    # decoding the record: it is made when somebody asks (see the property put in below).
    approximate_arrival_timestamp: _Arrival = _EPOCH
    explicit_hash_key: str | None = None
    shard_id: str = "shardId-000000000000"
    attempt: int = 1

    @property
    def position(self) -> Position:
        return Position(int(self.sequence_number), self.sub_sequence_number)

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, into: type[T]) -> T: ...
    def json(self, into: Any = Any) -> Any:
        """The payload read as JSON; with a dataclass, msgspec Struct or TypedDict, as one of those.

        Raises:
            DecodeError: The payload is not JSON, or not of that shape. Poison at once: the
                same bytes will not decode later.
        """
        try:
            return msgspec.json.decode(self.data, type=into)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            wanted = "JSON" if into is Any else getattr(into, "__name__", str(into))
            raise DecodeError(f"not {wanted}: {error}") from error


def arrival_ms(record: Record) -> int:
    """When Kinesis took the record in, as milliseconds since 1970: no datetime is made of it on the way."""
    raw: float | datetime = _arrival_slot(record)
    if isinstance(raw, datetime):
        raw = raw.timestamp()
    return round(raw if raw > _MILLISECONDS_FROM else raw * 1000)


_arrival_slot = Record.__dict__["approximate_arrival_timestamp"].__get__

if not TYPE_CHECKING:
    # The slot keeps what was decoded; readers get a datetime of it. msgspec itself reads and
    # writes slots by their offset, so it neither sees nor pays for the property.
    def _arrival(record: Record) -> datetime:
        raw = _arrival_slot(record)
        if isinstance(raw, datetime):
            return raw
        if raw is None:  # the daemon writes null where an emulator gave no time
            return _EPOCH
        return datetime.fromtimestamp(raw / 1000 if raw > _MILLISECONDS_FROM else raw, UTC)

    Record.approximate_arrival_timestamp = property(_arrival)
