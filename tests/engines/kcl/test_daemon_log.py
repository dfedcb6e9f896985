"""The daemon's log, in ours; and what of it no second try will mend.

The texts are of the shape that the AWS SDK for Java 2 writes, in the pattern of `logback.xml`.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamheal.engines.kcl import daemon_log
from streamheal.engines.kcl.daemon_log import DaemonLog, misconfiguration, parse
from tests.engines.kcl.heard import Event, HeardLog

SDK = "software.amazon.awssdk.services"
STACK = (
    " | \tat software.amazon.awssdk.core.internal.http.CombinedResponseHandler.handleErrorResponse(Combined.java:126)"
)
USER = "User: arn:aws:sts::123456789012:assumed-role/shop/i-0 is not authorized to perform"
TAIL = "Status Code: 400, Request ID: 3f2a, Extended Request ID: x9/2=) (SDK Attempt Count: 1)"

NO_STREAM = (
    f"{SDK}.kinesis.model.ResourceNotFoundException: Stream orders under account 123456789012 not found. "
    f"(Service: Kinesis, {TAIL}{STACK}"
)
NOT_ALLOWED = (
    f"java.util.concurrent.CompletionException: {SDK}.dynamodb.model.DynamoDbException: {USER}: dynamodb:CreateTable "
    f"on resource: arn:aws:dynamodb:eu-central-1:123456789012:table/shop because no identity-based policy allows "
    f"the dynamodb:CreateTable action (Service: DynamoDb, {TAIL}{STACK}"
)
KINESIS_DENIED = f"{SDK}.kinesis.model.AccessDeniedException: {USER}: kinesis:GetRecords (Service: Kinesis, {TAIL}"
METRICS_DENIED = (
    f"{SDK}.cloudwatch.model.CloudWatchException: {USER}: cloudwatch:PutMetricData because no identity-based policy "
    f"allows the cloudwatch:PutMetricData action (Service: CloudWatch, {TAIL.replace('400', '403')}{STACK}"
)
UNKNOWN_KEY = (
    f"{SDK}.kinesis.model.KinesisException: The security token included in the request is invalid. "
    f"(Service: Kinesis, {TAIL}"
)
WRONG_SECRET = (
    f"{SDK}.dynamodb.model.DynamoDbException: The request signature we calculated does not match the signature you "
    f"provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details. "
    f"(Service: DynamoDb, {TAIL}"
)
WRONG_SECRET_BY_NAME = WRONG_SECRET.replace("model.DynamoDbException", "model.InvalidSignatureException")
SKEWED = (
    f"{SDK}.kinesis.model.KinesisException: Signature expired: 20260301T110000Z is now earlier than "
    f"20260301T115500Z (20260301T120000Z - 5 min.) (Service: Kinesis, {TAIL}"
)
NO_CREDENTIALS = (
    "software.amazon.awssdk.core.exception.SdkClientException: Unable to load credentials from any of the providers "
    "in the chain AwsCredentialsProviderChain(credentialsProviders=[SystemPropertyCredentialsProvider()])"
)
NO_PROVIDER = "Unable to construct any provider with name DefaultAWSCredentialsProviderChain"
OTHER_TABLE = (
    f"{SDK}.dynamodb.model.DynamoDbException: The provided key element does not match the schema "
    f"(Service: DynamoDb, {TAIL}"
)
NO_TABLE_YET = (
    f"{SDK}.dynamodb.model.ResourceNotFoundException: Requested resource not found: Table: stream-shop not found "
    f"(Service: DynamoDb, {TAIL}"
)
THROTTLED = (
    f"{SDK}.kinesis.model.ProvisionedThroughputExceededException: Rate exceeded for shard shardId-000000000000 in "
    f"stream orders under account 123456789012. (Service: Kinesis, {TAIL}"
)
UNREACHABLE = (
    "software.amazon.awssdk.core.exception.SdkClientException: Unable to execute HTTP request: Connection refused: "
    "localhost/127.0.0.1:4566"
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (NO_STREAM, r"^the stream is not there: Stream orders under account 123456789012 not found\. \(Kinesis\)$"),
        (NOT_ALLOWED, r"^AWS does not allow what KCL needs: User: .*CreateTable on .*table/shop .* \(DynamoDb\)$"),
        (KINESIS_DENIED, r"^AWS does not allow what KCL needs: User: .*kinesis:GetRecords \(Kinesis\)$"),
        (UNKNOWN_KEY, r"^AWS does not allow what KCL needs: The security token included in the request is invalid"),
        (WRONG_SECRET, r"^AWS does not allow what KCL needs: The request signature we calculated does not match"),
        (WRONG_SECRET_BY_NAME, r"^AWS does not allow what KCL needs: The request signature we calculated"),
        (NO_CREDENTIALS, r"^KCL finds no AWS credentials: set AWS_ACCESS_KEY_ID"),
        (NO_PROVIDER, r"^KCL knows no AwsCredentialsProvider DefaultAWSCredentialsProviderChain: expected one of the"),
        (OTHER_TABLE, r"table of the application's name is not one of KCL's: .* Give another --application$"),
        ("Error: Could not find or load main class software.amazon.kinesis", r"^Java does not start: Error: Could"),
        ("Error: Could not create the Java Virtual Machine.", r"^Java does not start"),
        ("Invalid maximum heap size: -Xmx9999999m", r"^Java does not start: Invalid maximum heap size"),
    ],
)  # fmt: skip
def test_what_no_second_try_will_mend_is_said_plainly(text: str, says: str) -> None:
    said = misconfiguration(text)
    assert said is not None
    assert re.search(says, said)
    assert not {"|", "\tat"} & set(said)


@pytest.mark.parametrize(
    "text",
    [SKEWED, METRICS_DENIED, NO_TABLE_YET, THROTTLED, UNREACHABLE, "", "Worker loop is complete.",
     "Caught exception when initializing LeaseCoordinator"],
)  # fmt: skip
def test_what_may_pass_is_waited_out(text: str) -> None:
    """A clock is corrected for, tables are made at the first start, and KCL reads without its metrics."""
    assert misconfiguration(text) is None


def test_a_line_is_taken_apart_as_logback_puts_it_together() -> None:
    line = "WARN\tShutdownTask\tshardId-000000000003\tCould not end\tjava.lang.Oops: why | \tat A.b(A.java:1)\n"
    assert parse(line) == (
        "warning", "ShutdownTask", "shardId-000000000003", "Could not end java.lang.Oops: why | \tat A.b(A.java:1)",
    )  # fmt: skip
    assert parse("INFO\tScheduler\t-\tSleeping\t\r\n") == ("info", "Scheduler", None, "Sleeping")


@pytest.mark.parametrize(
    ("written", "level"),
    [("ERROR", "error"), ("WARN", "warning"), ("INFO", "info"), ("DEBUG", "debug"), ("TRACE", "debug")],
)
def test_levels_are_kept(written: str, level: str) -> None:
    assert parse(f"{written}\tA\t-\tx\t").level == level


@pytest.mark.parametrize(
    "line",
    [
        "Exception in thread main java.lang.OutOfMemoryError",
        "a\tb\tc\td\te",
        "INFO\tonly\ttwo",
        "Traceback (most recent",
    ],
)
def test_other_voices_are_warnings(line: str) -> None:
    """The JVM's own, or a stub's that could not reach us."""
    assert parse(line + "\n") == ("warning", "java", None, line)


def test_the_pattern_is_the_one_that_is_read() -> None:
    """Level, logger, shard, message and exception between tabs, and no newline within."""
    (pattern,) = ET.parse(Path(daemon_log.__file__).with_name("logback.xml")).iter("pattern")
    assert pattern.text is not None
    fields = re.sub(r"^%level%replace\(\\t(.*)\)\{'\[\\r\\n\]\+', ' \| '\}%nopex%n$", r"\1", pattern.text)
    assert fields == r"%logger{0}\t%mdc{ShardId:--}\t%msg\t%ex{16}"


def heard(*lines: str) -> tuple[DaemonLog, list[Event], list[int]]:
    log, troubles = HeardLog(), [0]
    told = DaemonLog(log, lambda: troubles.append(1))
    for line in lines:
        told.line(line)
    return told, log.events, troubles


BANNER = "INFO\tMultiLangDaemonConfig\t-\tUsing workerId: host-1\t"
READY = "INFO\tScheduler\t-\tInitialization complete. Starting worker loop.\t"


def test_until_it_has_started_what_is_no_warning_is_folded() -> None:
    told, events, _ = heard(BANNER, "WARN\tA\t-\tslow\t", READY, "INFO\tB\tshardId-000000000001\tlease taken\t", "")
    assert [(event.level, event.fields["said"]) for event in events] == [
        ("debug", "Using workerId: host-1"),
        ("warning", "slow"),
        ("info", "Initialization complete. Starting worker loop."),
        ("info", "lease taken"),
    ]
    assert {event.name for event in events} == {"daemon_said"}
    assert events[0].fields == {"logger": "MultiLangDaemonConfig", "said": "Using workerId: host-1"}
    assert events[3].fields["shard_id"] == "shardId-000000000001"
    assert told.started


def test_one_that_dies_before_has_not_started_and_its_last_words_are_kept() -> None:
    told, _, _ = heard(BANNER, "ERROR\tA\t-\tfirst\t", "WARN\tB\t-\t" + "x" * 900 + "\t", BANNER)
    assert not told.started
    assert told.said == "x" * 500
    assert heard(BANNER)[0].said == ""


def test_an_exception_it_does_not_start_for_is_its_last_word_and_what_follows_is_folded() -> None:
    """KCL prints where it was and how it is used after it, to the end."""
    told, events, _ = heard(
        "java.lang.IllegalArgumentException: Unknown retrieval type 'SOME'. Available: (FANOUT, POLLING, DEFAULT)",
        "\tat software.amazon.kinesis.multilang.config.RetrievalMode.from(RetrievalMode.java:47)",
        "Unknown retrieval type 'SOME'. Available: (FANOUT, POLLING, DEFAULT)",
        "Usage: amazon-kinesis-client MultiLangDaemon [options]",
        "For more information, visit: https://github.com/awslabs/amazon-kinesis-client",
    )
    assert told.said == (
        "java.lang.IllegalArgumentException: Unknown retrieval type 'SOME'. Available: (FANOUT, POLLING, DEFAULT)"
    )
    assert [event.level for event in events] == ["warning", "debug", "debug", "debug", "debug"]


def test_the_jvms_words_are_warnings_once_it_has_started() -> None:
    told, events, _ = heard(
        READY, 'Exception in thread "x" java.lang.OutOfMemoryError: Java heap space', "Terminating due to it"
    )
    assert told.said == "Terminating due to it"
    assert [event.level for event in events] == ["info", "warning", "warning"]


def test_the_first_trouble_is_told_once() -> None:
    told, _, troubles = heard(
        f"ERROR\tA\t-\tfailed\t{NO_STREAM}", f"ERROR\tA\t-\tfailed\t{NO_STREAM}", f"WARN\tB\t-\tfailed\t{NOT_ALLOWED}"
    )
    assert told.trouble is not None
    assert told.trouble.startswith("the stream is not there")
    assert sum(troubles) == 1


def test_information_is_no_trouble() -> None:
    """KCL tells of what it expected to fail at this level."""
    told, _, troubles = heard(f"INFO\tA\t-\tfailed\t{NO_STREAM}")
    assert (told.trouble, sum(troubles)) == (None, 0)


@given(st.text(max_size=200))
def test_whatever_it_says_is_logged_or_blank(line: str) -> None:
    _, events, _ = heard(line)
    assert len(events) == bool(parse(line).text)


@given(st.text(max_size=50), st.text(max_size=200))
def test_whatever_it_says_of_an_exception_stays_one_event(message: str, exception: str) -> None:
    _, events, _ = heard(f"ERROR\tA\t-\t{message}\t{exception}")
    assert len(events) == bool(message.strip() or exception.strip())
