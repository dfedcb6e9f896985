"""moto's server application, called with one whole request at a time.

hypercorn's own wrapper of WSGI sends no response head when the body is empty (0.18, `run_app`):
a HEAD on S3 would end as HTTP 500.
"""

from __future__ import annotations

import io
import sys
from collections.abc import MutableMapping
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app


class _Application(DomainDispatcherApplication):
    """moto looks through the folders of all its services for every request, which is a third of an
    S3 put (moto 5.2.5, `list_of_moto_modules`); once a host is enough."""

    def __init__(self) -> None:
        super().__init__(create_backend_app)
        self._backends: dict[str | None, Any] = {}

    def get_backend_for_host(self, host: str | None) -> Any:
        if host not in self._backends:
            self._backends[host] = super().get_backend_for_host(host)
        return self._backends[host]


_application = _Application()


def answer(
    scope: MutableMapping[str, Any], headers: dict[str, str], body: bytes
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body."""
    started: list[Any] = []

    def start_response(status: str, told: list[tuple[str, str]], exc_info: object = None) -> None:
        started[:] = [status, told]

    parts = _application(_environ(scope, headers, body), start_response)
    try:
        told = b"".join(parts)
    finally:
        if hasattr(parts, "close"):
            parts.close()
    status, pairs = started
    return int(status.split(" ", 1)[0]), [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in pairs], told


def _environ(scope: MutableMapping[str, Any], headers: dict[str, str], body: bytes) -> dict[str, Any]:
    host, port = scope.get("server") or ("127.0.0.1", 80)
    raw_path = scope["raw_path"].decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        # S3 keys are found in the path as the client wrote it (moto/core/request.py).
        "RAW_URI": f"{raw_path}?{query}" if query else raw_path,
        "QUERY_STRING": query,
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in headers.items():
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.setdefault("HTTP_HOST", f"{host}:{port}")
    return environ
