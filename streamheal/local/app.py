"""The ASGI application: Kinesis' shards and records here and at once, everything else by moto in a thread."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from streamheal.local import others, wire
from streamheal.local.faults import Fault
from streamheal.local.kinesis import OPERATIONS
from streamheal.local.shards import Page

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

# Where LocalStack answers it, so that what waits for LocalStack waits for this as well.
HEALTH = "/_localstack/health"
_HEALTHY = b'{"services": {"cloudwatch": "running", "dynamodb": "running", "kinesis": "running", "s3": "running"}}'

_TARGET = "Kinesis_20131202."
_REGION = re.compile(r"Credential=[^/]*/[^/]*/([^/]+)/")
_REGION_DEFAULT = "us-east-1"


class Answer(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class App:
    """Answers every request. Kinesis operations run in the event loop's thread, one after another,
    and moto's in one thread, so that conditional writes stay atomic: moto itself locks nothing."""

    def __init__(self) -> None:
        self._moto = ThreadPoolExecutor(1, "moto")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            body = await _body(receive)
            answer = await self._answer(scope, body)
            await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
            await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, body: bytes) -> Answer:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["path"] == HEALTH:
            return Answer(200, _headers("application/json", _HEALTHY), _HEALTHY)
        target = headers.get("x-amz-target", "")
        operation = target.removeprefix(_TARGET)
        if operation != target and operation in OPERATIONS:
            return _kinesis(operation, headers, body)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._moto, _others, scope, headers, body)


def _kinesis(operation: str, headers: dict[str, str], body: bytes) -> Answer:
    content_type = headers.get("content-type", wire.JSON)
    region = _REGION.search(headers.get("authorization", ""))
    into, answer = OPERATIONS[operation]
    try:
        result = answer(region[1] if region else _REGION_DEFAULT, wire.read(content_type, body, into))
    except Fault as fault:
        told = wire.write(content_type, {"__type": fault.name, "message": fault.message})
        return Answer(400, [*_headers(content_type, told), (b"x-amzn-errortype", fault.name.encode())], told)
    match result:
        case None:
            told = b""
        case (Page(records=records), rest):
            told = wire.write_records(content_type, records, rest)
        case _:
            told = wire.write(content_type, result)
    return Answer(200, _headers(content_type, told), told)


def _headers(content_type: str, body: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"x-amzn-requestid", str(uuid.uuid4()).encode()),
    ]


def _others(scope: Scope, headers: dict[str, str], body: bytes) -> Answer:
    if not headers.get("content-type", "").startswith(wire.CBOR) or _TARGET not in headers.get("x-amz-target", ""):
        return Answer(*others.answer(scope, headers, body))
    headers["content-type"] = wire.JSON
    status, told, text = others.answer(scope, headers, wire.cbor_as_json(body))
    encoded = wire.json_as_cbor(text)
    kept = [(name, value) for name, value in told if name not in (b"content-type", b"content-length")]
    return Answer(status, [*kept, *_headers(wire.CBOR, encoded)], encoded)


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
