"""What user code can do to a process, and what nobody else notices of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streamheal.core.messages import At, Cause, Failed

from .stand import gone, line, numbers, standing, until


async def test_output_becomes_log_lines_and_never_reaches_the_protocol(tmp_path: Path) -> None:
    code = r"""
import logging, subprocess
logging.basicConfig(format="%(levelname)s %(message)s")
class App(RecordProcessor):
    def process_record(self, record):
        n = record.json()
        print("out", n)
        print("err", n, file=sys.stderr)
        os.write(1, b"raw\n")
        os.write(2, b"\xff not text\n")
        subprocess.run(["echo", "a subprocess"], check=True)
        logging.warning("logged %s", n)
        sys.stdout.write("x" * 20_000 + "\n")
        effect(n)
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([1]))
        await ear.span_done(1)
        wanted = {"out 1", "err 1", "raw", "\ufffd not text", "a subprocess", "WARNING logged 1"}
        await until(lambda: wanted <= set(stand.log.printed()))
        await until(lambda: any("(cut)" in text for text in stand.log.printed()))
        fields = next(fields for fields in stand.log.of("worker_output") if fields["line"] == "err 1")
        assert fields["stream_name"] == "stderr"
        assert fields["worker"].startswith("worker 0 (pid ")
        assert max(len(text) for text in stand.log.printed()) < 9000


PRINTING = {
    "plain": "class App(RecordProcessor):\n    def process_record(self, record): self.act(record)",
    "threads": "class App(RecordProcessor):\n    concurrency = 4\n    def process_record(self, r): self.act(r)",
    "async": "class App(RecordProcessor):\n    async def process_record(self, record): self.act(record)",
    "batch": "class App(RecordProcessor):\n    def process_records(self, records): [self.act(r) for r in records]",
}


@pytest.mark.parametrize("mode", PRINTING)
async def test_an_attempts_log_is_what_it_printed_itself(tmp_path: Path, mode: str) -> None:
    code = f"""
import logging
logging.basicConfig(format="%(message)s")
{PRINTING[mode]}
    def act(self, record):
        n = record.json()
        print("pricing", n)
        logging.warning("careful with %s", n)
        if n in (3, 5): raise ValueError("no price")
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line(range(8)))
        await ear.span_done(1)
        for n in (3, 5):
            assert ear.attempts[At(1, n)][0].log == f"pricing {n}\ncareful with {n}\n"
        ear.seat.run_alone(At(1, 3), 2, fresh=True)
        await ear.failed(At(1, 3), 2)
        assert ear.attempts[At(1, 3)][1].log == "pricing 3\ncareful with 3\n"


async def test_the_tail_of_a_long_log_is_kept(tmp_path: Path) -> None:
    code = """
class App(RecordProcessor):
    def process_record(self, record):
        for n in range(5000): print("line", n)
        raise ValueError
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([0]))
        await ear.span_done(1)
        log = ear.attempts[At(1, 0)][0].log or ""
        assert len(log.encode()) <= 16 * 1024
        assert log.endswith("line 4999\n")


async def test_a_cells_whole_output_is_the_attempts_log_when_it_dies(tmp_path: Path) -> None:
    code = """
class App(RecordProcessor):
    def initialize(self, shard): print("hello")
    def process_record(self, record):
        os.write(1, b"straight to the descriptor\\n")
        os._exit(9)
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([0]))
        await ear.until(lambda: ear.open == 0)
        assert ear.attempts[At(1, 0)][1].log == "straight to the descriptor\n"


@pytest.mark.parametrize("mode", ["plain", "threads", "async"])
async def test_closing_descriptors_does_not_hurt(tmp_path: Path, mode: str) -> None:
    code = f"""
{PRINTING[mode]}
    def act(self, record):
        if record.json() == 2: os.closerange(3, 256)
        if record.json() == 4: raise ValueError("as usual")
        effect(record.json())
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        for span in (1, 2):
            ear.bring(span, line([n + 10 * span - 10 for n in range(6)], first=span * 10))
            await ear.span_done(span)
        assert ear.deaths == []
        assert len(stand.effects()) == 11


