"""Kinesis requests and answers as JSON and as CBOR, in which the Java SDK speaks by default."""

from __future__ import annotations

from typing import Any, TypeVar

import cbor2
import msgspec

from streamheal.local.faults import Fault
from streamheal.local.shards import Kept

T = TypeVar("T")

JSON = "application/x-amz-json-1.1"
CBOR = "application/x-amz-cbor-1.1"


def read(content_type: str, body: bytes, into: type[T]) -> T:
    """
    Raises:
        Fault: The body is not such a request.
    """
    try:
        if content_type.startswith(CBOR):
            return msgspec.convert(_from_cbor(body), into)
        return msgspec.json.decode(body or b"{}", type=into)
    except (msgspec.MsgspecError, cbor2.CBORDecodeError) as error:
        raise Fault("SerializationException", str(error)) from error


def write(content_type: str, answer: dict[str, Any]) -> bytes:
    if content_type.startswith(CBOR):
        return cbor2.dumps(_with_milliseconds(answer))
    return msgspec.json.encode(answer)


def write_records(content_type: str, records: list[bytes], rest: dict[str, Any]) -> bytes:
    """GetRecords' answer. The records are JSON texts already, and in JSON are only strung together."""
    if content_type.startswith(CBOR):
        kept = [msgspec.to_builtins(msgspec.json.decode(one, type=Kept), builtin_types=(bytes,)) for one in records]
        return write(content_type, {**rest, "Records": kept})
    return b'{"Records":[' + b",".join(records) + b"]," + msgspec.json.encode(rest)[1:]


def cbor_as_json(body: bytes) -> bytes:
    """A CBOR request, for moto, which reads JSON only."""
    return msgspec.json.encode(_from_cbor(body) if body else {})


def json_as_cbor(body: bytes) -> bytes:
    return write(CBOR, msgspec.json.decode(body)) if body.strip() else b""


def _from_cbor(body: bytes) -> Any:
    # The Java SDK tags times as CBOR does (tag 1), but counts milliseconds where CBOR means
    # seconds (seen with the SDK of KCL 3.1).
    return cbor2.loads(body, semantic_decoders={1: lambda milliseconds, _: milliseconds / 1000})


def _with_milliseconds(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _with_milliseconds(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_milliseconds(one) for one in value]
    if isinstance(value, float) and name.endswith("Timestamp"):
        return round(value * 1000)
    return value
