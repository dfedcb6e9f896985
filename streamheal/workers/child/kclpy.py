"""Processors written for amazon_kclpy, run unchanged: their world, with our workers behind it.

    Batches ── process_records([Record, …]) ──► KclpyProcessor ── ProcessRecordsInput ──► the user's class
       host ◄── Stated ── Owed ◄── "checkpoint" ── amazon_kclpy's own Checkpointer ◄───────────┘

What the user's class sees is the amazon_kclpy that it is derived from: its inputs, its records, its
checkpointer, its errors. Only the far end of the checkpointer is ours, where its daemon would be.
"""

from __future__ import annotations

import base64
import importlib
import inspect
import json
import re
import sys
import threading
from collections.abc import Sequence
from typing import Any

from streamheal.errors import TargetError
from streamheal.records import Record, Shard, arrival_ms
from streamheal.workers.child.failures import type_name
from streamheal.workers.child.owed import OutOfRange, Owed, Place

_BASE = "RecordProcessorBase"
_MODULES = ("amazon_kclpy.v2.processor", "amazon_kclpy.v3.processor")
_FIRST_MODULE = "amazon_kclpy.kcl"
_SHAPE = "(TARGET, as module:Class)"

# At the end of the daemon's line; GetRecords has it before its records or after them.
_BEHIND = re.compile(rb'"[mM]illisBehindLatest"\s*:\s*(\d+)')
_BEHIND_WITHIN = 4096


def is_kclpy(found: type, name: str) -> bool:
    """Whether this is a class of amazon_kclpy's, told by its ancestors' names.

    Raises:
        TargetError: It is, but cannot be run.
    """
    bases = {base.__module__ for base in found.__mro__ if base.__name__ == _BASE}
    if bases.intersection(_MODULES):
        if inspect.iscoroutinefunction(found.process_records):  # type: ignore[attr-defined]  # its base has it
            raise TargetError(f"{name}.process_records is a coroutine function; amazon_kclpy awaits none   {_SHAPE}")
        return True
    if _FIRST_MODULE in bases:
        raise TargetError(
            f"{name} is written for amazon_kclpy's first interface: derive it from"
            f" amazon_kclpy.v3.processor.{_BASE}, whose methods take one input each   {_SHAPE}"
        )
    return False


def millis_behind(raw: memoryview) -> int | None:
    """How far behind its shard's tip this batch was read, as its bytes say; None: they do not."""
    for part in (raw[-_BEHIND_WITHIN:], raw[:_BEHIND_WITHIN]):
        found = _BEHIND.search(part)
        if found is not None:
            return int(found[1])
    return None


