"""AWS is configured as boto3 is, and says what is wrong in one sentence."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from streamheal.config import aws
from streamheal.errors import Unavailable, UsageError


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration but what the test gives."""
    for name in ("PROFILE", "REGION", "DEFAULT_REGION", "ENDPOINT_URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    aws._session.cache_clear()


def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")


def _refused(name: str, status: int = 400, message: str = "because") -> ClientError:
    response = {"Error": {"Code": name, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "GetRecords")  # type: ignore[arg-type]


def test_aws_region_counts_although_boto3_does_not_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    assert aws.client("kinesis").meta.region_name == "eu-central-1"


def test_options_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    made = aws.client("kinesis", aws.AwsOptions("eu-west-1", None, "http://127.0.0.1:2"))
    assert (made.meta.region_name, made.meta.endpoint_url) == ("eu-west-1", "http://127.0.0.1:2")


def test_an_endpoint_for_one_service_counts_as_in_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", "http://127.0.0.1:3")
    assert aws.client("kinesis").meta.endpoint_url == "http://127.0.0.1:3"


def test_options_reach_the_users_own_clients_by_variables() -> None:
    environment: dict[str, str] = {}
    aws.AwsOptions("eu-west-1", "work", "http://127.0.0.1:2").export(environment)
    assert environment == {
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_PROFILE": "work",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:2",
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (aws.AwsOptions(), "no AWS region. Set AWS_REGION"),
        (aws.AwsOptions(region="eu west"), "Expected an AWS region such as eu-west-1"),
        (aws.AwsOptions(profile="nope"), "The config profile (nope) could not be found"),
        (aws.AwsOptions("eu-west-1", None, "localhost"), "Expected a URL such as http://127.0.0.1:4566"),
    ],
)
def test_what_is_wrong_with_the_configuration_is_said_at_once(options: aws.AwsOptions, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        aws.client("kinesis", options)
    assert says in str(raised.value)


def test_missing_credentials_are_wrong_usage() -> None:
    with pytest.raises(Exception, match="credentials") as raised:
        aws.client("kinesis", aws.AwsOptions("eu-west-1", None, "http://127.0.0.1:9")).list_streams()
    told = aws.explain(raised.value, "read stream orders")
    assert isinstance(told, UsageError)
    assert str(told).startswith("cannot read stream orders: no AWS credentials. Set AWS_ACCESS_KEY_ID")


def test_an_endpoint_that_refuses_may_answer_later(monkeypatch: pytest.MonkeyPatch) -> None:
    _credentials(monkeypatch)
    refusing = aws.client("kinesis", aws.AwsOptions("eu-west-1", None, "http://127.0.0.1:9"), attempts=1)
    with pytest.raises(Exception, match="connect") as raised:
        refusing.list_streams()
    told = aws.explain(raised.value, "read stream orders")
    assert isinstance(told, Unavailable)
    assert str(told) == "cannot read stream orders: http://127.0.0.1:9 does not answer"


def test_a_region_that_aws_does_not_have_is_named_with_the_one_meant() -> None:
    error = aws.botocore_errors.EndpointConnectionError(
        endpoint_url="https://kinesis.eu-wst-1.amazonaws.com/", error="no such name"
    )
    told = aws.explain(error, "read stream orders")
    assert isinstance(told, UsageError)
    assert str(told) == "cannot read stream orders: AWS has no region eu-wst-1. Did you mean eu-west-1?"


@pytest.mark.parametrize("name", ["ProvisionedThroughputExceededException", "KMSThrottlingException", "SlowDown"])
def test_throttling_passes(name: str) -> None:
    assert isinstance(aws.explain(_refused(name), "read"), Unavailable)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("AccessDeniedException", "AWS does not allow it. because (AccessDeniedException)"),
        ("UnrecognizedClientException", "AWS does not accept these credentials"),
        ("ExpiredTokenException", "the AWS credentials have expired"),
        ("ResourceNotFoundException", "cannot read: because (ResourceNotFoundException)"),
    ],
)
def test_what_will_not_pass_is_wrong_usage(name: str, says: str) -> None:
    told = aws.explain(_refused(name), "read")
    assert isinstance(told, UsageError)
    assert says in str(told)


def test_a_server_error_passes_whatever_its_name() -> None:
    assert isinstance(aws.explain(_refused("Whatever", status=503), "read"), Unavailable)
