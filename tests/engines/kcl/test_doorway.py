"""Stubs as real processes, and who else may knock."""

from __future__ import annotations

import array
import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from streamheal import platform
from streamheal.engines.kcl import doorway as doors
from streamheal.engines.kcl.doorway import Doorway
from tests.engines.kcl.heard import PATIENCE_S, HeardLog, until

pytestmark = pytest.mark.anyio

STUB = Path(doors.__file__).with_name("stub.py")
PROC = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks at /proc")


class Door:
    """An open doorway, and who has come in."""

    def __init__(self, folder: Path) -> None:
        self.log = HeardLog()
        self.arrived: asyncio.Queue[tuple[socket.socket, int, int]] = asyncio.Queue()
        self.doorway = Doorway(folder, lambda *arrived: self.arrived.put_nowait(arrived), self.log)

    async def next(self) -> tuple[socket.socket, int, int]:
        return await asyncio.wait_for(self.arrived.get(), PATIENCE_S)

    async def refused(self) -> str:
        await until(lambda: bool(self.log.named("stub_refused")))
        (said,) = self.log.named("stub_refused")
        return str(said["why"])


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Door]:
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    door = Door(folder)
    door.doorway.open()
    try:
        yield door
    finally:
        door.doorway.close()
    assert faults == []
    assert not door.doorway.path.exists()


class Stub:
    """A stub as the daemon starts it, with pipes for its input and output, which we are the daemon's end of."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [os.path.realpath(sys.executable), "-I", "-S", str(STUB), str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    async def end(self) -> tuple[int, bytes, bytes]:
        """Its exit code, and all it wrote."""
        out, err = await asyncio.wait_for(asyncio.to_thread(self.process.communicate), PATIENCE_S)
        return self.process.returncode, out, err

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture
def stubs() -> Iterator[list[Stub]]:
    started: list[Stub] = []
    yield started
    for stub in started:
        stub.close()


def start(stubs: list[Stub], door: Door) -> Stub:
    stubs.append(Stub(door.doorway.path))
    return stubs[-1]


async def test_a_stub_hands_over_the_daemon_s_pipes(tmp_path: Path, stubs: list[Stub]) -> None:
    async with opened(tmp_path) as door:
        stub = start(stubs, door)
        peer, lines_in, lines_out = await door.next()
        try:
            assert stub.process.stdin is not None
            assert stub.process.stdout is not None
            stub.process.stdin.write(b"from the daemon\n")
            stub.process.stdin.flush()
            assert os.read(lines_in, 100) == b"from the daemon\n"
            os.write(lines_out, b"to the daemon\n")
            assert os.read(stub.process.stdout.fileno(), 100) == b"to the daemon\n"
            # A worker that inherited one would keep the daemon waiting for its end.
            assert [os.get_inheritable(fd) for fd in (lines_in, lines_out, peer.fileno())] == [False] * 3
            assert not peer.getblocking()
        finally:
            os.close(lines_in)
            os.close(lines_out)
            peer.send(b"0\n")
            peer.close()
        assert await stub.end() == (0, b"", b"")


async def test_a_stub_whose_host_has_gone_fails(tmp_path: Path, stubs: list[Stub]) -> None:
    """Its daemon is not to go on as if somebody read its records."""
    async with opened(tmp_path) as door:
        stub = start(stubs, door)
        peer, *pipes = await door.next()
        for descriptor in pipes:
            os.close(descriptor)
        peer.close()
        assert await stub.end() == (1, b"", b"")


async def test_a_stub_outlives_what_is_sent_to_the_daemon_s_group(tmp_path: Path, stubs: list[Stub]) -> None:
    async with opened(tmp_path) as door:
        stub = start(stubs, door)
        peer, *pipes = await door.next()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            stub.process.send_signal(number)
        for descriptor in pipes:
            os.close(descriptor)
        peer.send(b"0\n")
        assert await stub.end() == (0, b"", b"")
        peer.close()


@PROC
async def test_once_it_has_handed_over_only_the_host_holds_the_pipes(tmp_path: Path, stubs: list[Stub]) -> None:
    """So the daemon sees their end when the host makes it, not when the stub's process ends."""
    async with opened(tmp_path) as door:
        stub = start(stubs, door)
        peer, *pipes = await door.next()
        own = Path(f"/proc/{stub.process.pid}/fd")
        # What it waits on is the host's socket; a pipe would be named so.
        await until(lambda: os.readlink(own / "0").startswith("socket:") and os.readlink(own / "1") == "/dev/null")
        for descriptor in pipes:
            os.close(descriptor)
        assert stub.process.stdout is not None
        assert await asyncio.wait_for(asyncio.to_thread(stub.process.stdout.read), PATIENCE_S) == b""
        assert stub.process.poll() is None
        peer.close()
        assert await stub.end() == (1, b"", b"")


async def test_a_stub_that_finds_nobody_fails_and_writes_nothing_to_the_daemon(
    tmp_path: Path, stubs: list[Stub]
) -> None:
    stubs.append(Stub(tmp_path / "nobody"))
    code, out, err = await stubs[0].end()
    assert (code, out) == (1, b"")
    assert b"FileNotFoundError" in err


async def test_many_stubs_may_come_at_once(tmp_path: Path, stubs: list[Stub]) -> None:
    async with opened(tmp_path) as door:
        for _ in range(12):
            start(stubs, door)
        found = [await door.next() for _ in stubs]
        assert len({descriptor for _, *pair in found for descriptor in pair}) == 24
        for peer, *pipes in found:
            for descriptor in pipes:
                os.close(descriptor)
            peer.send(b"0\n")
            peer.close()
        assert [await stub.end() for stub in stubs] == [(0, b"", b"")] * 12


def _open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@PROC
@pytest.mark.parametrize("handed_over", [0, 1, 3, 8, 12])
async def test_whoever_hands_over_something_else_is_refused_and_nothing_of_it_is_kept(
    tmp_path: Path, handed_over: int
) -> None:
    async with opened(tmp_path) as door:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            before = _open_descriptors()
            peer.connect(str(door.doorway.path))
            # Its own socket will do.
            rights = array.array("i", [peer.fileno()] * handed_over)
            peer.sendmsg([b"1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if handed_over else [])
            # The kernel takes away what there is no room for.
            assert await door.refused() == f"it handed over {min(handed_over, 8)} descriptors, not 2"
            assert peer.recv(1) == b""
            assert _open_descriptors() == before
        assert door.arrived.empty()


@PROC
async def test_whoever_comes_and_goes_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as door:
        before = _open_descriptors()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.connect(str(door.doorway.path))
        assert await door.refused() == "it handed over 0 descriptors, not 2"
        assert _open_descriptors() == before


@PROC
async def test_whoever_says_nothing_is_sent_away_when_the_door_closes(tmp_path: Path) -> None:
    before = _open_descriptors()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        async with opened(tmp_path) as door:
            peer.connect(str(door.doorway.path))
            peer.settimeout(PATIENCE_S)
            for _ in range(10):
                await asyncio.sleep(0)
        assert peer.recv(1) == b""
    assert _open_descriptors() == before


async def test_another_user_s_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "peer_uid", lambda peer: os.getuid() + 1)
    async with opened(tmp_path) as door:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.connect(str(door.doorway.path))
            assert await door.refused() == "its process is another user's"
            assert peer.recv(1) == b""


def test_a_peer_s_user_is_asked_of_the_kernel() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert platform.peer_uid(one) == os.getuid()
