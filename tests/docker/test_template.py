"""docker/fargate.yaml: what a linter finds, and the promises of docs/fargate.md that can be read in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamheal.config.settings import every_setting
from streamheal.runtime.figures import ShardFigures
from streamheal.web.emf import NAMESPACE, Emitter
from tests.docker.template import PATH, Template, every_metric

# What the two kinds of stack need not have: CloudFormation has no tags for these.
UNTAGGED = {
    "AWS::ApplicationAutoScaling::ScalableTarget",
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::IAM::Policy",
    "AWS::S3::BucketPolicy",
}


@pytest.fixture(scope="module")
def template() -> Template:
    return Template()


def container(template: Template) -> dict[str, object]:
    (task,) = template.of_type("AWS::ECS::TaskDefinition").values()
    (found,) = task["ContainerDefinitions"]
    return found  # type: ignore[no-any-return]  # read from YAML


def test_cfn_lint_finds_nothing() -> None:
    lint = Path(sys.executable).parent / "cfn-lint"
    done = subprocess.run(
        [lint, "--include-checks", "I", "--", PATH], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_everything_that_can_have_tags_has_the_same_ones(template: Template) -> None:
    wanted = [
        {"Key": "application", "Value": "orders"},
        {"Key": "stage", "Value": "production"},
        {"Key": "owner", "Value": "unknown"},
        {"Key": "part-of", "Value": "streamheal"},
    ]
    for name, one in template.resources.items():
        if one["Type"] not in UNTAGGED:
            assert one["Properties"].get("Tags") == wanted, name
    # Tasks come and go; they get the service's.
    (service,) = template.of_type("AWS::ECS::Service").values()
    assert service["PropagateTags"] == "SERVICE"


def test_no_role_may_do_everything_or_something_everywhere(template: Template) -> None:
    for role in template.of_type("AWS::IAM::Role"):
        for grant in template.grants(role):
            assert "*" not in grant.action, grant
            # Signing in to ECR is the one call that IAM cannot limit to a resource.
            assert grant.resource != "*" or grant.action == "ecr:GetAuthorizationToken", grant


def test_what_must_outlive_the_stack_stays_when_it_goes(template: Template) -> None:
    kept = {name for name, one in template.resources.items() if one.get("DeletionPolicy") == "Retain"}
    assert kept == {"Quarantine", "Leases", "CoordinatorState", "WorkerMetricStats", "State"}
    assert all(template.resources[name]["UpdateReplacePolicy"] == "Retain" for name in kept)


def test_the_quarantine_is_private_encrypted_and_not_kept_for_ever(template: Template) -> None:
    (bucket,) = template.of_type("AWS::S3::Bucket").values()
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    rules = {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}
    assert rules["records-that-were-set-aside"]["ExpirationInDays"] == 365
    assert rules["records-that-were-set-aside"]["Prefix"] == "quarantine/application="
    (policy,) = template.of_type("AWS::S3::BucketPolicy").values()
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_container_writes_to_tmp_alone_and_is_nobody_special(template: Template) -> None:
    found = container(template)
    assert found["ReadonlyRootFilesystem"] is True
    assert found["User"] == "10001:10001"
    assert found["LinuxParameters"] == {"Capabilities": {"Drop": ["ALL"]}}
    assert found["MountPoints"] == [{"SourceVolume": "tmp", "ContainerPath": "/tmp", "ReadOnly": False}]
    # On Fargate a volume belongs to root, mode 0755, unless the image names it.
    assert 'VOLUME ["/tmp"]' in (PATH.parent / "Dockerfile").read_text()


def test_a_stop_is_given_more_time_than_open_records_get(template: Template) -> None:
    found = container(template)
    variables = {one["Name"]: one["Value"] for one in found["Environment"]}  # type: ignore[attr-defined]
    assert found["StopTimeout"] >= float(variables["STREAMHEAL_SHUTDOWN_S"]) + 10  # type: ignore[operator]


def test_the_container_is_told_only_what_streamheal_knows(template: Template) -> None:
    known = {setting.variable for setting in every_setting()}
    variables = {one["Name"] for one in container(template)["Environment"]}  # type: ignore[attr-defined]
    assert {name for name in variables if name.startswith("STREAMHEAL_")} <= known


def test_a_bad_release_is_taken_back_and_a_release_changes_no_number_of_tasks(template: Template) -> None:
    (service,) = template.of_type("AWS::ECS::Service").values()
    deployment = service["DeploymentConfiguration"]
    assert deployment["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert deployment["MinimumHealthyPercent"] == 100
    assert "DesiredCount" not in service


class _Told:
    """A host with everything to tell, and what it told."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def figures(self) -> list[ShardFigures]:
        return [ShardFigures("orders", "shardId-000000000000", 3, 1, 1, {"crash": 1}, 1, 0, 1.0, 1.0, 1.0)]

    def write(self, line: bytes) -> None:
        self.lines.append(json.loads(line))


def test_scaling_and_alarms_look_at_what_is_told(template: Template) -> None:
    """By the application and the stream, as the line of all shards has them."""
    host = _Told()
    Emitter("orders", "orders", host, host).tell()
    (told,) = [line for line in host.lines if "shard" not in line]
    looked_at = [(name, metric) for name, metric in every_metric(template) if metric["Namespace"] == NAMESPACE]
    assert {name for name, _ in looked_at} == {
        "Behind", "Idle", "Late", "DataAboutToBeLost", "Paused", "Stuck", "RecordsSetAside",
    }  # fmt: skip
    (directive,) = told["_aws"]["CloudWatchMetrics"]
    for name, metric in looked_at:
        assert metric["MetricName"] in {one["Name"] for one in directive["Metrics"]}, name
        assert [one["Name"] for one in metric["Dimensions"]] in directive["Dimensions"], name
        assert {one["Name"]: one["Value"] for one in metric["Dimensions"]} == {
            "application": told["application"],
            "stream": told["stream"],
        }, name


def test_containers_come_and_go_by_the_lag_of_the_worst_shard(template: Template) -> None:
    alarms = template.of_type("AWS::CloudWatch::Alarm")
    for alarm, policy in (("Behind", "moretasks"), ("Idle", "fewertasks")):
        assert alarms[alarm]["MetricName"] == "shard_lag_seconds"
        assert alarms[alarm]["Statistic"] == "Maximum"
        assert alarms[alarm]["AlarmActions"] == [policy]


def test_every_alarm_for_people_reaches_the_topic_that_was_named() -> None:
    topic = "arn:aws:sns:us-east-1:123456789012:night"
    alarms = Template(AlarmTopicArn=topic).of_type("AWS::CloudWatch::Alarm")
    people = {name for name, alarm in alarms.items() if alarm["AlarmActions"] == [topic]}
    assert people == {"Late", "DataAboutToBeLost", "Paused", "Stuck", "RecordsSetAside", "TasksMissing"}
    assert Template().of_type("AWS::CloudWatch::Alarm")["Late"]["AlarmActions"] == []
