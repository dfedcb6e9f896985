"""Runs streamheal as its users do: a process, its exit code, and what it left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Site:
    """An empty folder with the shop's processor in it, and a stream to read."""

    def __init__(self, folder: Path, stream: str, env: dict[str, str]) -> None:
        self.folder = folder
        self.stream = stream
        (folder / "shop.py").write_text((HERE / "shop.py").read_text())
        self.env = {**os.environ, **env, "SHOP_EFFECTS": str(folder / "effects"), "NO_COLOR": "1", "COLUMNS": "120"}

    def start(self, *arguments: str, inside: str | None = None, **env: str) -> subprocess.Popen[bytes]:
        """`inside`: a script that runs it where it should run."""
        with (self.folder / "log").open("a") as log:
            return subprocess.Popen(
                [*(["sh", inside] if inside else []), sys.executable, "-m", "streamheal", *arguments],
                cwd=self.folder,
                env={**self.env, **env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def call(self, *arguments: str, timeout_s: float = 90, **env: str) -> subprocess.CompletedProcess[str]:
        """Run to the end. What it said is in `stdout` and `stderr`."""
        return subprocess.run(
            [sys.executable, "-m", "streamheal", *arguments],
            cwd=self.folder,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def run_arguments(self, target: str = "shop:Shop", *more: str) -> list[str]:
        quick = ["--retry-s-min", "0.05", "--patience-s", "3", "--deadline-s", "1", "--http", "off"]
        return ["run", target, "--stream", self.stream, *quick, *more]

    def heal(self, target: str = "shop:Shop", *more: str, **env: str) -> subprocess.CompletedProcess[str]:
        """`streamheal run … --until-caught-up`, to its end."""
        return self.call(*self.run_arguments(target, "--until-caught-up", *more), **env)

    def effects(self) -> Counter[int]:
        """How often each record took effect."""
        found = self.folder / "effects"
        lines = found.read_text().splitlines() if found.exists() else []
        return Counter(int(line.split()[0]) for line in lines)

    def effects_in_order(self) -> list[tuple[int, str]]:
        lines = (self.folder / "effects").read_text().splitlines()
        return [(int(number), key) for number, key, _ in map(str.split, lines)]

    def quarantined(self, *arguments: str) -> list[dict[str, Any]]:
        done = self.call("quarantine", "list", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def show(self, id: str) -> dict[str, Any]:
        done = self.call("quarantine", "show", id, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def orders(
    numbers: Iterable[int], do: Callable[[int], str] = lambda number: "fine", keys: int = 50
) -> list[dict[str, Any]]:
    """PutRecords entries; `notjson` is the one way to be sick that is no JSON."""
    made = []
    for number in numbers:
        how = do(number)
        data = b"<order/>" if how == "notjson" else json.dumps({"n": number, "do": how}).encode()
        made.append({"Data": data, "PartitionKey": f"cust-{number % keys}"})
    return made


def put(kinesis: Any, stream: str, entries: list[dict[str, Any]]) -> None:
    for first in range(0, len(entries), 500):
        answer = kinesis.put_records(StreamName=stream, Records=entries[first : first + 500])
        assert answer["FailedRecordCount"] == 0


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """For what another process does in its own time and cannot say by itself."""
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen in time"
        signal.sigtimedwait([], 0.02)


def processes_in(folder: Path) -> list[int]:
    """Ids of living processes whose working folder is this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd") == str(folder) and "State:\tZ" not in (process / "status").read_text():
                found.append(int(process.name))
        except OSError:
            continue  # it ended while we looked
    return found
