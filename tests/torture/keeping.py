"""What a host has left where it keeps things: checkpoints and quarantined records, read without its help."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.torture.book import At


class Aside(NamedTuple):
    """A record in quarantine."""

    shard_id: str
    at: At
    data: bytes
    reason: str
    verdict: str


def in_folder(root: Path) -> Iterator[Aside]:
    for path in root.rglob("application=*/**/*.json"):
        yield _aside(json.loads(path.read_bytes()))


def in_bucket(s3: Any, bucket: str) -> Iterator[Aside]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for one in page.get("Contents", ()):
            if "application=" in one["Key"] and one["Key"].endswith(".json"):
                yield _aside(json.loads(s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read()))


def in_stream(kinesis: Any, stream: str) -> Iterator[Aside]:
    """A put that was not answered is put again, so copies are one."""
    seen: set[str] = set()
    for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
        for record in every_record(kinesis, stream, shard["ShardId"]):
            envelope = json.loads(record["Data"])
            if envelope.get("id") and envelope["id"] not in seen:
                seen.add(envelope["id"])
                yield _aside(envelope)


def every_record(kinesis: Any, stream: str, shard_id: str) -> Iterator[Any]:
    iterator = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard_id, ShardIteratorType="TRIM_HORIZON")
    after = iterator["ShardIterator"]
    while after is not None:
        page = kinesis.get_records(ShardIterator=after)
        yield from page["Records"]
        after = page.get("NextShardIterator") if page["Records"] or page["MillisBehindLatest"] else None


def _aside(envelope: dict[str, Any]) -> Aside:
    at = int(envelope["sequence_number"]), envelope["sub_sequence_number"]
    data = base64.b64decode(envelope["data_base64"])
    return Aside(envelope["shard_id"], at, data, envelope["reason"], str(envelope["verdict"]))


def sqlite_checkpoints(path: Path, application: str) -> dict[str, At]:
    """By shard, the last position that is settled with all before it."""
    if not path.exists():
        return {}
    connection = sqlite3.connect(path, timeout=10)
    try:
        rows = connection.execute(
            "SELECT key, value FROM streamheal_rows WHERE kind = ?", (f"{application}#checkpoint",)
        ).fetchall()
    except sqlite3.OperationalError:
        return {}  # killed before it had made its table
    finally:
        connection.close()
    return _checkpoints(rows)


def table_checkpoints(dynamodb: Any, table: str, application: str) -> dict[str, At]:
    try:
        items = dynamodb.scan(TableName=table, ConsistentRead=True)["Items"]
    except dynamodb.exceptions.ResourceNotFoundException:
        return {}
    kind = f"{application}#checkpoint"
    return _checkpoints(
        [(item["row_key"]["S"], item["row_value"]["S"]) for item in items if item["row_kind"]["S"] == kind]
    )


def lease_checkpoints(dynamodb: Any, application: str) -> dict[str, At]:
    """Of KCL's lease table."""
    found = {}
    for item in dynamodb.scan(TableName=application, ConsistentRead=True)["Items"]:
        sequence = item.get("checkpoint", {}).get("S", "")
        if sequence.isdigit():
            found[item["leaseKey"]["S"]] = (int(sequence), int(item["checkpointSubSequenceNumber"]["N"]))
    return found


def forget_owner(dynamodb: Any, table: str, application: str) -> None:
    """As if the seconds had passed after which a silent owner is taken for dead."""
    key = {"row_kind": {"S": f"{application}#owner"}, "row_key": {"S": "owner"}}
    try:
        dynamodb.delete_item(TableName=table, Key=key)
    except dynamodb.exceptions.ResourceNotFoundException:
        pass


def _checkpoints(rows: list[tuple[str, str]]) -> dict[str, At]:
    found = {}
    for key, text in rows:
        value = json.loads(text)
        if value.get("sequence") is not None:
            found[key.rpartition("/")[2]] = (int(value["sequence"]), int(value["sub_sequence"]))
    return found
