"""Plays KCL's daemon over the pipes of one child: the same bytes to whoever is measured."""

from __future__ import annotations

import json
import os
import subprocess
import time

EMPTY = b'{"action":"processRecords","records":[],"millisBehindLatest":0}\n'
_SHUTDOWN = b'{"action":"shutdownRequested"}\n'


def initialize(shard_id: str) -> bytes:
    line = {"action": "initialize", "shardId": shard_id, "sequenceNumber": "TRIM_HORIZON", "subSequenceNumber": 0}
    return json.dumps(line).encode() + b"\n"


class Child:
    """A process that speaks the MultiLang protocol on its standard input and output."""

    def __init__(self, command: list[str], env: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout
        self.checkpoint: str | None = None

    def act(self, line: bytes, action: str) -> None:
        """Send one action and serve its checkpoints until its status comes."""
        self._write(line)
        while text := self._out.readline():
            if not text.strip():
                continue
            answer = json.loads(text)
            if answer["action"] == "status":
                assert answer["responseFor"] == action, answer
                return
            self.checkpoint = answer["sequenceNumber"]
            self._write(json.dumps({**answer, "error": None}, separators=(",", ":")).encode() + b"\n")
        raise EOFError(f"the child died in {action}")

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._in, view) :]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def records_per_s(
    command: list[str], lines: list[bytes], repeats: int, records_a_line: int, *, names_checkpoint: bool
) -> float:
    """How fast the child takes these lines; every record is settled and checkpointed in the end.

    amazon_kclpy checkpoints "the batch", and leaves it to the daemon to know its last record.
    """
    child = Child(command)
    try:
        child.act(initialize("shardId-000000000000"), "initialize")
        for line in lines[:2]:
            child.act(line, "processRecords")  # warm: imports, caches, first pages
        began = time.perf_counter()
        for number in range(repeats):
            child.act(lines[number % len(lines)], "processRecords")
        child.act(_SHUTDOWN, "shutdownRequested")
        took_s = time.perf_counter() - began
        last = json.loads(lines[(repeats - 1) % len(lines)])["records"][-1]["sequenceNumber"]
        assert child.checkpoint == (last if names_checkpoint else None), (child.checkpoint, last)
    finally:
        child.close()
    return repeats * records_a_line / took_s