class KclpyProcessor:
    """A batch processor of ours around one of theirs.

    Attributes:
        owed: What it has returned from and not stated yet.
        millis_behind_latest: Of the batch that came last.
    """

    def __init__(self, made: Any) -> None:
        # There, because their class is: `amazon_kclpy.v2.processor` alone does not load it.
        kcl: Any = importlib.import_module("amazon_kclpy.kcl")
        self.owed = Owed()
        self.millis_behind_latest: int | None = 0
        self._messages = kcl.messages
        self._daemon = _Daemon(self.owed, kcl.messages.CheckpointInput)
        self._checkpointer = kcl.Checkpointer(self._daemon)
        self._processor = kcl.v3processor.V2toV3Processor(made) if made.version == 2 else made

    def behind(self, raw: memoryview) -> None:
        """A batch has come; these are its bytes."""
        self.millis_behind_latest = millis_behind(raw)

    def initialize(self, shard: Shard) -> None:
        after = self.owed.after
        self._act(
            self._messages.InitializeInput({
                "action": "initialize",
                "shardId": shard.shard_id,
                "sequenceNumber": "TRIM_HORIZON" if after is None else str(after[0]),
                "subSequenceNumber": 0 if after is None else after[1],
            })
        )  # fmt: skip

    def process_records(self, records: Sequence[Record]) -> None:
        """What it returns is not looked at, as amazon_kclpy does not."""
        # In the stream's order, whatever order their lanes let them out in.
        records = sorted(records, key=_place)
        make = self._messages.Record
        given = self._messages.ProcessRecordsInput(
            {
                "action": "processRecords",
                "records": [make(_as_sent(record)) for record in records],
                "millisBehindLatest": self.millis_behind_latest,
            }
        )
        self.owed.called(_place(records[0]), _place(records[-1]))
        self._act(given, "part")
        self.owed.returned(map(_place, records))

    def shard_ended(self) -> None:
        self._act(self._messages.ShardEndedInput({"action": "shardEnded"}), "all")

    def lease_lost(self) -> None:
        self._act(self._messages.LeaseLostInput({"action": "leaseLost"}))

    def shutdown_requested(self) -> None:
        self._act(self._messages.ShutdownRequestedInput({"action": "shutdownRequested"}), "all")

    def finish_alone(self) -> None:
        """Its process ends after this one record: the last occasion to say that it is done."""
        if not self.owed.owes:
            return
        try:
            self.shutdown_requested()
        except Exception as error:
            print(f"shutdown_requested raised {type_name(type(error))}: {error}", file=sys.stderr)

    def _act(self, action: Any, states: str | None = None) -> None:
        self._daemon.end_means = states
        try:
            action.dispatch(self._checkpointer, self._processor)
        finally:
            # Between actions a thread of theirs may still state what it was given.
            self._daemon.end_means = "part" if states == "part" else None


class _Daemon:
    """The far end of amazon_kclpy's `Checkpointer`: takes its requests, and answers as KCL does.

    Attributes:
        end_means: What a checkpoint without a sequence number states: "part", "all"; None: none is
            taken now, as in `initialize` and after the lease is lost.
    """

    def __init__(self, owed: Owed, answer: Any) -> None:
        self.end_means: str | None = None
        self._owed, self._answer = owed, answer
        self._asking = threading.local()

    def write_action(self, response: Any) -> None:
        self._asking.line = json.dumps(response)  # what cannot be sent raises here, as it does there

    def read_line(self) -> str:
        line: str = self._asking.line
        return line

    def load_action(self, line: str) -> Any:
        asked = json.loads(line)
        return self._answer({**asked, "error": self._refusal(asked["sequenceNumber"], asked["subSequenceNumber"])})

    def _refusal(self, sequence: Any, sub_sequence: Any) -> str | None:
        """The name of the exception that KCL would answer with; None: it is stated."""
        if self.end_means is None:
            return "InvalidStateException"
        try:
            if sequence is None:
                self._owed.state_part() if self.end_means == "part" else self._owed.state_all()
            else:
                self._owed.state(_stated_place(sequence, sub_sequence))
        except OutOfRange:
            return "IllegalArgumentException"
        return None


def _stated_place(sequence: Any, sub_sequence: Any) -> Place:
    """KCL takes a number for its digits, and a missing sub-sequence number for 0."""
    if isinstance(sequence, int) and not isinstance(sequence, bool):
        sequence = str(sequence)
    if isinstance(sub_sequence, str) and sub_sequence.isdecimal():
        sub_sequence = int(sub_sequence)
    good = isinstance(sequence, str) and sequence.isascii() and sequence.isdecimal()
    if sub_sequence is None:
        sub_sequence = 0
    if not good or not isinstance(sub_sequence, int) or isinstance(sub_sequence, bool) or sub_sequence < 0:
        raise OutOfRange
    return int(sequence), sub_sequence


def _place(record: Record) -> Place:
    return int(record.sequence_number), record.sub_sequence_number


def _as_sent(record: Record) -> dict[str, Any]:
    """The record as the daemon's line has it, which is what amazon_kclpy makes its own of."""
    return {
        "action": "record",
        "data": base64.b64encode(record.data).decode("ascii"),
        "partitionKey": record.partition_key,
        "sequenceNumber": record.sequence_number,
        "subSequenceNumber": record.sub_sequence_number,
        "approximateArrivalTimestamp": arrival_ms(record),
    }