@pytest.mark.parametrize("mode", ["plain", "threads", "async"])
async def test_a_forked_child_never_speaks_for_its_parent(tmp_path: Path, mode: str) -> None:
    """The child comes back from `process_record` as its parent does, or fails where its parent does not."""
    code = f"""
import warnings
warnings.simplefilter("ignore")
{PRINTING[mode]}
    def act(self, record):
        n = record.json()
        if n in (2, 3) and os.fork() == 0 and n == 3: raise ValueError("in the child")
        effect(n)
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line(range(6)))
        assert (await ear.span_done(1)).held == ()
        assert ear.of(Failed) == []
        ear.bring(2, line([10], first=10))
        await ear.span_done(2)
        counts = stand.counts()
        assert [counts[str(n)] for n in (0, 1, 3, 4, 5, 10)] == [1] * 6, "no child has run on"
        assert ear.deaths == []


@pytest.mark.parametrize("mode", PRINTING)
@pytest.mark.parametrize(
    "raised",
    ["SystemExit(3)", "KeyboardInterrupt()", "GeneratorExit()", "__import__('asyncio').CancelledError()"],
)
async def test_whatever_is_raised_is_an_exception_of_the_record(tmp_path: Path, mode: str, raised: str) -> None:
    code = f"""
{PRINTING[mode]}
    def act(self, record):
        if record.json() == 2: raise {raised}
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line(range(5)))
        await ear.span_done(1)
        (failed,) = ear.of(Failed)
        assert (failed.record.at, failed.cause) == (At(1, 2), Cause.RAISED)
        attempt = ear.attempts[At(1, 2)][0]
        assert attempt.outcome == "exception"
        name = (attempt.exception_type or "").rpartition(".")[2]
        assert f"{name}(" in raised
        assert ear.deaths == []


async def test_a_task_that_cancels_its_own_lane_hurts_no_later_record(tmp_path: Path) -> None:
    code = """
import asyncio
class App(RecordProcessor):
    concurrency = 1
    async def process_record(self, record):
        n = record.json()
        if n == 1: asyncio.current_task().cancel()
        if n == 3: raise ValueError
        await asyncio.sleep(0) if n != 1 else None
        effect(n)
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line(range(6)))
        await ear.span_done(1)
        assert [failed.record.at.nth for failed in ear.of(Failed)] == [3]
        assert numbers(stand.effects()) == [0, 1, 2, 4, 5]


async def test_signals_of_user_code_are_its_own(tmp_path: Path) -> None:
    """A SIGTERM to all of a service's processes does not kill workers; a child of theirs can be terminated."""
    code = """
import subprocess
class App(RecordProcessor):
    def process_record(self, record):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        child = subprocess.Popen(["sleep", "60"])
        child.terminate()
        assert child.wait(10) == -signal.SIGTERM
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        effect(record.json())
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([1]))
        await ear.span_done(1)
        assert stand.effects() == ["1"]


async def test_masks_are_put_on_in_the_worker(tmp_path: Path) -> None:
    code = """
class App(RecordProcessor):
    def process_record(self, record):
        print("card 4711")
        raise ValueError("bad card 4711")
    def mask(self, record): return b"****"
    def mask_text(self, text): return text.replace("4711", "****")
"""
    async with standing(tmp_path, code) as stand:
        assert stand.facts.masks
        ear = await stand.ear().start()
        ear.bring(1, line(["4711"]))
        await ear.span_done(1)
        attempt = ear.attempts[At(1, 0)][0]
        assert ear.masked[At(1, 0)] == b"****"
        assert (attempt.message, attempt.log) == ("bad card ****", "card ****\n")
        assert "ValueError: bad card ****" in (attempt.traceback or "")


async def test_a_mask_that_raises_shows_nothing(tmp_path: Path) -> None:
    code = """
class App(RecordProcessor):
    def process_record(self, record): raise ValueError("secret")
    def mask(self, record): raise OSError("secret")
    def mask_text(self, text): raise SystemExit("secret")
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([0]))
        await ear.span_done(1)
        attempt = ear.attempts[At(1, 0)][0]
        assert ear.masked[At(1, 0)] == b""
        assert attempt.message == "<not shown: mask_text raised SystemExit>"
        assert "secret" not in f"{attempt.message}{attempt.traceback}{attempt.log}"


