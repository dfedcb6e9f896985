"""What the daemon is told."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone
from typing import Any

import javaproperties
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamheal.engines.kcl.properties import Endpoints, daemon_properties

OURS = ("executableName", "processingLanguage", "streamName", "applicationName", "workerId", "regionName")


def written(**changed: Any) -> str:
    usual = {
        "executable": "/usr/bin/python3 -I -S /opt/stub.py /tmp/streamheal-x/stubs",
        "stream": "orders",
        "application": "shop",
        "worker_id": "host-1",
        "start": "TRIM_HORIZON",
        "region": "eu-central-1",
        "endpoints": Endpoints(),
        "shutdown_s": 20.0,
        "handed_on": None,
    }
    return daemon_properties(**{**usual, **changed})


def told(**changed: Any) -> dict[str, str]:
    """The file as Java reads it."""
    text = written(**changed)
    text.encode("iso-8859-1")  # or Java would read something else
    return dict(javaproperties.loads(text))


def test_a_new_application_is_told_all_that_it_needs_and_nothing_else() -> None:
    assert told() == {
        "executableName": "/usr/bin/python3 -I -S /opt/stub.py /tmp/streamheal-x/stubs",
        "processingLanguage": f"python/{sys.version_info.major}.{sys.version_info.minor}",
        "streamName": "orders",
        "applicationName": "shop",
        "workerId": "host-1",
        "regionName": "eu-central-1",
        "initialPositionInStream": "TRIM_HORIZON",
        "callProcessRecordsEvenForEmptyRecordList": "true",
        "AwsCredentialsProvider": "DefaultCredentialsProvider",
        "retrievalMode": "POLLING",
        "metricsLevel": "NONE",
        "timeoutInSeconds": "300",
        "shardSyncIntervalMillis": "1000",
        "shutdownGraceMillis": "30000",
        "gracefulLeaseHandoffTimeoutMillis": "30000",
    }


def test_who_brings_a_file_of_properties_reads_and_measures_as_before() -> None:
    """KCL's own defaults then hold, and what the file says of them."""
    found = told(handed_on={"maxRecords": "500"})
    assert not {"retrievalMode", "metricsLevel"} & set(found)
    assert found["maxRecords"] == "500"
    assert told(handed_on={"retrievalMode": "FANOUT"})["retrievalMode"] == "FANOUT"


@pytest.mark.parametrize(
    "key",
    ["timeoutInSeconds", "shardSyncIntervalMillis", "shutdownGraceMillis", "gracefulLeaseHandoffTimeoutMillis",
     "kinesisEndpoint", "dynamoDBEndpoint", "cloudWatchClient.endpointOverride"],
)  # fmt: skip
def test_what_the_user_hands_on_wins_over_a_default(key: str) -> None:
    endpoints = Endpoints("http://a", "http://b", "http://c")
    assert told(handed_on={key: "77"}, endpoints=endpoints)[key] == "77"


@pytest.mark.parametrize("key", [*OURS, "callProcessRecordsEvenForEmptyRecordList"])
def test_what_is_ours_stays_ours(key: str) -> None:
    assert told(handed_on={key: "theirs"})[key] == told()[key]


def test_a_grace_leaves_the_daemon_time_for_its_own_end() -> None:
    assert told(shutdown_s=2.5)["shutdownGraceMillis"] == "12500"


@pytest.mark.parametrize("key", ["AwsCredentialsProvider", "AWSCredentialsProvider", "awscredentialsprovider"])
def test_a_credentials_provider_is_the_user_s_in_any_case_of_letters(key: str) -> None:
    found = told(handed_on={key: "ProfileCredentialsProvider|shop"})
    assert {name: value for name, value in found.items() if name.lower() == key.lower()} == {
        key: "ProfileCredentialsProvider|shop"
    }


def test_endpoints_are_told_where_they_are_not_the_usual_ones() -> None:
    found = told(endpoints=Endpoints("http://127.0.0.1:1", None, "http://127.0.0.1:3"))
    assert found["kinesisEndpoint"] == "http://127.0.0.1:1"
    assert "dynamoDBEndpoint" not in found
    assert found["cloudWatchClient.endpointOverride"] == "http://127.0.0.1:3"


@pytest.mark.parametrize("start", ["LATEST", "TRIM_HORIZON"])
@pytest.mark.parametrize("theirs", ["initialPositionInStream", "initialPositionInStreamExtended"])
def test_where_to_start_is_said_once(start: str, theirs: str) -> None:
    """Both keys set the same thing in KCL, and the later one in a hash table wins."""
    found = told(start=start, handed_on={theirs: "1700000000"})
    assert {key: value for key, value in found.items() if key.startswith("initialPosition")} == {
        "initialPositionInStream": start
    }


def test_a_time_to_start_at_is_told_in_seconds() -> None:
    at = datetime(2026, 3, 1, 12, 0, 30, 900_000, tzinfo=timezone(timedelta(hours=1)))
    found = told(start=at, handed_on={"initialPositionInStream": "LATEST"})
    assert {key: value for key, value in found.items() if key.startswith("initialPosition")} == {
        "initialPositionInStreamExtended": "1772362830"
    }


@given(st.dictionaries(st.text(min_size=1, max_size=12), st.text(max_size=20), max_size=5), st.text(max_size=20))
def test_whatever_is_handed_on_java_reads_the_same(handed_on: dict[str, str], worker_id: str) -> None:
    """Spaces at the ends, signs that mean something in such a file, and letters beyond Latin."""
    found = told(handed_on=handed_on, worker_id=worker_id)
    assert found["workerId"] == worker_id
    assert {key: found[key] for key in handed_on if key not in OURS} == {
        key: value for key, value in handed_on.items() if key not in OURS
    }


def test_text_beyond_latin_is_escaped() -> None:
    found = told(worker_id=" Zürich 東京 ", handed_on={"a key": "= : # !"})
    assert (found["workerId"], found["a key"]) == (" Zürich 東京 ", "= : # !")
    assert "東" not in written(worker_id="東京")


def test_a_file_that_says_nothing_of_kcl_s_own_is_a_file_all_the_same() -> None:
    """Its application goes on as it was: with KCL's own defaults."""
    found = told(handed_on={})
    assert "retrievalMode" not in found
    assert "metricsLevel" not in found


def test_an_emulator_is_polled_unless_the_user_says_otherwise() -> None:
    """KCL would subscribe to an enhanced fan-out that no emulator has, and read nothing."""
    emulator, endpoint = (
        Endpoints("http://127.0.0.1:4566"),
        Endpoints("https://vpce-1.kinesis.eu-west-1.vpce.amazonaws.com"),
    )
    assert told(endpoints=emulator, handed_on={})["retrievalMode"] == "POLLING"
    assert told(endpoints=emulator, handed_on={"retrievalMode": "FANOUT"})["retrievalMode"] == "FANOUT"
    assert "retrievalMode" not in told(endpoints=endpoint, handed_on={})
