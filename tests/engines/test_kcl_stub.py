"""The child that KCL's daemon starts, as a real process: descriptors are the operating system's business."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamheal.engines.kcl

STUB = Path(streamheal.engines.kcl.__file__).with_name("stub.py")


@contextmanager
def stub(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket, list[int]]]:
    """A stub that has knocked: its process, its socket's other end, and the two descriptors it handed over."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "stubs"))
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(STUB), str(folder / "stubs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        listener.settimeout(20)
        host, _ = listener.accept()
        _, descriptors, _, _ = socket.recv_fds(host, 1, 2)
        try:
            with process, host:
                yield process, host, descriptors
        finally:
            process.kill()
            for descriptor in descriptors:
                os.close(descriptor)


def test_its_pipes_are_the_hosts_once_handed_over(tmp_path: Path) -> None:
    with stub(tmp_path) as (process, host, (lines_in, lines_out)):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"a line of the daemon's\n")
        process.stdin.flush()
        assert os.read(lines_in, 100) == b"a line of the daemon's\n"
        os.write(lines_out, b"an answer\n")
        assert process.stdout.readline() == b"an answer\n"
        host.send(b"0\n")


def test_it_ends_well_only_when_the_host_says_so(tmp_path: Path) -> None:
    with stub(tmp_path) as (process, host, _):
        host.send(b"0\n")
        assert process.wait(20) == 0


def test_it_fails_when_the_host_is_gone(tmp_path: Path) -> None:
    """The daemon must not take an end without a word for a shard that nobody needs to read any more."""
    with stub(tmp_path) as (process, host, _):
        host.close()
        assert process.wait(20) == 1


def test_only_the_host_ends_it(tmp_path: Path) -> None:
    """Ctrl-C reaches the daemon's whole group, and a container's end may signal everybody in it."""
    with stub(tmp_path) as (process, host, _):
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        host.send(b"0\n")
        assert process.wait(20) == 0
