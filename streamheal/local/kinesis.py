"""The Kinesis operations on streams, shards and records. The other ones are moto's."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from typing import Any

import msgspec

from streamheal.local import requests, streams
from streamheal.local.faults import invalid_argument, invalid_value, not_found
from streamheal.local.iterators import Iterator, opened
from streamheal.local.shards import HASH_KEYS, Page, Shard
from streamheal.local.streams import Stream

_PUT_RECORDS_MAX = 500
_PUT_BYTES_MAX = 10 * 1024 * 1024
_KEY_CHARACTERS_MAX = 256
_STREAM_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")


def create_stream(region: str, request: requests.CreateStream) -> None:
    if not _STREAM_NAME.fullmatch(request.stream_name or ""):
        raise invalid_value(
            f"Value '{request.stream_name}' at 'streamName' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"
        )
    streams.create(region, request)


def update_max_record_size(region: str, request: requests.UpdateMaxRecordSize) -> None:
    streams.check_record_kib_max(request.max_record_size)
    _stream(region, request).sizes["record_kib_max"] = request.max_record_size


def list_streams(region: str, request: requests.ListStreams) -> dict[str, Any]:
    after = request.next_token or request.exclusive_start_stream_name or ""
    names = sorted(stream.stream_name for stream in streams.backend(region).list_streams())
    names = [name for name in names if name > after]
    page = names[: request.limit]
    answer: dict[str, Any] = {"StreamNames": page, "HasMoreStreams": len(page) < len(names), "StreamSummaries": []}
    for name in page:
        summary = _summary(streams.find(region, name, None))
        kept = ("StreamName", "StreamARN", "StreamStatus", "StreamModeDetails", "StreamCreationTimestamp")
        answer["StreamSummaries"].append({field: summary[field] for field in kept})
    if answer["HasMoreStreams"]:
        answer["NextToken"] = page[-1]
    return answer


def describe_stream_summary(region: str, request: requests.Request) -> dict[str, Any]:
    return {"StreamDescriptionSummary": _summary(_stream(region, request))}


def _summary(stream: Stream) -> dict[str, Any]:
    summary: dict[str, Any] = stream.told.to_json_summary()["StreamDescriptionSummary"]
    summary.update(
        StreamCreationTimestamp=stream.told.creation_datetime.timestamp(),
        OpenShardCount=len(stream.shards.open()),
        ConsumerCount=len(stream.told.consumers),
        MaxRecordSizeInKiB=stream.record_kib_max,
    )
    return summary


def describe_stream(region: str, request: requests.DescribeStream) -> dict[str, Any]:
    stream = _stream(region, request)
    after = request.exclusive_start_shard_id or ""
    shards = [shard for shard in stream.shards.all() if shard.shard_id > after]
    description: dict[str, Any] = stream.told.to_json()["StreamDescription"]
    description.update(
        StreamCreationTimestamp=stream.told.creation_datetime.timestamp(),
        StreamModeDetails=stream.told.stream_mode,
        Shards=[shard.describe() for shard in shards[: request.limit]],
        HasMoreShards=len(shards) > request.limit,
    )
    return {"StreamDescription": description}


def list_shards(region: str, request: requests.ListShards) -> dict[str, Any]:
    after, wanted = request.exclusive_start_shard_id or "", request.shard_filter
    if request.next_token:
        request.stream_name, after, wanted = _opened(request.next_token)
    stream = _stream(region, request)
    shards = [shard for shard in _filtered(stream, wanted) if shard.shard_id > after]
    page = shards[: request.max_results]
    answer: dict[str, Any] = {"Shards": [shard.describe() for shard in page]}
    if len(page) < len(shards):
        token = msgspec.json.encode((stream.told.stream_name, page[-1].shard_id, wanted))
        answer["NextToken"] = base64.b64encode(token).decode()
    return answer


def _opened(token: str) -> tuple[str, str, requests.ShardFilter | None]:
    """Whose page it was, after which shard the next begins, and by which filter."""
    try:
        return msgspec.json.decode(base64.b64decode(token), type=tuple[str, str, requests.ShardFilter | None])
    except (msgspec.MsgspecError, ValueError) as error:
        raise invalid_argument("Invalid NextToken.") from error


def _filtered(stream: Stream, wanted: requests.ShardFilter | None) -> list[Shard]:
    shards = stream.shards.all()
    if wanted is None:
        return shards
    at = wanted.timestamp or 0.0
    match wanted.type:
        case "AT_LATEST":
            return [shard for shard in shards if shard.is_open]
        case "AT_TRIM_HORIZON":
            # Nothing is ever trimmed here: at the horizon stand the shards that came first.
            return [shard for shard in shards if not shard.parents]
        case "FROM_TRIM_HORIZON":
            return shards
        case "AFTER_SHARD_ID":
            return [shard for shard in shards if shard.shard_id > (wanted.shard_id or "")]
        case "AT_TIMESTAMP":
            return [shard for shard in shards if shard.opened <= at < shard.closed]
        case "FROM_TIMESTAMP":
            return [shard for shard in shards if shard.closed > at]
        case _:
            raise invalid_value(f"Value '{wanted.type}' at 'shardFilter.type' failed to satisfy constraint")


def get_shard_iterator(region: str, request: requests.GetShardIterator) -> dict[str, Any]:
    stream = _stream(region, request)
    shard = _shard(stream, request.shard_id)
    match request.shard_iterator_type:
        case "TRIM_HORIZON":
            after = shard.starts_at - 1
        case "LATEST":
            after = shard.latest
        case "AT_TIMESTAMP":
            after = shard.before(request.timestamp or 0.0)
        case "AT_SEQUENCE_NUMBER":
            after = _number(stream, shard, request) - 1
        case "AFTER_SEQUENCE_NUMBER":
            after = _number(stream, shard, request)
        case unknown:
            raise invalid_value(f"Value '{unknown}' at 'shardIteratorType' failed to satisfy constraint")
    name = stream.told.stream_name
    return {"ShardIterator": Iterator(name, shard.shard_id, after, time.time()).sealed()}


def _number(stream: Stream, shard: Shard, request: requests.GetShardIterator) -> int:
    text = request.starting_sequence_number or ""
    number = int(text) if text.isdecimal() else -1
    last = shard.ends_at or float("inf")
    if not shard.starts_at <= number <= last:
        raise invalid_argument(
            f"StartingSequenceNumber {text} used in GetShardIterator on shard {shard.shard_id} in stream "
            f"{stream.told.stream_name} under account {stream.told.account_id} is invalid because it did not come "
            f"from this stream."
        )
    return number


def get_records(region: str, request: requests.GetRecords) -> tuple[Page, dict[str, Any]]:
    """The records, as texts, and the rest of the answer."""
    now = time.time()
    iterator = opened(request.shard_iterator, now)
    if request.limit is not None and not 1 <= request.limit <= 10_000:
        raise invalid_value(f"Value '{request.limit}' at 'limit' failed to satisfy constraint: between 1 and 10000")
    stream = streams.find(region, iterator.stream, None)
    shard = _shard(stream, iterator.shard_id)
    page = shard.read(iterator.after, request.limit, now)
    rest: dict[str, Any] = {"MillisBehindLatest": page.behind_ms}
    if page.at_end:
        rest["ChildShards"] = [
            {"ShardId": child.shard_id, "ParentShards": list(child.parents), "HashKeyRange": child.range()}
            for child in stream.shards.children(shard.shard_id)
        ]
    else:
        rest["NextShardIterator"] = iterator._replace(after=page.after, issued=now).sealed()
    return page, rest


def put_record(region: str, request: requests.PutRecord) -> dict[str, Any]:
    entry = requests.Entry(request.data, request.partition_key, request.explicit_hash_key)
    [put] = _put(_stream(region, request), [entry])
    return put


def put_records(region: str, request: requests.PutRecords) -> dict[str, Any]:
    if not 1 <= len(request.records) <= _PUT_RECORDS_MAX:
        raise invalid_value(
            f"Value at 'records' failed to satisfy constraint: Member must have length between 1 and {_PUT_RECORDS_MAX}"
        )
    return {"FailedRecordCount": 0, "Records": _put(_stream(region, request), request.records)}


def _put(stream: Stream, entries: list[requests.Entry]) -> list[dict[str, Any]]:
    hash_keys = [_checked(stream, entry, nth) for nth, entry in enumerate(entries, 1)]
    if sum(len(entry.data) for entry in entries) > _PUT_BYTES_MAX:
        raise invalid_argument("Records size exceeds 10 MB limit")
    now = time.time()
    answers = []
    for entry, hash_key in zip(entries, hash_keys, strict=True):
        shard, number = stream.shards.put(entry.partition_key, hash_key, entry.data, now)
        answers.append({"SequenceNumber": str(number), "ShardId": shard.shard_id})
    return answers


def _checked(stream: Stream, entry: requests.Entry, nth: int) -> int | None:
    """The hash key that the producer asked for, if any; or a refusal of the record."""
    if not 1 <= len(entry.partition_key) <= _KEY_CHARACTERS_MAX:
        raise invalid_value(
            f"Value '{entry.partition_key}' at 'records.{nth}.member.partitionKey' failed to satisfy constraint: "
            f"Member must have length between 1 and {_KEY_CHARACTERS_MAX}"
        )
    if len(entry.data) > stream.record_kib_max * 1024:
        raise invalid_value(
            f"Value at 'records.{nth}.member.data' failed to satisfy constraint: "
            f"Member must have length less than or equal to {stream.record_kib_max * 1024}"
        )
    if entry.explicit_hash_key is None:
        return None
    return _hash_key(entry.explicit_hash_key)


def split_shard(region: str, request: requests.SplitShard) -> None:
    stream = _stream(region, request)
    shard = _shard(stream, request.shard_to_split)
    stream.shards.split(shard, _hash_key(request.new_starting_hash_key), time.time())


def merge_shards(region: str, request: requests.MergeShards) -> None:
    stream = _stream(region, request)
    shard = _shard(stream, request.shard_to_merge)
    stream.shards.merge(shard, _shard(stream, request.adjacent_shard_to_merge), time.time())


def update_shard_count(region: str, request: requests.UpdateShardCount) -> dict[str, Any]:
    stream = _stream(region, request)
    if request.target_shard_count < 1:
        raise invalid_value("Value at 'targetShardCount' failed to satisfy constraint: Member must be at least 1")
    before = len(stream.shards.open())
    stream.shards.resize(request.target_shard_count, time.time())
    return {
        "StreamName": stream.told.stream_name,
        "StreamARN": stream.told.arn,
        "CurrentShardCount": before,
        "TargetShardCount": request.target_shard_count,
    }


def _stream(region: str, request: requests.Request) -> Stream:
    return streams.find(region, request.stream_name, request.stream_a_r_n)


def _shard(stream: Stream, shard_id: str) -> Shard:
    shard = stream.shards.get(shard_id)
    if shard is None:
        raise not_found(
            f"Shard {shard_id} in stream {stream.told.stream_name} under account {stream.told.account_id} "
            f"does not exist"
        )
    return shard


def _hash_key(text: str) -> int:
    if not text.isdecimal() or int(text) >= HASH_KEYS:
        raise invalid_argument(f"Hash key {text} is not an integer from 0 to {HASH_KEYS - 1}.")
    return int(text)


Operation = Callable[[str, Any], Any]

OPERATIONS: dict[str, tuple[type[requests.Request], Operation]] = {
    "CreateStream": (requests.CreateStream, create_stream),
    "UpdateMaxRecordSize": (requests.UpdateMaxRecordSize, update_max_record_size),
    "ListStreams": (requests.ListStreams, list_streams),
    "DescribeStream": (requests.DescribeStream, describe_stream),
    "DescribeStreamSummary": (requests.Request, describe_stream_summary),
    "ListShards": (requests.ListShards, list_shards),
    "GetShardIterator": (requests.GetShardIterator, get_shard_iterator),
    "GetRecords": (requests.GetRecords, get_records),
    "PutRecord": (requests.PutRecord, put_record),
    "PutRecords": (requests.PutRecords, put_records),
    "SplitShard": (requests.SplitShard, split_shard),
    "MergeShards": (requests.MergeShards, merge_shards),
    "UpdateShardCount": (requests.UpdateShardCount, update_shard_count),
}
