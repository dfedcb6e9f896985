"""Serves the emulator on 127.0.0.1, HTTP/1.1 and h2c by prior knowledge, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable

from streamheal.errors import UsageError

_HOST = "127.0.0.1"
_MISSING = "the embedded AWS is not installed here: pip install 'streamheal[local]'"


def serve(port: int, ready: Callable[[str], None]) -> None:
    """Answer until a signal says stop. Call it in the main thread.

    Args:
        port: 0 takes a free one.
        ready: Called with the address, once requests are answered there.

    Raises:
        UsageError: The port is taken, or moto is not installed.
    """
    with _listen(port) as listener:
        try:
            from streamheal.local.app import App
        except ImportError as error:
            raise UsageError(f"{_MISSING} ({error})") from error
        asyncio.run(_serve(App(), listener, ready))


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((_HOST, port), backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"port {port} on {_HOST} is taken; stop what listens there, or choose another with --port"
            ) from error
        raise UsageError(f"cannot listen on port {port} of {_HOST}: {error.strerror}") from error


async def _serve(app: object, listener: socket.socket, ready: Callable[[str], None]) -> None:
    from hypercorn.asyncio import serve as serve_asgi
    from hypercorn.config import Config

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    config = Config()
    # hypercorn closes what it is given.
    config.bind = [f"fd://{os.dup(listener.fileno())}"]
    config.errorlog = _log()
    # Clients keep connections in pools; one that the server closes just as it is used again
    # is an error to them.
    config.keep_alive_timeout = 3600.0
    config.keep_alive_max_requests = sys.maxsize
    config.graceful_timeout = 0.5
    serving = asyncio.create_task(serve_asgi(app, config, shutdown_trigger=stopped.wait))  # type: ignore[arg-type]  # returns True, not None
    telling = asyncio.create_task(_tell(listener.getsockname()[1], ready))
    await asyncio.wait((serving, telling), return_when=asyncio.FIRST_COMPLETED)
    await serving
    await telling


async def _tell(port: int, ready: Callable[[str], None]) -> None:
    from streamheal.local.app import HEALTH

    reader, writer = await asyncio.open_connection(_HOST, port)
    writer.write(f"GET {HEALTH} HTTP/1.1\r\nHost: {_HOST}\r\nConnection: close\r\n\r\n".encode())
    await reader.read()
    writer.close()
    ready(f"http://{_HOST}:{port}")


def _log() -> logging.Logger:
    log = logging.getLogger("streamheal.local")
    log.setLevel(logging.WARNING)
    return log


def stop_with_parent() -> None:
    """Stop when standard input ends: whoever started us holds its other end, and is gone then."""

    def watch() -> None:
        # Not sys.stdin: the interpreter's end waits a second for a lock that its reader holds.
        while os.read(0, 4096):
            pass
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
