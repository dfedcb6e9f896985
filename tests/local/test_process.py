"""The emulator's life as a process: it starts, says where it is, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from streamheal.errors import UsageError
from streamheal.local import LocalAws

PARENT = """
import os, signal, sys
from streamheal.local import LocalAws
aws = LocalAws()
print(aws.start(), aws._process.pid, flush=True)
sys.stdin.read()
"""


def start(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "streamheal.local", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def is_gone(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5):
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_when_told_to(number: signal.Signals) -> None:
    """Although a client's connection is still open."""
    with start("--port", "0") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/_localstack/health", timeout=10) as answer:
            assert b'"kinesis": "running"' in answer.read()
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))):
            process.send_signal(number)
            assert process.wait(10) == 0
        assert process.stderr.read() == ""
    assert is_gone(url)


def test_a_taken_port_is_said_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = f"port {port} on 127.0.0.1 is taken; stop what listens there, or choose another with --port"
        with start("--port", str(port)) as process:
            out, errors = process.communicate(timeout=10)
            assert (process.returncode, out, errors) == (2, "", f"streamheal: {said}\n")
        with pytest.raises(UsageError) as raised:
            LocalAws(port).start()
    assert str(raised.value) == said


def test_it_listens_on_loopback_only() -> None:
    with LocalAws() as url:
        assert url.startswith("http://127.0.0.1:")
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", int(url.rpartition(":")[2])), timeout=5)
    assert is_gone(url)


def test_it_does_not_outlive_its_parent() -> None:
    """However the parent ends: here it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        url, pid = parent.stdout.readline().split()
        watched = os.pidfd_open(int(pid)) if hasattr(os, "pidfd_open") else None
        parent.kill()
    if watched is not None:
        import select

        assert select.select([watched], [], [], 10)[0], "it is still there"
        os.close(watched)
        assert is_gone(url)


def test_of_many_conditional_writes_one_wins(aws: Any, table: Any) -> None:
    """Locks are made of this."""
    name, dynamodb = table(), aws.client("dynamodb")

    def write(owner: int) -> bool:
        item = {"key": {"S": "lock"}, "owner": {"N": str(owner)}}
        try:
            dynamodb.put_item(
                TableName=name,
                Item=item,
                ConditionExpression="attribute_not_exists(#k)",
                ExpressionAttributeNames={"#k": "key"},
            )
        except dynamodb.exceptions.ConditionalCheckFailedException:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(write, range(24))) == [False] * 23 + [True]
