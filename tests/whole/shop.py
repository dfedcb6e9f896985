"""The processor of the whole-system tests. Every effect is one line, appended at once.

A payload is `{"n": 17, "do": "fine"}`; `do` says how the record is sick. What a line in the
effects file says has happened; nothing else is believed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Sequence

from streamheal import Poison, Record, RecordProcessor, Shard, Throttled

FIXED = os.environ.get("SHOP_FIXED") == "1"


def effect(text: str) -> None:
    descriptor = os.open(os.environ["SHOP_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


class Shop(RecordProcessor):
    poison = (ZeroDivisionError,)

    def initialize(self, shard: Shard) -> None:
        self.seen: set[int] = set()

    def process_record(self, record: Record) -> None:
        order = record.json()
        number, do = order["n"], order["do"]
        if os.path.exists(os.environ.get("SHOP_OUTAGE", "")):
            raise ConnectionError("the bank does not answer")
        if not FIXED:
            misbehave(do, number, record)
        time.sleep(float(os.environ.get("SHOP_WORK_S", "0")))
        effect(f"{number} {record.partition_key} {os.getpid()}")


class AsyncShop(Shop):
    concurrency = 10

    async def process_record(self, record: Record) -> None:  # type: ignore[override]
        Shop.process_record(self, record)


class ThreadShop(Shop):
    concurrency = 4


class AuditedShop(ThreadShop):
    """Writes the log that `streamheal audit` reads, too."""

    def process_record(self, record: Record) -> None:
        super().process_record(record)
        line = {
            "sequence_number": record.sequence_number,
            "sub_sequence_number": record.sub_sequence_number,
            "shard_id": record.shard_id,
            "at": time.time(),
        }
        with open("audited.jsonl", "ab", buffering=0) as log:
            log.write(json.dumps(line).encode() + b"\n")


def handle(record: Record) -> None:
    effect(str(record.json()["n"]))


def misbehave(do: str, number: int, record: Record) -> None:
    match do:
        case "raise":
            print(f"pricing order {number}")
            raise KeyError("customer")
        case "reject":
            raise Poison("no such product")
        case "zero":
            print(1 / 0)
        case "crash":
            ctypes.string_at(0)
        case "exit":
            os._exit(7)
        case "sysexit":
            sys.exit("a library called exit")
        case "hang":
            ctypes.PyDLL(None).sleep(1000)
        case "eat":
            eaten = []
            while True:
                eaten.append(bytearray(4 << 20))
        case "killhost":
            kill_host()
        case "killhostalone":
            ctypes.string_at(0) if record.attempt == 1 else kill_host()
        case "flaky" if record.attempt == 1:
            raise ConnectionError("try again")
        case "busy" if record.attempt <= 2:
            raise Throttled(retry_after_s=0.1)


def kill_host() -> None:
    """As a container is killed whole: whoever started us, and all that it started, are gone."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1000)


class BatchShop(Shop):
    def process_records(self, records: Sequence[Record]) -> None:
        for record in records:
            Shop.process_record(self, record)


class KeyShop(Shop):
    """Orders go by a key of their own, and asking some for it ends badly."""

    def key(self, record: Record) -> str:
        order = record.json()
        misbehave(order["do"].removeprefix("key"), order["n"], record)
        return str(order["n"] % 7)


class KeyThreadShop(KeyShop):
    concurrency = 4


class LeakyShop(ThreadShop):
    """Keeps a little of every order, as a cache without bounds does."""

    kept: list[bytes] = []  # noqa: RUF012  # that it is shared is the leak

    def process_record(self, record: Record) -> None:
        super().process_record(record)
        self.kept.append(b"x" * (1 << 16))
