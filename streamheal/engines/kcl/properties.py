"""What the daemon is told: one file of Java properties, ours and the user's own."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import javaproperties

from streamheal.engines.poll_shards import StartAt

# The daemon halts by itself when nothing of us moves for so long; pipes say in time that they do.
TIMEOUT_S = 300
# The daemon's own end takes some seconds more than its shards' (3 to 6 s, measured on KCL 3.1.3).
_GRACE_MORE_S = 10.0
_HAND_OVER_MORE_S = 10.0

_USUAL = re.compile(r"https://(?:kinesis|dynamodb)\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?")
_CLOUDWATCH_VARIABLES = ("AWS_ENDPOINT_URL_CLOUDWATCH", "AWS_ENDPOINT_URL")
_RETRIEVAL = "retrievalMode"
_CREDENTIALS = "AwsCredentialsProvider"  # in any case of letters (KCL 3.x)

# Two names of one setting (KCL 3.1.3, MultiLangDaemonConfiguration): of both in one file, either may win.
_STARTS = ("initialPositionInStream", "initialPositionInStreamExtended")


class Endpoints(NamedTuple):
    """Where AWS answers, if not where it usually does."""

    kinesis: str | None = None
    dynamodb: str | None = None
    cloudwatch: str | None = None

    @classmethod
    def of(cls, kinesis: str, dynamodb: str, every: str | None) -> Endpoints:
        """What KCL would not find by itself.

        Args:
            kinesis, dynamodb: Where boto3 goes.
            every: Said by the user for every service.
        """
        cloudwatch = every or next(filter(None, map(os.environ.get, _CLOUDWATCH_VARIABLES)), None)
        return cls(_not_usual(kinesis), _not_usual(dynamodb), cloudwatch)


def daemon_properties(
    *,
    executable: str,
    stream: str,
    application: str,
    worker_id: str,
    start: StartAt,
    region: str,
    endpoints: Endpoints,
    shutdown_s: float,
    handed_on: Mapping[str, str] | None,
) -> str:
    """The file's text. What the user hands on wins over our defaults, never over what is ours."""
    defaults = {
        "timeoutInSeconds": str(TIMEOUT_S),
        # How long the first start on an empty table sleeps before it lists shards (60 s in KCL).
        "shardSyncIntervalMillis": "1000",
        # 0 in KCL: it would end without asking any shard to finish.
        "shutdownGraceMillis": _millis(shutdown_s + _GRACE_MORE_S),
        "gracefulLeaseHandoffTimeoutMillis": _millis(shutdown_s + _HAND_OVER_MORE_S),
    }
    if handed_on is None:
        # Who brings a file goes on as before; a new application is not to pay for a consumer of enhanced
        # fan-out (KCL's default), nor for metrics that Prometheus and EMF have better.
        defaults |= {_RETRIEVAL: "POLLING", "metricsLevel": "NONE"}
    elif _is_emulator(endpoints.kinesis) and handed_on.get(_RETRIEVAL, "DEFAULT") == "DEFAULT":
        # No emulator has the enhanced fan-out that KCL would take then: it would read nothing, for ever.
        handed_on = {**handed_on, _RETRIEVAL: "POLLING"}
    handed_on = handed_on or {}
    if not any(key.lower() == _CREDENTIALS.lower() for key in handed_on):
        defaults[_CREDENTIALS] = "DefaultCredentialsProvider"
    optional = {
        "kinesisEndpoint": endpoints.kinesis,
        "dynamoDBEndpoint": endpoints.dynamodb,
        "cloudWatchClient.endpointOverride": endpoints.cloudwatch,
    }
    defaults.update({key: value for key, value in optional.items() if value is not None})
    ours = {
        "executableName": executable,
        "processingLanguage": f"python/{sys.version_info.major}.{sys.version_info.minor}",
        "streamName": stream,
        "applicationName": application,
        "workerId": worker_id,
        "regionName": region,
        # A shard on which nothing comes has its chance to checkpoint, too.
        "callProcessRecordsEvenForEmptyRecordList": "true",
        **_start(start),
    }
    theirs = {key: value for key, value in handed_on.items() if key not in _STARTS}
    told: str = javaproperties.dumps({**defaults, **theirs, **ours}, timestamp=False)
    return told


def _not_usual(endpoint: str) -> str | None:
    return None if _USUAL.fullmatch(endpoint) else endpoint


def _is_emulator(endpoint: str | None) -> bool:
    return endpoint is not None and ".amazonaws.com" not in endpoint


def _start(start: StartAt) -> dict[str, str]:
    if isinstance(start, datetime):
        return {"initialPositionInStreamExtended": str(int(start.timestamp()))}
    return {"initialPositionInStream": start}


def _millis(seconds: float) -> str:
    return str(round(seconds * 1000))
