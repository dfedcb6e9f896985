"""Clients for AWS, configured as boto3 is, and its errors in plain words.

boto3 itself reads AWS_PROFILE, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_KINESIS
and where credentials lie. It does not read AWS_REGION (botocore 1.44, configprovider.py),
which every other SDK and every container on AWS goes by: that is added here.
"""

from __future__ import annotations

import difflib
import os
import re
import threading
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import boto3
import botocore.exceptions as botocore_errors
from botocore.config import Config

from streamheal.errors import Unavailable, UsageError


class Settings(Protocol):
    """The part of the settings that is read here."""

    @property
    def region(self) -> str | None: ...

    @property
    def profile(self) -> str | None: ...

    @property
    def endpoint_url(self) -> str | None: ...


class AwsOptions(NamedTuple):
    """What streamheal's own options say; None leaves it to boto3."""

    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> AwsOptions:
        return cls(settings.region, settings.profile, settings.endpoint_url)

    def export(self, environment: MutableMapping[str, str]) -> None:
        """Into variables, so that the user's own boto3 clients in the workers go the same way."""
        if self.region:
            environment["AWS_REGION"] = environment["AWS_DEFAULT_REGION"] = self.region
        if self.profile:
            environment["AWS_PROFILE"] = self.profile
        if self.endpoint_url:
            environment["AWS_ENDPOINT_URL"] = self.endpoint_url


_AS_BOTO3 = AwsOptions()
_making = threading.Lock()


def session(options: AwsOptions = _AS_BOTO3) -> boto3.Session:
    """
    Raises:
        UsageError: There is no such profile, or AWS's configuration files cannot be read.
    """
    return _session(options.region or os.environ.get("AWS_REGION") or None, options.profile)


def client(
    name: str,
    options: AwsOptions = _AS_BOTO3,
    *,
    connections: int = 10,
    attempts: int = 2,
    connect_timeout_s: float = 5.0,
    read_timeout_s: float = 30.0,
) -> Any:
    """A client; threads may share it.

    Args:
        attempts: Tries of one call inside botocore. Few, because whoever calls waits out faults
            itself, and says so meanwhile.

    Raises:
        UsageError: No region, a malformed one, or no such profile.
    """
    config = Config(
        connect_timeout=connect_timeout_s,
        read_timeout=read_timeout_s,
        max_pool_connections=connections,
        retries={"mode": "standard", "total_max_attempts": attempts},
    )
    try:
        # Making clients is the one thing about a boto3 session that threads must not do at once
        # (boto3 guide, "Multithreading or multiprocessing with clients").
        with _making:
            return session(options).client(name, endpoint_url=options.endpoint_url, config=config)
    except (botocore_errors.BotoCoreError, ValueError) as error:
        raise _as_usage_error(explain(error, f"use AWS {name}")) from error


@lru_cache(maxsize=8)
def _session(region: str | None, profile: str | None) -> boto3.Session:
    try:
        return boto3.Session(region_name=region, profile_name=profile)
    except botocore_errors.BotoCoreError as error:
        raise _as_usage_error(explain(error, "read AWS's configuration")) from error


