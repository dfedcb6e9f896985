"""The embedded AWS with an ear: writes down what each request would need permission for.

    python -m tests.docker.recording FILE

prints its address; FILE gets one line of JSON a request. Whose signature a request carries says
which service is meant.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import cbor2

from streamheal.local import app
from streamheal.local.server import serve

_REGION = "us-east-1"
_ACCOUNT = "123456789012"
_SERVICE = re.compile(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request")


class Call(NamedTuple):
    """What IAM is asked: may this be done, to that?"""

    action: str
    resource: str
    status: int


def read(path: Any) -> list[Call]:
    return [Call(*json.loads(line)) for line in path.read_text().splitlines()]


class Recording(app.App):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._file = open(path, "a", buffering=1)  # noqa: SIM115 - as long as the process
        self._stream = "?"

    async def _answer(self, scope: app.Scope, body: bytes) -> app.Answer:
        answer = await super()._answer(scope, body)
        for action, resource in self._asked(scope, body):
            print(json.dumps(Call(action, resource, answer.status)), file=self._file)
        return answer

    def _asked(self, scope: app.Scope, body: bytes) -> list[tuple[str, str]]:
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        found = _SERVICE.search(headers.get("authorization", ""))
        if found is None:
            return [("unsigned", scope["path"])]
        service = found[1]
        if service == "s3":
            return [_of_s3(scope)]
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        if service not in ("dynamodb", "kinesis"):
            return [(f"{service}:{operation or scope['path'].rpartition('/')[2]}", "*")]
        request = _decoded(headers.get("content-type", ""), body)
        if service == "dynamodb":
            return [(f"dynamodb:{operation}", _table(request))]
        # An iterator or a token stands for a stream that it does not name; there is one in a recording.
        self._stream = _stream(request) or self._stream
        return [(f"kinesis:{operation}", f"arn:aws:kinesis:{_REGION}:{_ACCOUNT}:stream/{self._stream}")]


def _decoded(content_type: str, body: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = cbor2.loads(body) if "cbor" in content_type else json.loads(body)
    return decoded


def _table(request: dict[str, Any]) -> str:
    index = f"/index/{request['IndexName']}" if "IndexName" in request else ""
    return f"arn:aws:dynamodb:{_REGION}:{_ACCOUNT}:table/{request['TableName']}{index}"


def _stream(request: dict[str, Any]) -> str:
    name: str = request.get("StreamName") or request.get("StreamARN", "").rpartition("/")[2]
    return name


def _of_s3(scope: app.Scope) -> tuple[str, str]:
    bucket, _, key = scope["path"].removeprefix("/").partition("/")
    resource = f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"
    listing = "list-type" in parse_qs(scope["query_string"].decode(), keep_blank_values=True)
    match scope["method"], bool(key):
        case ("HEAD", False):
            return "s3:ListBucket", resource
        case ("GET", False) if listing:
            return "s3:ListBucket", resource
        case ("HEAD" | "GET", True):
            return "s3:GetObject", resource
        case ("PUT", True):
            return "s3:PutObject", resource
        case ("DELETE", True):
            return "s3:DeleteObject", resource
    return f"s3:{scope['method']} {scope['query_string'].decode()}", resource


if __name__ == "__main__":
    recording = Recording(sys.argv[1])
    app.App = lambda: recording  # type: ignore[assignment,misc]  # what `serve` makes when it starts
    serve(0, lambda url: print(url, flush=True))
