"""The processors that are tortured. Copied into a round's folder, where only streamheal is imported.

A payload is `{"do": "fine"}`; `do` says how the record is sick. What happens to a record is written to the
book before it happens (`start`) and after (`done`, `failed`), one line and one write each.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from streamheal import Poison, Record, RecordProcessor, Shard, Throttled

WORK_S = float(os.environ["TORTURE_WORK_S"])
# Whoever runs again runs alone, as a rule: long enough that a blow may find it there.
AGAIN_S = 0.05
_BOOK = os.open(os.environ["TORTURE_BOOK"], os.O_WRONLY | os.O_APPEND)


def write(event: str, **fields: Any) -> None:
    os.write(_BOOK, f"{json.dumps({'event': event, 'pid': os.getpid(), **fields})}\n".encode())


def tell(event: str, record: Record) -> None:
    at = (record.sequence_number, record.sub_sequence_number)
    write(event, at=at, key=record.partition_key, attempt=record.attempt)


@contextmanager
def told(record: Record) -> Iterator[None]:
    tell("start", record)
    try:
        yield
    except BaseException:
        tell("failed", record)
        raise
    tell("done", record)


class Plain(RecordProcessor):
    def initialize(self, shard: Shard) -> None:
        write("initialize", shard_id=shard.shard_id)

    def wants(self, record: Record) -> bool:
        return b'"filtered"' not in record.data

    def process_record(self, record: Record) -> Any:
        with told(record):
            misbehave(record.json()["do"], record.attempt)
            time.sleep(work_s(record))


class Threads(Plain):
    concurrency = 4


class Coroutines(Plain):
    concurrency = 8

    async def process_record(self, record: Record) -> None:
        with told(record):
            do = record.json()["do"]
            if do == "hang":
                await asyncio.sleep(1000)
            misbehave(do, record.attempt)
            await asyncio.sleep(work_s(record))


class Batches(Plain):
    def process_records(self, records: Sequence[Record]) -> None:
        for record in records:
            Plain.process_record(self, record)


def work_s(record: Record) -> float:
    return WORK_S if record.attempt == 1 else AGAIN_S


def misbehave(do: str, attempt: int) -> None:
    match do:
        case "raise":
            raise KeyError("customer")
        case "reject":
            raise Poison("no such product")
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(7)
        case "suicide":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            ctypes.PyDLL(None).sleep(1000)  # the interpreter is held
        case "flaky" if attempt == 1:
            raise ConnectionError("try again")
        case "busy" if attempt <= 2:
            raise Throttled(retry_after_s=0.05)
