"""A batch's bytes into records, the same way in the worker and in the host.

The host decodes only in trouble, to name and to keep records; the worker decodes in place.
Both must agree on which record is the nth, so what is done here depends on the bytes alone.
"""

from __future__ import annotations

import hashlib
import os
import sys
import types
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from streamheal.records import Dialect, Position, Record

# How the Kinesis Producer Library begins an aggregate, and the length of the MD5 at its end
# (github.com/awslabs/amazon-kinesis-producer, aggregation-format.md).
_KPL_MAGIC = b"\xf3\x89\x9a\xc2"
_MD5_BYTES = 16

Decode = Callable[[Dialect, memoryview, Position | None], list[Record]]


def decoder(shard_id: str) -> Decode:
    """What turns a batch of this shard into its records.

    Records at or before `after` are left out: they share an aggregate with records that are
    still to come, and were settled before a restart.
    """
    makers: dict[Dialect, tuple[Callable[[memoryview], Any], type[Record]]] = {}

    def decode(dialect: Dialect, raw: memoryview, after: Position | None) -> list[Record]:
        if dialect not in makers:
            makers[dialect] = _maker(shard_id, dialect)
        read, kind = makers[dialect]
        records: list[Record] = read(raw).records
        if dialect is Dialect.GET_RECORDS:
            records = _opened(records, kind)
        if after is not None:
            records = [record for record in records if record.position > after]
        return records

    return decode


def plain(record: Record) -> Record:
    """The same record as a `Record` itself: that is written in one way, whatever dialect it was read in."""
    return Record(*(getattr(record, name) for name in Record.__struct_fields__))


_RENAMES: dict[Dialect, Literal["camel", "pascal"]] = {Dialect.DAEMON: "camel", Dialect.GET_RECORDS: "pascal"}


def _maker(shard_id: str, dialect: Dialect) -> tuple[Callable[[memoryview], Any], type[Record]]:
    rename = _RENAMES[dialect]
    kind = _record_type(shard_id, rename)
    records = (("records", list[kind]),)  # type: ignore[valid-type]  # a type made at run time
    batch = msgspec.defstruct("Batch", records, rename=rename, gc=False)
    return msgspec.json.Decoder(batch).decode, kind


def _record_type(shard_id: str, rename: str) -> type[Record]:
    """`Record` as this dialect writes it, the shard's id filled in by the decoder.

    Inherited fields keep the names their base gave them on the wire, so all are declared again.
    """

    def body(namespace: dict[str, Any]) -> None:
        namespace.update(__annotations__=dict(Record.__annotations__), __module__=Record.__module__)
        for field in msgspec.structs.fields(Record):
            if field.default is not msgspec.NODEFAULT:
                namespace[field.name] = field.default
        namespace["shard_id"] = shard_id

    return types.new_class("Record", (Record,), {"rename": rename, "gc": False}, body)


def _opened(records: list[Record], kind: type[Record]) -> list[Record]:
    """User records out of KPL aggregates. Where there is no aggregate, the list itself."""
    if not any(record.data.startswith(_KPL_MAGIC) for record in records):
        return records
    opened: list[Record] = []
    for record in records:
        opened += (record.data.startswith(_KPL_MAGIC) and _open(record, kind)) or [record]
    return opened


def _messages() -> Any:
    """The format's protobuf messages. Their own imports need their folder on the path (1.2.3)."""
    import aws_kinesis_agg

    path = list(sys.path)
    sys.path.insert(0, os.path.dirname(aws_kinesis_agg.__file__))
    try:
        from aws_kinesis_agg import messages_pb2
    finally:
        sys.path[:] = path
    return messages_pb2


def _open(record: Record, kind: type[Record]) -> list[Record] | None:
    """The user records in an aggregate; None where it is broken: then it is delivered as it is.

    aws-kinesis-agg's own loop stops at the first broken user record and loses the rest, so
    only its reading of the format is used.
    """
    body, digest = record.data[len(_KPL_MAGIC) : -_MD5_BYTES], record.data[-_MD5_BYTES:]
    if not body or hashlib.md5(body, usedforsecurity=False).digest() != digest:
        return None
    aggregate = _messages().AggregatedRecord()
    try:
        aggregate.ParseFromString(body)
        return [
            msgspec.structs.replace(
                record,
                data=inner.data,
                partition_key=aggregate.partition_key_table[inner.partition_key_index],
                sub_sequence_number=number,
                explicit_hash_key=(
                    aggregate.explicit_hash_key_table[inner.explicit_hash_key_index]
                    if inner.HasField("explicit_hash_key_index")
                    else None
                ),
            )
            for number, inner in enumerate(aggregate.records)
        ]
    except (sys.modules["google.protobuf.message"].DecodeError, IndexError):
        return None
