"""The Kinesis requests that our layer answers, each with what it carries."""

from __future__ import annotations

import msgspec


class Request(msgspec.Struct, rename="pascal"):
    """A stream is named by its name or its ARN."""

    stream_name: str | None = None
    stream_a_r_n: str | None = msgspec.field(default=None, name="StreamARN")


class StreamMode(msgspec.Struct, rename="pascal"):
    stream_mode: str = "PROVISIONED"


class CreateStream(Request):
    shard_count: int | None = None
    stream_mode_details: StreamMode = msgspec.field(default_factory=StreamMode)
    tags: dict[str, str] = {}
    max_record_size: int = msgspec.field(default=1024, name="MaxRecordSizeInKiB")


class UpdateMaxRecordSize(Request):
    max_record_size: int = msgspec.field(default=1024, name="MaxRecordSizeInKiB")


class ListStreams(Request):
    limit: int = 100
    exclusive_start_stream_name: str | None = None
    next_token: str | None = None


class DescribeStream(Request):
    limit: int = 100
    exclusive_start_shard_id: str | None = None


class ShardFilter(msgspec.Struct, rename="pascal"):
    type: str
    shard_id: str | None = None
    timestamp: float | None = None


class ListShards(Request):
    next_token: str | None = None
    exclusive_start_shard_id: str | None = None
    max_results: int = 1000
    shard_filter: ShardFilter | None = None


class GetShardIterator(Request):
    shard_id: str = ""
    shard_iterator_type: str = ""
    starting_sequence_number: str | None = None
    timestamp: float | None = None


class GetRecords(Request):
    shard_iterator: str = ""
    limit: int | None = None


class PutRecord(Request):
    data: bytes = b""
    partition_key: str = ""
    explicit_hash_key: str | None = None


class Entry(msgspec.Struct, gc=False, rename="pascal"):
    data: bytes
    partition_key: str
    explicit_hash_key: str | None = None


class PutRecords(Request):
    records: list[Entry] = []


class SplitShard(Request):
    shard_to_split: str = ""
    new_starting_hash_key: str = ""


class MergeShards(Request):
    shard_to_merge: str = ""
    adjacent_shard_to_merge: str = ""


class UpdateShardCount(Request):
    target_shard_count: int = 0
