"""What cannot work is said in one plain message before a record is read; what passes is waited out."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamheal.engines.kcl.jars import find_jars
from tests.engines.proxy import FaultProxy
from tests.kcl.running import START_S, Fleet
from tests.whole.running import orders, wait_until

DENIED = (
    "User: arn:aws:sts::123456789012:assumed-role/shop/task is not authorized to perform: dynamodb:CreateTable "
    "on resource: arn:aws:dynamodb:us-east-1:123456789012:table/shop because no identity-based policy allows it"
)
SKEWED = "Signature expired: 20261126T000000Z is now earlier than 20261126T001500Z (20261126T002000Z - 5 min.)"


def refused(fleet: Fleet, *arguments: str, **env: str) -> str:
    """The message with which a run ends that cannot work: one line and exit code 2, nothing read."""
    fleet.put(orders(range(10)))
    done = fleet.call(*fleet.run_arguments("shop:Shop", *arguments), **env)
    said = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert done.returncode == 2, done.stderr
    assert len(said) == 1, done.stderr
    assert not fleet.effects()
    return said[0]


def script(folder: Path, text: str) -> str:
    """A folder with a `java` that says this, for PATH."""
    folder.mkdir()
    java = folder / "java"
    java.write_text(f"#!/bin/sh\n{text}\n")
    java.chmod(0o755)
    return str(folder)


def test_no_java(fleet_of: Callable[..., Fleet], tmp_path: Path) -> None:
    assert "no java on PATH" in refused(fleet_of(), PATH=str(tmp_path), JAVA_HOME="")


def test_a_java_that_is_too_old(fleet_of: Callable[..., Fleet], tmp_path: Path) -> None:
    path = script(tmp_path / "bin", """echo 'java version "1.7.0_80"' >&2""")
    assert "is Java 7" in refused(fleet_of(), PATH=path, JAVA_HOME="")


def test_a_jvm_that_does_not_start(fleet_of: Callable[..., Fleet]) -> None:
    assert "Invalid maximum heap size" in refused(fleet_of(), JAVA_TOOL_OPTIONS="-Xmx17potatoes")


def test_no_jars(fleet_of: Callable[..., Fleet], tmp_path: Path) -> None:
    """An amazon_kclpy whose jars could not be fetched."""
    (tmp_path / "site" / "amazon_kclpy" / "jars").mkdir(parents=True)
    (tmp_path / "site" / "amazon_kclpy" / "__init__.py").touch()
    assert "pip install 'streamheal[kcl]'" in refused(fleet_of(), PYTHONPATH=str(tmp_path / "site"))


def test_a_truncated_jar(fleet_of: Callable[..., Fleet], tmp_path: Path) -> None:
    """What a download leaves that broke off."""
    jars = tmp_path / "site" / "amazon_kclpy" / "jars"
    jars.mkdir(parents=True)
    (jars.parent / "__init__.py").touch()
    for jar in find_jars().folder.glob("*.jar"):
        (jars / jar.name).symlink_to(jar)
    broken = next(jars.glob("netty-codec-http2-*.jar"))
    whole = broken.read_bytes()
    broken.unlink()
    broken.write_bytes(whole[: len(whole) // 2])
    assert f"{broken.name} in {jars} is broken" in refused(fleet_of(), PYTHONPATH=str(tmp_path / "site"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("initialPositionInStream = THE_BEGINNING", "'THE_BEGINNING'"),
        ("initialPositionInStreamExtended = yesterday", "expected seconds since 1970"),
        ("streamName = what a name", "'what a name'"),
    ],
)
def test_a_property_that_is_ours_and_cannot_be_right(
    fleet_of: Callable[..., Fleet], tmp_path: Path, line: str, said: str
) -> None:
    (tmp_path / "app.properties").write_text(f"streamName = orders\napplicationName = shop\n{line}\n")
    fleet = fleet_of()
    done = fleet.call("run", "shop:Shop", "--kcl-properties", "app.properties", "--http", "off")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_no_such_stream(fleet_of: Callable[..., Fleet]) -> None:
    fleet = fleet_of()
    assert f"Did you mean {fleet.stream}" in refused(fleet, "--stream", fleet.stream + "x")


def test_a_lease_table_that_is_somebody_elses(fleet_of: Callable[..., Fleet], table: Callable[..., str]) -> None:
    name = table()
    said = refused(fleet_of(), "--application", name)
    assert f"table {name} is not one of KCL's: its key is key (HASH). Expected leaseKey (HASH)" in said


def test_a_dynamodb_that_refuses_is_tried_for_ten_seconds(fleet_of: Callable[..., Fleet]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        said = refused(fleet_of(), "--state", "sqlite:state.db", AWS_ENDPOINT_URL_DYNAMODB=url)
    assert re.search(rf"{url} does not answer \(tried for 10 s\)", said), said


def test_what_aws_does_not_allow_the_daemon(fleet_of: Callable[..., Fleet], aws: Any) -> None:
    with FaultProxy(aws.url) as proxy:
        proxy.refuse("CreateTable", *["AccessDeniedException"] * 50, message=DENIED)
        said = refused(fleet_of(), "--state", "sqlite:state.db", AWS_ENDPOINT_URL_DYNAMODB=proxy.url)
    assert "AWS does not allow what KCL needs" in said
    assert "dynamodb:CreateTable" in said


def test_once_running_faults_are_waited_out_until_the_stream_is_gone(fleet_of: Callable[..., Fleet], aws: Any) -> None:
    """A clock that is off, a permission that is taken away for a while, and at last the stream itself."""
    fleet = fleet_of(shards=2)
    fleet.seed(w1="0 1")
    fleet.put(orders(range(100)))
    with FaultProxy(aws.url) as proxy:
        proxy.refuse("Scan", "InvalidSignatureException", message=SKEWED)
        proxy.refuse("UpdateItem", "RequestTimeTooSkewed", "InvalidSignatureException", message=SKEWED)
        host = fleet.host("w1", "--state", "sqlite:state.db", AWS_ENDPOINT_URL_DYNAMODB=proxy.url)
        wait_until(lambda: len(fleet.effects()) == 100, START_S)

        asked = len(proxy.asked("UpdateItem"))
        proxy.refuse("UpdateItem", *["AccessDeniedException"] * 3, message=DENIED)
        proxy.until_asked("UpdateItem", asked + 4)
        fleet.put(orders(range(100, 200)))
        wait_until(lambda: len(fleet.effects()) == 200, START_S)
        assert len(host.events("daemon_started")) == 1

        fleet.kinesis.delete_stream(StreamName=fleet.stream, EnforceConsumerDeletion=True)
        code = host.process.wait(START_S)
    assert code == 1
    assert f"stream {fleet.stream} was deleted while read" in (host.folder / "log").read_text()
    # KCL takes it for the end of each shard.
    assert "SHARD_END" not in {lease["checkpoint"] for lease in fleet.leases().values()}
    assert not host.processes()
