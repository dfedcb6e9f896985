"""Under which name a host holds leases: real files, real processes, and ECS's endpoint as a real server."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streamheal.engines.kcl.identity import place, take_name
from streamheal.errors import UsageError

ECS = "ECS_CONTAINER_METADATA_URI_V4"
TASK = "arn:aws:ecs:eu-central-1:123456789012:task/cluster/0a1b2c3d4e5f"

HOLD = """
import sys
from streamheal.engines.kcl.identity import take_name
name = take_name(sys.argv[1], sys.argv[2] or None)
print(name.worker_id, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv(ECS, raising=False)


@pytest.fixture
def host() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts other hosts, which hold their names until they die."""
    started: list[subprocess.Popen[str]] = []

    def start(application: str, worker_id: str = "") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, application, worker_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


def name(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_hosts_of_one_machine_have_names_of_their_own_and_a_dead_one_s_is_free_at_once(
    host: Callable[..., subprocess.Popen[str]],
) -> None:
    """The kernel frees the name of one that was killed, and the next has its leases back in seconds."""
    first = host("shop")
    assert name(first) == place()
    second, third = host("shop"), host("shop")
    assert {name(second), name(third)} == {f"{place()}-2", f"{place()}-3"}
    first.kill()
    first.wait()
    assert name(host("shop")) == place()


def test_another_application_counts_for_itself(host: Callable[..., subprocess.Popen[str]]) -> None:
    assert name(host("shop")) == place()
    held = take_name("shop.returns", None)
    assert held.worker_id == place()
    held.give_up()


def test_a_name_that_was_given_up_is_free() -> None:
    first = take_name("shop", None)
    second = take_name("shop", None)
    assert second.worker_id == f"{first.worker_id}-2"
    first.give_up()
    third = take_name("shop", None)
    assert third.worker_id == place()
    second.give_up()
    third.give_up()


def test_a_name_that_the_user_gave_is_not_numbered_but_refused(host: Callable[..., subprocess.Popen[str]]) -> None:
    other = host("shop", "till-1")
    assert name(other) == "till-1"
    with pytest.raises(UsageError, match="shop is already running here as worker till-1: give each host its own"):
        take_name("shop", "till-1")
    take_name("shop", "till-2").give_up()


@pytest.mark.parametrize(("one", "another"), [("till.1", "till:1"), ("a" * 100 + "1", "a" * 100 + "2"), ("東", "京")])
def test_names_that_differ_are_different(one: str, another: str) -> None:
    """They become file names, which are shorter and of fewer letters."""
    first, second = take_name("shop", one), take_name("shop", another)
    assert (first.worker_id, second.worker_id) == (one, another)
    first.give_up()
    second.give_up()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("TMPDIR", str(blocked))
    monkeypatch.setattr("tempfile.tempdir", str(blocked))
    with pytest.raises(UsageError, match=rf"cannot use the folder {blocked}/streamheal-\d+: .*TMPDIR names another"):
        take_name("shop", None)


def test_the_files_are_ours_alone(tmp_path: Path) -> None:
    held = take_name("shop", None)
    (folder,) = tmp_path.iterdir()
    (file,) = folder.iterdir()
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    held.give_up()


def test_the_machine_s_place_is_the_same_every_time_and_tells_machines_apart() -> None:
    assert place() == place()
    assert place().startswith(f"{socket.gethostname()}-")


@pytest.fixture
def ecs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Serves ECS's task metadata; answers by path, bytes as they are."""
    answers: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in answers:
                self.send_error(404)
            elif answers[self.path] == b"no HTTP":
                self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(answers[self.path])))
                self.end_headers()
                self.wfile.write(answers[self.path])

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def serve(container: bytes, task: bytes) -> str:
        answers.update({"/v4/abc": container, "/v4/abc/task": task})
        address = f"http://127.0.0.1:{server.server_address[1]}/v4/abc"
        monkeypatch.setenv(ECS, address)
        return address

    yield serve
    server.shutdown()
    server.server_close()


CONTAINER_TOLD = json.dumps({"DockerId": "x", "Name": "streamheal", "Labels": {}}).encode()
TASK_TOLD = json.dumps({"Cluster": "cluster", "TaskARN": TASK, "Containers": []}).encode()


def test_in_a_task_of_ecs_the_name_is_the_task_s_and_the_container_s(ecs: Callable[..., str]) -> None:
    ecs(CONTAINER_TOLD, TASK_TOLD)
    assert place() == "0a1b2c3d4e5f-streamheal"
    held = take_name("shop", None)
    assert held.worker_id == "0a1b2c3d4e5f-streamheal"
    held.give_up()


def test_a_long_name_is_numbered_like_any_other(ecs: Callable[..., str]) -> None:
    ecs(json.dumps({"Name": "c" * 200}).encode(), TASK_TOLD)
    first, second = take_name("shop", None), take_name("shop", None)
    assert second.worker_id == f"{first.worker_id}-2"
    first.give_up()
    second.give_up()


def test_the_endpoint_is_never_asked_through_a_proxy(ecs: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the container's own; a proxy for the way out does not know it."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    ecs(CONTAINER_TOLD, TASK_TOLD)
    assert place() == "0a1b2c3d4e5f-streamheal"


@pytest.mark.parametrize(
    ("container", "task"),
    [
        (CONTAINER_TOLD, b"{}"),
        (b"{}", TASK_TOLD),
        (CONTAINER_TOLD, b"<html>"),
        (CONTAINER_TOLD, b"\xff"),
        (b"[]", TASK_TOLD),
        (CONTAINER_TOLD, b'{"TaskARN": null}'),
        (b"no HTTP", TASK_TOLD),
    ],
    ids=["no task", "no container", "no JSON", "no UTF-8", "a list", "null", "no HTTP"],
)
def test_an_endpoint_that_does_not_tell_is_said_plainly(ecs: Callable[..., str], container: bytes, task: bytes) -> None:
    address = ecs(container, task)
    with pytest.raises(UsageError, match=f"{ECS} is {address}, and does not tell which task this is") as raised:
        place()
    assert "or --worker-id NAME" in str(raised.value)


def test_an_endpoint_that_does_not_answer_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ECS, "http://127.0.0.1:9/v4")
    with pytest.raises(UsageError, match="does not tell which task this is"):
        place()
    held = take_name("shop", "till-1")  # then nobody needs to be asked
    held.give_up()
