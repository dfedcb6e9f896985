"""The task role of docker/fargate.yaml may do what a whole run does, and nothing else.

The run is real: the embedded AWS writes down what each request would need permission for
(`recording.py`), streamheal reads a stream with poison in it, sets that aside in S3 and stops as it
is asked to. IAM itself is not there to be asked; names and resources are compared.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.docker import recording
from tests.docker.recording import Call
from tests.docker.template import Grant, Template
from tests.whole.running import Site, orders, put, wait_until

_TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/orders"

# What is granted, and what a run as short as this one does not do: each with when it is done.
RARE = {
    Grant("dynamodb:UpdateItem", f"{_TABLE}-CoordinatorState"): (
        "the leader renews its lock every 30 s (KCL 3.1.3, DynamoDBLockBasedLeaderDecider)"
    ),
    Grant("dynamodb:DeleteItem", f"{_TABLE}-WorkerMetricStats"): (
        "the leader removes what a worker left behind that is long gone (KCL 3.1.3, LeaseAssignmentManager)"
    ),
    Grant("dynamodb:Query", f"{_TABLE}-streamheal"): (
        "checkpoints of the engine poll, which the same container runs with STREAMHEAL_ENGINE=poll"
    ),
}

# The first lines are streamheal's own defaults, which a file of the user's replaces; the others make
# seconds of KCL's minutes, and many calls to DynamoDB: for tests only.
QUICK = """
initialPositionInStream = TRIM_HORIZON
retrievalMode = POLLING
metricsLevel = NONE
failoverTimeMillis = 2000
leaseAssignmentIntervalMillis = 1000
shardSyncIntervalMillis = 1
idleTimeBetweenReadsInMillis = 200
parentShardPollIntervalMillis = 500
listShardsBackoffTimeInMillis = 100
schedulerInitializationBackoffTimeMillis = 100
taskBackoffTimeMillis = 100
workerMetricsReporterFreqInMillis = 1000
inMemoryWorkerMetricsCaptureFrequencyMillis = 500
"""


class Aws:
    """An AWS of this test alone, what was asked of it, and clients for it."""

    def __init__(self, url: str, log: Path) -> None:
        self.log = log
        self.environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self._session = boto3.Session("test", "test", region_name="us-east-1")
        self._url = url

    def client(self, service: str) -> Any:
        return self._session.client(service, endpoint_url=self._url)

    def calls(self) -> list[Call]:
        return recording.read(self.log)


@contextmanager
def recording_aws(log: Path) -> Iterator[Aws]:
    log.touch()
    command = [sys.executable, "-m", "tests.docker.recording", str(log)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url, "the embedded AWS did not start"
        yield Aws(url, log)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Aws]:
    with recording_aws(tmp_path / "calls") as aws:
        yield aws


def prepare(aws: Aws, template: Template) -> None:
    """What is there before a container starts: the stream and, where the stack makes them, bucket and tables."""
    aws.client("kinesis").create_stream(StreamName="orders", ShardCount=2)
    aws.client("s3").create_bucket(Bucket="quarantine")
    names = ("TableName", "BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    for table in template.of_type("AWS::DynamoDB::Table").values():
        wanted = {name: table[name] for name in names if name in table}
        aws.client("dynamodb").create_table(**wanted)
    sick = {40: "raise", 77: "notjson", 90: "reject"}
    put(aws.client("kinesis"), "orders", orders(range(300), lambda number: sick.get(number, "fine")))


def environment(aws: Aws, template: Template) -> dict[str, str]:
    """As the template gives it to the container."""
    (task,) = template.of_type("AWS::ECS::TaskDefinition").values()
    told = {one["Name"]: one["Value"] for one in task["ContainerDefinitions"][0]["Environment"]}
    return {**told, **aws.environment, "STREAMHEAL_PATIENCE_S": "3", "STREAMHEAL_RETRY_S_MIN": "0.05"}


def run(aws: Aws, folder: Path, template: Template, **more: str) -> list[Call]:
    """Read everything as a container would, then stop gently. What was asked of AWS meanwhile."""
    before = len(aws.calls())
    site = Site(folder, "orders", environment(aws, template))
    log = folder / "log"
    host = site.start("run", STREAMHEAL_HTTP="off", **more)
    try:
        wait_until(lambda: host.poll() is not None or len(site.effects()) == 297, timeout_s=90)
        wait_until(lambda: host.poll() is not None or log.read_text().count('"record_quarantined"') == 3)
        assert host.poll() is None, log.read_text()
        host.send_signal(signal.SIGTERM)
        assert host.wait(40) == 0, log.read_text()
    finally:
        host.kill()
        host.wait()
    return aws.calls()[before:]


def not_granted(calls: list[Call], grants: set[Grant]) -> set[tuple[str, str]]:
    return {
        (call.action, call.resource)
        for call in calls
        if not any(grant.action == call.action and fnmatchcase(call.resource, grant.resource) for grant in grants)
    }


def not_used(calls: list[Call], grants: set[Grant]) -> set[Grant]:
    return {
        grant
        for grant in grants
        if not any(grant.action == call.action and fnmatchcase(call.resource, grant.resource) for call in calls)
    }


def test_a_run_on_one_process_asks_for_nothing_that_is_not_granted(recorded: Aws, tmp_path: Path) -> None:
    """Engine poll in the same container, for the time before there is more than one."""
    template = Template()
    prepare(recorded, template)
    state = {"STREAMHEAL_ENGINE": "poll", "STREAMHEAL_STATE": "dynamodb:orders-streamheal"}
    calls = run(recorded, tmp_path, template, STREAMHEAL_TARGET="shop:Shop", **state)
    assert {call.action for call in calls} >= {"kinesis:GetRecords", "dynamodb:PutItem", "s3:PutObject"}
    assert not_granted(calls, template.grants("TaskRole")) == set()


def test_a_replay_by_a_task_of_its_own_is_granted_as_well(recorded: Aws, tmp_path: Path) -> None:
    """docs/fargate.md rolls back with it: the same image, role and variables, another command."""
    template = Template()
    prepare(recorded, template)
    as_poll = {"STREAMHEAL_ENGINE": "poll", "STREAMHEAL_STATE": "dynamodb:orders-streamheal"}
    run(recorded, tmp_path, template, STREAMHEAL_TARGET="shop:Shop", **as_poll)
    before = len(recorded.calls())
    site = Site(tmp_path, "orders", {**environment(recorded, template), "STREAMHEAL_TARGET": "shop:Shop"})
    done = site.call("replay", "--all", STREAMHEAL_ENGINE="kcl", STREAMHEAL_HTTP="off", SHOP_FIXED="1")
    calls = recorded.calls()[before:]
    assert done.returncode == 3, done.stderr  # what is no JSON stays none
    assert {call.action for call in calls} >= {"dynamodb:PutItem", "s3:PutObject", "s3:ListBucket"}
    assert not_granted(calls, template.grants("TaskRole")) == set()


def run_kcl(folder: Path, template: Template) -> list[Call]:
    """As the image does it, with no lease taken yet, against an AWS of its own."""
    folder.mkdir()
    with recording_aws(folder / "calls") as aws:
        prepare(aws, template)
        properties = folder / "quick.properties"
        properties.write_text(QUICK)
        quick = {"STREAMHEAL_KCL_PROPERTIES": str(properties)}
        return run(aws, folder, template, STREAMHEAL_TARGET="shop:Shop", STREAMHEAL_ENGINE="kcl", **quick)


@pytest.mark.usefixtures("kcl")
def test_a_container_is_granted_what_it_asks_for_and_nothing_else(tmp_path: Path) -> None:
    """With the template's own tables, which KCL takes for its own: it makes none, and may not. And where the
    stack makes none: then it does. Both at once, because most of the time is KCL's waiting."""
    templates = [Template(Tables=tables) for tables in ("made-here", "made-by-kcl")]
    folders = [tmp_path / "made-here", tmp_path / "made-by-kcl"]
    with ThreadPoolExecutor() as at_once:
        told = list(at_once.map(run_kcl, folders, templates))
    for calls, template in zip(told, templates, strict=True):
        grants = template.grants("TaskRole")
        assert not_granted(calls, grants) == set()
        assert RARE.keys() <= grants
        assert not_used(calls, grants) <= RARE.keys()


def test_what_only_some_runs_do_is_granted_to_those_alone() -> None:
    """An encrypted stream, tables that KCL makes: a stack without them has no permission for them."""
    plain = Template().grants("TaskRole")
    key = "arn:aws:kms:us-east-1:123456789012:key/1"
    assert Template(StreamKeyArn=key).grants("TaskRole") - plain == {Grant("kms:Decrypt", key)}
    assert {grant.action for grant in Template(Tables="made-by-kcl").grants("TaskRole") - plain} == {
        "dynamodb:CreateTable",
        "dynamodb:UpdateTable",
    }
