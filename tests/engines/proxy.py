"""A small HTTP server before the real one, that can refuse what a test wants refused."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import defaultdict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

DROPPED = "the connection is closed without an answer"


class Call(NamedTuple):
    operation: str
    request: dict[str, Any]
    at: float


class FaultProxy:
    """A context manager; `refuse` what the next calls of an operation shall get.

    Attributes:
        url: Where it answers.
        calls: What was asked, in order.
    """

    def __init__(self, upstream: str) -> None:
        self.calls: list[Call] = []
        self._asked = threading.Condition()
        self._upstream = urlsplit(upstream)
        self._faults: dict[str, deque[tuple[str, int, str]]] = defaultdict(deque)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                proxy._answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that went away: quiet."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def refuse(self, operation: str, *names: str, status: int = 400, message: str = "by the proxy") -> None:
        """Answer the next calls with these errors, one each; `DROPPED` closes the connection."""
        self._faults[operation] += [(name, status, message) for name in names]

    def hand_over_to(self, port: int) -> None:
        """Ask this port of 127.0.0.1 from now on."""
        self._upstream = urlsplit(f"http://127.0.0.1:{port}")

    def asked(self, operation: str) -> list[Call]:
        return [call for call in self.calls if call.operation == operation]

    def until_asked(self, operation: str, times: int) -> None:
        with self._asked:
            assert self._asked.wait_for(lambda: len(self.asked(operation)) >= times, timeout=20)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        operation = handler.headers["X-Amz-Target"].partition(".")[2]
        with self._asked:
            self.calls.append(Call(operation, json.loads(body), time.monotonic()))
            self._asked.notify_all()
        if self._faults[operation]:
            name, status, message = self._faults[operation].popleft()
            if name == DROPPED:
                handler.close_connection = True
                return
            told = json.dumps({"__type": name, "message": message}).encode()
        else:
            status, told = self._forward(handler, body)
        handler.send_response(status)
        handler.send_header("Content-Type", "application/x-amz-json-1.1")
        handler.send_header("Content-Length", str(len(told)))
        handler.end_headers()
        handler.wfile.write(told)

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        upstream = http.client.HTTPConnection(self._upstream.hostname or "", self._upstream.port)
        try:
            upstream.request("POST", "/", body, dict(handler.headers))
            answer = upstream.getresponse()
            return answer.status, answer.read()
        finally:
            upstream.close()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