_THROTTLED = frozenset(
    {
        "KMSThrottlingException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_NOT_NOW = frozenset({"InternalFailure", "InternalServerError", "RequestTimeout", "ServiceUnavailable"})
_NOT_THEY = frozenset(
    {
        "AuthFailure",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_DENIED = frozenset({"403", "AccessDenied", "AccessDeniedException", "AllAccessDisabled", "Forbidden"})

_UNREACHABLE = (
    botocore_errors.ConnectionError,
    botocore_errors.HTTPClientError,
    botocore_errors.IncompleteReadError,
    botocore_errors.ResponseStreamingError,
)


def code(error: BaseException) -> str:
    """AWS's own name for the error, such as `AccessDeniedException`; empty if AWS did not answer."""
    if isinstance(error, botocore_errors.ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return ""


def is_throttling(error: BaseException) -> bool:
    return code(error) in _THROTTLED


def is_passing(error: BaseException) -> bool:
    """The same call may succeed later, with nothing changed on our side."""
    if isinstance(error, botocore_errors.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or code(error) in _THROTTLED or code(error) in _NOT_NOW
    if isinstance(error, botocore_errors.ProxyConnectionError):
        return True
    return isinstance(error, _UNREACHABLE) and _unknown_region(error) is None


def explain(error: BaseException, what: str) -> UsageError | Unavailable:
    """An error of boto3's in one plain sentence, as what its catcher should do.

    Args:
        what: What was tried, after "cannot": `read stream orders`.

    Returns:
        `Unavailable` where trying again may help, else `UsageError`. To be raised `from` the error.
    """
    if is_passing(error):
        return Unavailable(f"cannot {what}: {_passing(error)}")
    return UsageError(_usage(error, what))


def _passing(error: BaseException) -> str:
    if isinstance(error, botocore_errors.EndpointConnectionError):
        return f"{_endpoint(error)} does not answer"
    if isinstance(error, botocore_errors.ConnectTimeoutError | botocore_errors.ReadTimeoutError):
        return f"{_endpoint(error)} did not answer in time"
    if isinstance(error, botocore_errors.ClientError):
        return _said(error)
    return str(error)


def _usage(error: BaseException, what: str) -> str:
    match error:
        case botocore_errors.NoCredentialsError():
            return (
                f"cannot {what}: no AWS credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                f"or AWS_PROFILE, or run where AWS gives a role"
            )
        case botocore_errors.PartialCredentialsError() | botocore_errors.CredentialRetrievalError():
            return f"cannot {what}: the AWS credentials are not complete: {error}"
        case botocore_errors.TokenRetrievalError() | botocore_errors.NoAuthTokenError():
            return f"cannot {what}: no AWS credentials: {error}"
        case botocore_errors.NoRegionError():
            return f"cannot {what}: no AWS region. Set AWS_REGION, or give --region, for instance eu-west-1"
        case botocore_errors.InvalidRegionError():
            return f"cannot {what}: {str(error).rstrip('.')}. Expected an AWS region such as eu-west-1"
        case botocore_errors.ProfileNotFound():
            return f"cannot {what}: {error}. Expected a profile of ~/.aws/config"
        case botocore_errors.ConnectionError() if region := _unknown_region(error):
            near = difflib.get_close_matches(region, _regions(), 1)
            hint = f" Did you mean {near[0]}?" if near else " Expected a region such as eu-west-1"
            return f"cannot {what}: AWS has no region {region}.{hint}"
        case botocore_errors.ClientError() if code(error) in _NOT_THEY:
            return f"cannot {what}: AWS does not accept these credentials. {_said(error)}"
        case botocore_errors.ClientError() if code(error) in _EXPIRED:
            return f"cannot {what}: the AWS credentials have expired. Renew them (aws sso login, for instance)"
        case botocore_errors.ClientError() if code(error) in _DENIED:
            return f"cannot {what}: AWS does not allow it. {_said(error)}"
        case botocore_errors.ClientError():
            return f"cannot {what}: {_said(error)}"
        case ValueError():
            return f"cannot {what}: {error}. Expected a URL such as http://127.0.0.1:4566"
        case _:
            return f"cannot {what}: {error}"


def _said(error: BaseException) -> str:
    assert isinstance(error, botocore_errors.ClientError)
    told = error.response.get("Error", {})
    message = str(told.get("Message") or "").strip()
    return f"{message} ({told.get('Code')})" if message else str(told.get("Code"))


def _endpoint(error: botocore_errors.BotoCoreError) -> str:
    # No path or query: only where it is.
    found = re.match(r"\w+://[^/?]+", str(error.kwargs.get("endpoint_url", "")))
    return found[0] if found else "AWS"


def _unknown_region(error: BaseException) -> str | None:
    """The region of an endpoint whose name nobody knows, if AWS has no such region."""
    if not isinstance(error, botocore_errors.EndpointConnectionError):
        return None
    found = re.search(r"://[a-z0-9.]+\.([a-z0-9-]+)\.amazonaws\.com", str(error.kwargs.get("endpoint_url", "")))
    return found[1] if found and found[1] not in _regions() else None


@lru_cache(maxsize=1)
def _regions() -> frozenset[str]:
    known = boto3.Session()
    partitions = known.get_available_partitions()
    return frozenset(region for one in partitions for region in known.get_available_regions("s3", one))


def _as_usage_error(error: UsageError | Unavailable) -> UsageError:
    return error if isinstance(error, UsageError) else UsageError(str(error))
