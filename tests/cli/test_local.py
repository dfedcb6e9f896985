"""`streamheal local`: the embedded AWS, as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.cli.calling import call


def test_it_prints_what_to_export_once_it_answers_and_stops_when_asked(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "streamheal", "local", "--port", "0"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        url = process.stdout.readline().strip().removeprefix("export AWS_ENDPOINT_URL=")
        with urllib.request.urlopen(f"{url}/_localstack/health", timeout=20) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        variables = process.stdout.read()
        assert process.wait(20) == 0
    assert url.startswith("http://127.0.0.1:")
    assert "export AWS_REGION=us-east-1\n" in variables


def test_a_port_that_is_taken_is_wrong_usage() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, out, err = call("local", "--port", str(port))
    assert (code, out) == (2, "")
    assert err.startswith(f"streamheal: port {port} on 127.0.0.1 is taken")
