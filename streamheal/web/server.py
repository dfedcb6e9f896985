"""`/metrics`, `/healthz` and `/readyz`, answered in the host's own event loop.

`/healthz` answers 200 while the loop turns: a host that cannot answer is one to be restarted.
`/readyz` answers 200 once shards are read.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Iterator

import structlog
import uvicorn
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from streamheal.errors import UsageError
from streamheal.web.metrics import Snapshot, registry


def application(host: Snapshot) -> Starlette:
    figures = registry(host)

    # Coroutines, so that starlette calls them in the loop's thread: see `metrics`.
    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(figures), media_type=content_type)

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        shards = host.figures()
        if any(shard.read or shard.lag_s is not None for shard in shards):
            return PlainTextResponse("ok\n")
        why = "no answer from the stream yet" if shards else "no shard is read yet"
        return PlainTextResponse(f"{why}\n", status_code=503)

    return Starlette(
        routes=[Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)],
    )


class _Server(uvicorn.Server):
    """uvicorn as a guest: signals and logging are its host's own business."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answering = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answering.set()


@contextlib.asynccontextmanager
async def serving(address: tuple[str, int] | None, host: Snapshot) -> AsyncIterator[tuple[str, int] | None]:
    """Answer at this address while the body runs; None: do not.

    Yields the address in use, which tells the port where 0 was asked for.

    Raises:
        UsageError: The port is taken, or the address is none of this machine's.
    """
    if address is None:
        yield None
        return
    with _listen(*address) as listener:
        at: tuple[str, int] = listener.getsockname()[:2]
        config = uvicorn.Config(
            application(host),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            # A scrape under way may end; a client that holds its connection open may not hold us.
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        answering = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        waiting = asyncio.create_task(server.answering.wait())
        await asyncio.wait((answering, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        structlog.get_logger("streamheal").info("http_listening", address=f"{at[0]}:{at[1]}")
        try:
            yield at
        finally:
            server.should_exit = True
            await answering


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except socket.gaierror as error:
        raise UsageError(f"--http: there is no host {host!r}: expected HOST:PORT such as 127.0.0.1:9464") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"--http: port {port} on {host} is taken: stop what listens there, choose another port, or say off"
            ) from error
        raise UsageError(f"--http: cannot listen on {host}:{port}: {error.strerror}") from error
