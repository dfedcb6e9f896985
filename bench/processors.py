"""Processors that are measured. They do next to nothing, so that what is measured is ours."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time

from streamheal import Poison, Record, RecordProcessor


class Touch(RecordProcessor):
    def process_record(self, record: Record) -> None:
        record.data


class TouchAsync(RecordProcessor):
    concurrency = 100

    async def process_record(self, record: Record) -> None:
        record.data


class TouchThreads(RecordProcessor):
    concurrency = 8

    def process_record(self, record: Record) -> None:
        record.data


class Wait5ms(RecordProcessor):
    def process_record(self, record: Record) -> None:
        time.sleep(0.005)


class Wait5msThreads(Wait5ms):
    concurrency = 100


class Wait5msAsync(RecordProcessor):
    concurrency = 100

    async def process_record(self, record: Record) -> None:
        await asyncio.sleep(0.005)


class Wait2ms(RecordProcessor):
    """A handler of 2 ms; payloads beginning with P fail every time, as poison does."""

    def process_record(self, record: Record) -> None:
        time.sleep(0.002)
        if record.data[:1] == b"P":
            raise ValueError("poison")


class Exiting2ms(RecordProcessor):
    """A handler of 2 ms, 32 at once; payloads beginning with C end its process."""

    concurrency = 32

    def process_record(self, record: Record) -> None:
        time.sleep(0.002)
        if record.data[:1] == b"C":
            os._exit(1)


class AllPoison(RecordProcessor):
    def process_record(self, record: Record) -> None:
        raise Poison("every record is poison")


def _note(kind: str) -> None:
    """Say when something was done, to whoever measures: one line, written at once."""
    with open(os.environ["BENCH_EFFECTS"], "a") as effects:
        effects.write(f"{time.monotonic():.6f} {kind}\n")


class Crashing(RecordProcessor):
    """Payloads beginning with C crash the process, with H hang it and hold the interpreter."""

    ordering = "key"

    def process_record(self, record: Record) -> None:
        match record.data[:1]:
            case b"C":
                _note("crash")
                ctypes.string_at(0)
            case b"H":
                _note("hang")
                ctypes.PyDLL(None).sleep(1000)
            case _:
                time.sleep(0.001)
                _note("done")


class CrashingAsync(RecordProcessor):
    """A hundred at once; payloads beginning with C crash the process, after a while of waiting as the others do."""

    concurrency = 100

    async def process_record(self, record: Record) -> None:
        for _ in range(10):
            await asyncio.sleep(0.005)
        if record.data[:1] == b"C":
            ctypes.string_at(0)


class Noting(RecordProcessor):
    """Says of each record on which shard it was done, and when it was put: the payload is that time."""

    def process_record(self, record: Record) -> None:
        with open(os.environ["BENCH_NOTES"], "a") as notes:
            notes.write(f"{time.monotonic():.4f} {record.shard_id} {record.data.decode()}\n")


class NotingWithBoto3(Noting):
    def __init__(self) -> None:
        import boto3

        self.client = boto3.client("dynamodb", region_name="eu-west-1")
