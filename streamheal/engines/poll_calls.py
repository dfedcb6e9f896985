"""The calls to Kinesis that the poll engine makes, and what they answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import msgspec

from streamheal.config import aws
from streamheal.engines.poll_shards import Listed

# Threads and connections are made as they are needed; this is for the fullest of hosts.
CALLS_AT_ONCE = 128

_SEQUENCE = b'"SequenceNumber"'
_NUMBER = re.compile(rb'"SequenceNumber"\s*:\s*"(\d+)"')


class _Child(msgspec.Struct, rename="pascal"):
    shard_id: str


class _Rest(msgspec.Struct, rename="pascal"):
    """What GetRecords answers beside the records, over which msgspec skips."""

    next_shard_iterator: str | None = None
    millis_behind_latest: int = 0
    child_shards: list[_Child] = []


_read_rest = msgspec.json.Decoder(_Rest).decode


class Fetched(NamedTuple):
    """One answer of GetRecords, its records not decoded.

    Attributes:
        next_iterator: None: this was the last of the shard, and `children` follow it.
        first, last: The sequence numbers of the first and last record; None where none came.
        by: The iterator that it was asked with.
    """

    body: bytes
    next_iterator: str | None
    behind_s: float
    children: list[str]
    first: int | None
    last: int | None
    by: str

    @property
    def payload_bytes(self) -> int:
        """About what Kinesis counts: base64 writes three bytes as four."""
        return 0 if self.last is None else len(self.body) * 3 // 4

    def records(self) -> int:
        return self.body.count(_SEQUENCE)


class Calls:
    """Blocking; threads share it."""

    def __init__(self, stream: str, options: aws.AwsOptions) -> None:
        self.stream = stream
        self._named = {"StreamARN": stream} if stream.startswith("arn:") else {"StreamName": stream}
        # The engine waits out faults itself: botocore tries once more at most, or its own waits
        # would delay what the log says and how soon a stopped host ends.
        self._client = aws.client("kinesis", options, connections=CALLS_AT_ONCE, attempts=2)
        self._client.meta.events.register("before-parse.kinesis.GetRecords", _keep_body)

    @property
    def region(self) -> str:
        return str(self._client.meta.region_name)

    @property
    def endpoint(self) -> str:
        return str(self._client.meta.endpoint_url)

    def summary(self) -> dict[str, Any]:
        answer = self._client.describe_stream_summary(**self._named)
        summary: dict[str, Any] = answer["StreamDescriptionSummary"]
        return summary

    def shards(self) -> tuple[list[Listed], datetime]:
        """All shards, and what time it was by Kinesis' clock, in seconds."""
        answer = self._client.list_shards(**self._named)
        told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        listed = [_listed(shard) for shard in answer["Shards"]]
        while token := answer.get("NextToken"):
            answer = self._client.list_shards(NextToken=token)
            listed += [_listed(shard) for shard in answer["Shards"]]
        return listed, parsedate_to_datetime(told) if told else datetime.now().astimezone()

    def stream_names(self) -> Iterator[str]:
        for page in self._client.get_paginator("list_streams").paginate():
            yield from page["StreamNames"]

    def iterator(self, shard_id: str, kind: str, **where: Any) -> str:
        answer = self._client.get_shard_iterator(**self._named, ShardId=shard_id, ShardIteratorType=kind, **where)
        return str(answer["ShardIterator"])

    def records(self, iterator: str, limit: int) -> Fetched:
        body: bytes = self._client.get_records(ShardIterator=iterator, Limit=limit)["RawBody"]
        rest = _read_rest(body)
        return Fetched(
            body,
            rest.next_shard_iterator,
            rest.millis_behind_latest / 1000,
            [child.shard_id for child in rest.child_shards],
            *_ends(body),
            by=iterator,
        )

    def close(self) -> None:
        self._client.close()


def _keep_body(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Take the body as it came, and leave nothing to parse.

    botocore makes 69,000 records a second of what msgspec, in the worker, decodes at 3 million
    (200 bytes each, measured).
    """
    if response_dict["status_code"] == 200:
        customized_response_dict["RawBody"] = response_dict["body"]
        response_dict["body"] = b"{}"


def _ends(body: bytes) -> tuple[int | None, int | None]:
    """The first and last sequence number. The name in quotes stands nowhere else: data is
    base64, and within a partition key the quotes would be escaped."""
    first = body.find(_SEQUENCE)
    if first < 0:
        return None, None
    return _number(body, first), _number(body, body.rfind(_SEQUENCE))


def _number(body: bytes, at: int) -> int:
    found = _NUMBER.match(body, at)
    assert found is not None, "a sequence number that is not one"
    return int(found[1])


def _listed(shard: dict[str, Any]) -> Listed:
    parents = (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
    numbers = shard["SequenceNumberRange"]
    return Listed(
        shard["ShardId"],
        tuple(parent for parent in parents if parent),
        "EndingSequenceNumber" not in numbers,
        int(numbers["StartingSequenceNumber"]),
    )