async def test_close_leaves_nobody_behind_whatever_they_do(tmp_path: Path) -> None:
    """A grandchild in the group, a worker that holds the interpreter, a cell that hangs: `standing` looks for them."""
    code = """
import subprocess
class App(RecordProcessor):
    def process_record(self, record):
        subprocess.Popen(["sleep", "600"])
        effect(f"{record.json()} {os.getpid()}")
        die("hang")
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([0, 1]), ask=(1,))
        await until(lambda: len(stand.effects()) == 1)


HOST = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.workers.stand import line, standing, until
CODE = '''
class App(RecordProcessor):
    def process_record(self, record):
        effect(os.getpid())
        die(record.json())
'''
async def main():
    async with standing(Path.cwd(), CODE, workers=2) as stand:
        one, two = await stand.ear("shardId-1").start(), await stand.ear("shardId-2").start()
        one.bring(1, line([""]))
        await one.span_done(1)
        two.bring(1, line(["hang"]))
        await until(lambda: len(stand.effects()) == 2 and stand.pool._warm)
        print(*stand.pids, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_workers_die_with_a_host_that_is_killed(tmp_path: Path) -> None:
    """One is idle, one holds the interpreter, one is the spare."""
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", HOST, root]
    host = await asyncio.to_thread(subprocess.Popen, command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert host.stdout is not None
        pids = [int(pid) for pid in host.stdout.readline().split()]
        assert len(pids) == 3
    finally:
        host.kill()
        host.wait()
        assert host.stdout is not None
        host.stdout.close()
    await until(lambda: all(gone(pid) for pid in pids))


async def test_a_worker_is_killed_before_its_host_and_dumps_no_core(tmp_path: Path) -> None:
    async with standing(tmp_path, "def handle(record): pass", "app:handle") as stand:
        (pid,) = stand.pids[:1]
        assert int(_proc(pid, "oom_score_adj")) == min(1000, int(_proc(os.getpid(), "oom_score_adj")) + 500)
        assert "Max core file size        0                    0" in _proc(pid, "limits")
        assert os.getpgid(pid) == os.getsid(pid) == pid
        os.kill(pid, signal.SIGKILL)


def _proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


async def test_a_worker_that_no_longer_listens_is_replaced(tmp_path: Path) -> None:
    """A thread left behind holds the interpreter while no record runs: nobody is to blame, and it goes on elsewhere."""
    code = """
class App(RecordProcessor):
    deadline_s = 0.3
    def process_record(self, record):
        effect(record.json())
        if record.json() == 0: threading.Timer(0.02, self.hold).start()
    def hold(self):
        effect("holding")
        die("hang")
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([0]))
        await ear.span_done(1)
        await until(lambda: "holding" in stand.effects())
        ear.bring(2, line([1]))
        await ear.until(lambda: ear.open == 0)
        assert stand.effects() == ["0", "holding", "1"]
        assert (ear.deaths, ear.shared) == (["deadline"], set())


@pytest.mark.parametrize("said", [b"\xa2\xff\xff", b"\x93\xa8Finished\x01", b"\x96\xa7Stated\xa1\xff\x01"])
async def test_whoever_writes_into_the_protocol_is_the_killer_of_its_process(tmp_path: Path, said: bytes) -> None:
    code = f"""
import socket, stat
class App(RecordProcessor):
    def process_record(self, record):
        if record.json() == 3: self.speak()
        effect(record.json())
    def speak(self):
        for fd in map(int, os.listdir("/proc/self/fd")):
            try:
                if stat.S_ISSOCK(os.fstat(fd).st_mode):
                    socket.socket(fileno=os.dup(fd)).send({said!r})
            except OSError: pass
        time.sleep(60)
"""
    async with standing(tmp_path, code) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line(range(6)))
        await ear.until(lambda: ear.open == 0)
        assert ear.aside == {At(1, 3): "CRASHED"}
        assert sorted(stand.effects()) == ["0", "1", "2", "4", "5"]
