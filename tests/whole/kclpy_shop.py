"""The shop as somebody wrote it for amazon_kclpy, with its own words and its own ways."""

from __future__ import annotations

import json
import os
from typing import Any

from amazon_kclpy.v3 import processor
from shop import FIXED, effect, misbehave

from streamheal import Record


class KclShop(processor.RecordProcessorBase):  # type: ignore[misc]  # it comes without types
    """Checkpoints once a batch."""

    def initialize(self, initialize_input: Any) -> None:
        self.kept: list[Any] = []

    def process_records(self, process_records_input: Any) -> None:
        for record in process_records_input.records:
            self.process_record(record)
        process_records_input.checkpointer.checkpoint()

    def process_record(self, record: Any) -> None:
        order = json.loads(record.binary_data)
        if not FIXED:
            misbehave(order["do"], order["n"], Record(record.binary_data))
        effect(f"{order['n']} {record.partition_key} {os.getpid()}")

    def lease_lost(self, lease_lost_input: Any) -> None: ...

    def shard_ended(self, shard_ended_input: Any) -> None:
        shard_ended_input.checkpointer.checkpoint()

    def shutdown_requested(self, shutdown_requested_input: Any) -> None:
        shutdown_requested_input.checkpointer.checkpoint()


class BufferingShop(KclShop):
    """Keeps what it was given until there are many, or it is told to stop; only then something takes effect."""

    def process_records(self, process_records_input: Any) -> None:
        for record in process_records_input.records:
            order = json.loads(record.binary_data)
            misbehave(order["do"], order["n"], Record(record.binary_data))
        self.kept += process_records_input.records
        if len(self.kept) >= 600:
            self.flush(process_records_input.checkpointer)
        with open("given", "a") as given:
            given.write(f"{len(process_records_input.records)}\n")

    def flush(self, checkpointer: Any) -> None:
        for record in self.kept:
            KclShop.process_record(self, record)
        self.kept.clear()
        checkpointer.checkpoint()

    def shard_ended(self, shard_ended_input: Any) -> None:
        self.flush(shard_ended_input.checkpointer)

    def shutdown_requested(self, shutdown_requested_input: Any) -> None:
        self.flush(shutdown_requested_input.checkpointer)
