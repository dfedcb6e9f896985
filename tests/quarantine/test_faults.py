"""AWS on a bad day: an endpoint that answers, but not with what was asked for."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from streamheal.config.aws import AwsOptions
from streamheal.errors import StateError, StateUnavailable, StoreError, StoreUnavailable, UsageError
from streamheal.quarantine import sending
from streamheal.quarantine.open import open_store
from streamheal.state.dynamodb import DynamoState
from streamheal.state.sqlite import SqliteState
from tests.quarantine.samples import envelope

Answer = tuple[int, str]
Serve = Callable[[Callable[[str, bytes], Answer]], AwsOptions]


@pytest.fixture
def serve(aws: Any) -> Iterator[Serve]:
    """Starts an endpoint that answers every request as told: by its operation and body."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Callable[[str, bytes], Answer]) -> AwsOptions:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                operation = (self.headers.get("X-Amz-Target") or self.command).rpartition(".")[2]
                status, text = answer(operation, body)
                data = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_HEAD = handle_any

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return AwsOptions(endpoint_url=f"http://127.0.0.1:{server.server_port}")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def s3_says(status: int, code: str) -> Callable[[str, bytes], Answer]:
    return lambda operation, body: (status, f"<Error><Code>{code}</Code><Message>for a test</Message></Error>")


def json_says(status: int, code: str) -> Callable[[str, bytes], Answer]:
    return lambda operation, body: (status, json.dumps({"__type": code, "message": "for a test"}))


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (503, "ServiceUnavailable")])
def test_a_busy_s3_is_waited_for(serve: Serve, status: int, code: str) -> None:
    store = open_store("s3://bucket", aws=serve(s3_says(status, code)))
    assert [type(outcome) for outcome in store.put([envelope(1), envelope(2)])] == [StoreUnavailable] * 2
    with pytest.raises(StoreUnavailable, match=str(status)):
        store.check()


def test_an_s3_that_forbids_is_said_at_the_check_and_is_an_error_later(serve: Serve) -> None:
    store = open_store("s3://bucket/prefix", aws=serve(s3_says(403, "AccessDenied")))
    with pytest.raises(UsageError, match="cannot write to, list and read s3://bucket/prefix"):
        store.check()
    (outcome,) = store.put([envelope(1)])
    assert type(outcome) is StoreError
    assert "s3://bucket/prefix" in str(outcome)


def test_records_that_kinesis_refuses_are_sent_again_and_only_they(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy shard refuses single records of a request: those kept are not sent twice."""
    monkeypatch.setattr(sending, "_RETRY_S", 0.001)
    sent: list[int] = []

    def answer(operation: str, body: bytes) -> Answer:
        if operation != "PutRecords":
            return 200, json.dumps({"StreamDescriptionSummary": {}})
        records = json.loads(body)["Records"]
        sent.append(len(records))
        # Every other one is refused; the last one always.
        kept = {"SequenceNumber": "1", "ShardId": "shardId-000000000000"}
        refused = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "busy"}
        said = [kept if nth % 2 == 0 and len(records) > 1 else refused for nth in range(len(records))]
        return 200, json.dumps({"FailedRecordCount": said.count(refused), "Records": said})

    store = open_store("kinesis://orders", state=SqliteState(tmp_path / "state.db"), aws=serve(answer))
    outcomes = store.put([envelope(nth) for nth in range(4)])
    assert sent == [4, 2, 1]
    assert outcomes[:3] == [None, None, None]
    assert type(outcomes[3]) is StoreUnavailable
    assert "ProvisionedThroughputExceededException: busy" in str(outcomes[3])


def test_a_throttled_kinesis_is_waited_for(serve: Serve, tmp_path: Path) -> None:
    options = serve(json_says(400, "LimitExceededException"))
    store = open_store("kinesis://orders", state=SqliteState(tmp_path / "state.db"), aws=options)
    assert [type(outcome) for outcome in store.put([envelope(1)])] == [StoreUnavailable]


@pytest.mark.parametrize(
    "code", ["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"]
)
def test_a_throttled_dynamodb_is_waited_for(serve: Serve, code: str) -> None:
    state = DynamoState("orders", serve(json_says(400, code)))
    with pytest.raises(StateUnavailable, match=code):
        state.write("app#kind", "key", {}, replaces=None)
    with pytest.raises(StateUnavailable):
        state.check()


def test_a_dynamodb_that_forbids_says_what_to_allow(serve: Serve) -> None:
    def answer(operation: str, body: bytes) -> Answer:
        if operation == "DescribeTable":
            return json_says(400, "ResourceNotFoundException")(operation, body)
        return json_says(400, "AccessDeniedException")(operation, body)

    options = serve(answer)
    with pytest.raises(UsageError, match=r"no DynamoDB table orders, and it cannot be made.*aws dynamodb create-table"):
        DynamoState("orders", options).check()
    with pytest.raises(StateError, match="orders"):
        DynamoState("orders", options).read("app#kind", "key")
