"""A proxy before the embedded AWS: services that answer late, wrong, or not at all for a while.

late        the answer comes up to 0.6 s late
error       status 500, 503; nothing was done
throttled   refused, as the service throttles
cut         the connection is closed, nothing was done
lost        done, but the connection is closed instead of an answer
silent      no answer for as long as it lasts; then the connection is closed
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

WAYS = ("late", "error", "throttled", "cut", "lost", "silent")
_LATE_S = 0.6
_THROTTLED = {"kinesis": "ProvisionedThroughputExceededException", "dynamodb": "ThrottlingException"}


class Spell(NamedTuple):
    """Bad weather over one service. `share`: of its requests that are hit."""

    service: str
    way: str
    share: float
    until: float


class Request(NamedTuple):
    start: str
    headers: dict[str, str]
    body: bytes

    @property
    def service(self) -> str:
        target = self.headers.get("x-amz-target", "")
        return {"Kinesis": "kinesis", "Dynamo": "dynamodb"}.get(target.partition("_")[0].removesuffix("DB"), "s3")

    def raw(self) -> bytes:
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items() if name != "expect")
        return f"{self.start}\r\n{head}\r\n".encode("latin-1") + self.body


class Weather:
    """A context manager; the proxy answers at `url` from a thread of its own. Dice are thrown from the seed."""

    def __init__(self, upstream: str, seed: int) -> None:
        self._upstream = urlsplit(upstream)
        self._dice = random.Random(seed)
        self._spells: list[Spell] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="weather", daemon=True)
        self._conversations: set[asyncio.Task[None]] = set()
        self.url = ""
        self.hit = 0

    def trouble(self, service: str, way: str, share: float, for_s: float) -> None:
        self._spells = [*self._spells, Spell(service, way, share, time.monotonic() + for_s)]

    def clear(self) -> None:
        self._spells = []

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._converse, "127.0.0.1", 0), self._loop
        ).result()
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for conversation in self._conversations:
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    # -- one connection --------------------------------------------------------------------

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._conversations.add(task)
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            upstream = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
            while (request := await _request(reader, writer)) is not None and await self._answer(
                request, writer, *upstream
            ):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # who went away, or the end of all
        finally:
            self._conversations.discard(task)
            writer.transport.abort()
            if upstream is not None:
                upstream[1].transport.abort()

    async def _answer(
        self,
        request: Request,
        writer: asyncio.StreamWriter,
        from_aws: asyncio.StreamReader,
        to_aws: asyncio.StreamWriter,
    ) -> bool:
        """Whether the connection stays open."""
        spell = self._spell(request.service)
        way = "" if spell is None else spell.way
        if spell is not None and way == "silent":
            await asyncio.sleep(max(0.0, spell.until - time.monotonic()))
        if way in ("cut", "silent"):
            return False
        if way in ("error", "throttled"):
            told = _refusal(request, way)
        else:
            to_aws.write(request.raw())
            told = await _response(from_aws, request.start.startswith("HEAD "))
        if way == "lost":
            return False
        if way == "late":
            await asyncio.sleep(self._dice.uniform(0.05, _LATE_S))
        writer.write(told)
        await writer.drain()
        return True

    def _spell(self, service: str) -> Spell | None:
        now = time.monotonic()
        for spell in self._spells:
            if spell.service == service and now < spell.until and self._dice.random() < spell.share:
                self.hit += 1
                return spell
        return None


def _refusal(request: Request, way: str) -> bytes:
    service = request.service
    if service == "s3":
        status, name = (503, "SlowDown") if way == "throttled" else (500, "InternalError")
        body = f"<Error><Code>{name}</Code><Message>bad weather</Message></Error>"
        if request.start.startswith("HEAD "):
            body = ""
    else:
        status, name = (400, _THROTTLED[service]) if way == "throttled" else (500, "InternalFailure")
        body = f'{{"__type": "{name}", "message": "bad weather"}}'
    kind = "application/xml" if service == "s3" else "application/x-amz-json-1.1"
    head = f"HTTP/1.1 {status} Bad Weather\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


async def _head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]] | None:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    start, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return start, headers


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    if (head := await _head(reader)) is None:
        return None
    start, headers = head
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return Request(start, headers, await _body(reader, headers))


async def _response(reader: asyncio.StreamReader, to_head: bool) -> bytes:
    if (head := await _head(reader)) is None:
        raise ConnectionResetError("the embedded AWS has hung up")
    start, headers = head
    bodiless = to_head or start.split()[1] in ("204", "304")
    body = b"" if bodiless else await _body(reader, headers)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{start}\r\n{lines}\r\n".encode("latin-1") + body


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    """As it stands on the wire."""
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    body = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        chunk = await reader.readexactly(int(line.split(b";")[0], 16) + 2)
        body += line + chunk
        if len(chunk) == 2:
            return body
