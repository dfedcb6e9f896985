"""The `.properties` file of an amazon_kclpy application: some of its keys are settings of ours.

    streamName, streamArn             stream
    applicationName                   application
    initialPositionInStream[Extended] from
    regionName                        region
    workerId                          worker_id

`executableName` and `processingLanguage` are ours to say, and so are passed over. Every other key is
handed on to KCL as it is. KCL passes over a key that it does not know, and takes a number that is none
for 0, without a word (3.1.3; commons-beanutils): both are looked at here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import javaproperties

from streamheal.errors import UsageError

# Said by the engine itself, whatever the file says.
_OURS = frozenset({"executableName", "processingLanguage", "callProcessRecordsEvenForEmptyRecordList"})
_SETTINGS = frozenset(
    {
        "streamName",
        "streamArn",
        "applicationName",
        "initialPositionInStream",
        "initialPositionInStreamExtended",
        "regionName",
        "workerId",
    }
)

# The setters of MultiLangDaemonConfiguration, KCL 3.1.3; and the three that 3.5.1 has more.
_NUMBERS = frozenset(
    """
    coordinatorStateReadCapacity coordinatorStateWriteCapacity dampeningPercentage failoverTimeMillis
    gracefulLeaseHandoffTimeoutMillis idleTimeBetweenReadsInMillis inMemoryWorkerMetricsCaptureFrequencyMillis
    initialLeaseTableReadCapacity initialLeaseTableWriteCapacity leaseAssignmentIntervalMillis
    leaseTableScanTotalSegments listShardsBackoffTimeInMillis logWarningForTaskAfterMillis maxActiveThreads
    maxGetRecordsThreadPool maxLeaseRenewalThreads maxLeasesForWorker maxLeasesToStealAtOneTime
    maxListShardsRetryAttempts maxRecords metricsBufferTimeMillis metricsMaxQueueSize
    millisBehindLatestThresholdForReducedTps noOfPersistedMetricsPerWorkerMetrics parentShardPollIntervalMillis
    reBalanceThresholdPercentage retryGetRecordsInSeconds schedulerInitializationBackoffTimeMillis
    shardSyncIntervalMillis shutdownGraceMillis tableMigrationCompleteBakeTimeSeconds taskBackoffTimeMillis
    timeoutInSeconds varianceBalancingFrequency workerMetricsReadCapacity
    workerMetricsReporterFreqInMillis workerMetricsWriteCapacity
    """.split()  # noqa: SIM905 - quoted, they would be a page
)
_TEXTS = frozenset(
    """
    allowThroughputOvershoot cleanupLeasesUponShardCompletion clientVersionConfig coordinatorStateBillingMode
    coordinatorStateDeletionProtectionEnabled coordinatorStatePointInTimeRecoveryEnabled coordinatorStateTableName
    coordinatorStateTags disableWorkerMetrics dynamoDBEndpoint enablePriorityLeaseAssignment
    ignoreUnexpectedChildShards isGracefulLeaseHandoffEnabled kinesisEndpoint leaseTableDeletionProtectionEnabled
    leaseTablePitrEnabled metricsEnabledDimensions metricsLevel migrateAllEntitiesToLeaseTable retrievalMode
    shardPrioritization skipShardSyncAtWorkerInitializationIfLeasesExist staleWorkerMetricsEntryCleanupDuration
    tableName validateSequenceNumberBeforeCheckpointing workerIdentifier workerMetricsBillingMode
    workerMetricsDeletionProtectionEnabled workerMetricsPointInTimeRecoveryEnabled workerMetricsTableName
    workerMetricsTags
    """.split()  # noqa: SIM905 - quoted, they would be a page
)
_FRACTIONS = frozenset({"maxThroughputPerHostKBps", "workerMetricsEMAAlpha"})
_KNOWN = _OURS | _SETTINGS | _NUMBERS | _TEXTS | _FRACTIONS
# What begins so, in any case of letters, is for the AWS SDK or in a bean of its own.
_PREFIXES = ("awscredentialsprovider", "kinesisclient.", "dynamodbclient.", "cloudwatchclient.", "fanoutconfig.")


_ARN_PARTS = 6  # arn:aws:kinesis:REGION:ACCOUNT:stream/NAME


class KclProperties(NamedTuple):
    """Attributes:
    settings: By setting, its raw value and the key it came from.
    handed_on: What is KCL's own, as it stands in the file.
    warnings: Of keys that KCL passes over, as far as is known here.
    """

    settings: dict[str, tuple[object, str]]
    handed_on: dict[str, str]
    warnings: tuple[str, ...]


def read(path: Path) -> KclProperties:
    """
    Raises:
        UsageError: The file cannot be read, or a value in it cannot be right.
    """
    try:
        # Java reads such files as Latin-1, with \\u escapes for the rest.
        with path.open(encoding="iso-8859-1") as file:
            found: dict[str, str] = javaproperties.load(file)
    except FileNotFoundError as error:
        raise UsageError(f"--kcl-properties: there is no file {path}") from error
    except OSError as error:
        raise UsageError(f"--kcl-properties: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--kcl-properties: {path} cannot be read: {error}") from error
    found = {key: value.strip() for key, value in found.items() if value.strip()}
    handed_on = {key: value for key, value in found.items() if key not in _OURS | _SETTINGS}
    for key, value in handed_on.items():
        if key in _NUMBERS and not re.fullmatch(r"-?\d+", value):
            raise UsageError(f"{path.name}: {key} is {value!r}: expected a whole number, without a unit")
    return KclProperties(_settings(found, path), handed_on, tuple(_unknown(sorted(handed_on), path)))


def _unknown(keys: Iterable[str], path: Path) -> Iterator[str]:
    for key in keys:
        if key not in _KNOWN and not key.lower().startswith(_PREFIXES):
            close = difflib.get_close_matches(key, _KNOWN, n=1, cutoff=0.7)
            hint = f". Did you mean {close[0]}?" if close else ""
            yield f"{path.name}: KCL knows no property {key}, and passes over it{hint}"


def _settings(found: Mapping[str, str], path: Path) -> dict[str, tuple[object, str]]:
    named: dict[str, tuple[object, str]] = {}
    for key, setting in (
        ("streamName", "stream"),
        ("applicationName", "application"),
        ("regionName", "region"),
        ("workerId", "worker_id"),
        ("initialPositionInStream", "start"),
    ):
        if key in found:
            named[setting] = (found[key], key)
    arn = found.get("streamArn", "").split(":")
    if "region" not in named and len(arn) == _ARN_PARTS:
        named["region"] = (arn[3], "streamArn")
    if "stream" not in named and "streamArn" in found:
        named["stream"] = (found["streamArn"].rsplit("/", 1)[-1], "streamArn")
    if "start" in named:
        named["start"] = (found["initialPositionInStream"].upper(), "initialPositionInStream")
    else:
        # Without a word, KCL begins at the tip; whoever brings its file has so far had that.
        named["start"] = ("LATEST", "initialPositionInStream, which it does not say: LATEST, as KCL")
    if "initialPositionInStreamExtended" in found:
        named["start"] = (_moment(found["initialPositionInStreamExtended"], path), "initialPositionInStreamExtended")
    return named


def _moment(text: str, path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f"{path.name}: initialPositionInStreamExtended is {text!r}: expected seconds since 1970-01-01 (UTC)"
        ) from error
