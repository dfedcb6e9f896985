"""What many tests share: one AWS on loopback, and streams, buckets and tables made in it.

`STREAMHEAL_TEST_ENDPOINT` names another endpoint, for instance a LocalStack's.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import localstack_client.session
import pytest

from streamheal.engines.kcl.jars import find_jars, find_java
from streamheal.errors import UsageError
from streamheal.local import LocalAws


class Aws:
    """The endpoint, and clients made by `localstack_client.session` as a user would."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = localstack_client.session.Session(localstack_host=url.removeprefix("http://"))
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._session.client(service)
        return self._clients[service]

    def environment(self) -> dict[str, str]:
        """For a subprocess: the variables that point boto3 and localstack-client here."""
        return _environment(self.url)


def _environment(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "LOCALSTACK_HOST": url.removeprefix("http://"),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@pytest.fixture(scope="session")
def aws() -> Iterator[Aws]:
    """AWS on loopback, started once; this process' environment points to it while it runs."""
    given = os.environ.get("STREAMHEAL_TEST_ENDPOINT")
    local = None if given else LocalAws()
    url = given or local.start()  # type: ignore[union-attr]  # one of the two is there
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in _environment(url).items():
            patch.setenv(name, value)
        yield Aws(url)
    if local is not None:
        local.stop()


@pytest.fixture
def stream(aws: Aws) -> Callable[..., str]:
    """Makes streams of their own name: `stream(shards=2)` returns the name."""

    def make(shards: int = 1, **options: Any) -> str:
        name = f"stream-{uuid.uuid4().hex[:12]}"
        kinesis = aws.client("kinesis")
        kinesis.create_stream(StreamName=name, ShardCount=shards, **options)
        kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
        return name

    return make


@pytest.fixture
def bucket(aws: Aws) -> Callable[[], str]:
    def make() -> str:
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        aws.client("s3").create_bucket(Bucket=name)
        return name

    return make


@pytest.fixture
def table(aws: Aws) -> Callable[..., str]:
    """Makes tables; without options, one with the string key `key`."""

    def make(**options: Any) -> str:
        name = f"table-{uuid.uuid4().hex[:12]}"
        options = options or {
            "KeySchema": [{"AttributeName": "key", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "key", "AttributeType": "S"}],
        }
        aws.client("dynamodb").create_table(TableName=name, BillingMode="PAY_PER_REQUEST", **options)
        return name

    return make


@pytest.fixture(scope="session")
def kcl() -> None:
    """Java and KCL's jars, or the reason why there is nothing to test."""
    try:
        find_java()
        find_jars()
    except UsageError as error:
        pytest.skip(str(error))
