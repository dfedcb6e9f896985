"""Streams: moto knows them, their tags, consumers and retention; their shards are ours.

The shards hang on moto's own stream object, so that whatever removes a stream there removes
its shards as well.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from moto.core.exceptions import JsonRESTError
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.kinesis.models import KinesisBackend, kinesis_backends

from streamheal.local.faults import Fault, invalid_value
from streamheal.local.requests import CreateStream
from streamheal.local.shards import Shards

# Kinesis keeps records up to 10 MiB on request (API reference, UpdateMaxRecordSize).
RECORD_KIB_MIN, RECORD_KIB_MAX = 1024, 10_240
_ON_DEMAND_SHARDS = 4


class Stream(NamedTuple):
    told: Any  # moto's own
    shards: Shards
    sizes: dict[str, int]

    @property
    def record_kib_max(self) -> int:
        return self.sizes["record_kib_max"]


_shards: WeakKeyDictionary[Any, tuple[Shards, dict[str, int]]] = WeakKeyDictionary()


def backend(region: str) -> KinesisBackend:
    return kinesis_backends[DEFAULT_ACCOUNT_ID][region]


def find(region: str, name: str | None, arn: str | None) -> Stream:
    """
    Raises:
        Fault: There is no such stream.
    """
    try:
        told = backend(region).describe_stream(arn, name)
    except JsonRESTError as error:
        raise translated(error) from error
    if told not in _shards:
        # A stream that moto made by itself, for instance from a CloudFormation template.
        _shards[told] = (Shards(told.shard_count or 1, time.time()), {"record_kib_max": RECORD_KIB_MIN})
    return Stream(told, *_shards[told])


def create(region: str, request: CreateStream) -> None:
    check_record_kib_max(request.max_record_size)
    mode = request.stream_mode_details.stream_mode
    count = _ON_DEMAND_SHARDS if mode == "ON_DEMAND" else request.shard_count
    if not count or count < 0:
        raise invalid_value("Value at 'shardCount' failed to satisfy constraint: Member must be at least 1")
    try:
        told = backend(region).create_stream(request.stream_name or "", count, stream_mode={"StreamMode": mode})
    except JsonRESTError as error:
        raise translated(error) from error
    told.tags.update(request.tags)
    _shards[told] = (Shards(count, time.time()), {"record_kib_max": request.max_record_size})


def check_record_kib_max(kib: int) -> None:
    if not RECORD_KIB_MIN <= kib <= RECORD_KIB_MAX:
        raise invalid_value(
            f"Value '{kib}' at 'maxRecordSizeInKiB' failed to satisfy constraint: "
            f"Member must be between {RECORD_KIB_MIN} and {RECORD_KIB_MAX}"
        )


def translated(error: JsonRESTError) -> Fault:
    return Fault(error.error_type, error.message)
