"""Shards live and end as in AWS, and refusals have AWS' names."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from botocore.exceptions import ClientError

from streamheal.local.iterators import Iterator

FIRST, SECOND, THIRD = (f"shardId-{number:012d}" for number in range(3))
HALF = str(2**127)


@pytest.fixture
def kinesis(aws: Any) -> Any:
    return aws.client("kinesis")


def read(kinesis: Any, stream: str, shard_id: str, kind: str = "TRIM_HORIZON", **where: Any) -> dict[str, Any]:
    iterator = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard_id, ShardIteratorType=kind, **where)
    answer: dict[str, Any] = kinesis.get_records(ShardIterator=iterator["ShardIterator"])
    return answer


def data(answer: dict[str, Any]) -> list[bytes]:
    return [record["Data"] for record in answer["Records"]]


def put(kinesis: Any, stream: str, *payloads: bytes, hash_key: str = "0") -> list[dict[str, Any]]:
    records = [{"Data": one, "PartitionKey": "k", "ExplicitHashKey": hash_key} for one in payloads]
    answers: list[dict[str, Any]] = kinesis.put_records(StreamName=stream, Records=records)["Records"]
    return answers


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    response = raised.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_sequence_numbers_have_56_digits_and_increase(kinesis: Any, stream: Callable[..., str]) -> None:
    name = stream()
    numbers = [answer["SequenceNumber"] for _ in range(3) for answer in put(kinesis, name, b"a", b"b", b"c")]
    assert {len(number) for number in numbers} == {56}
    assert sorted(numbers, key=int) == numbers
    assert len(set(numbers)) == 9


def test_a_split_ends_the_parent_and_puts_go_to_the_children(kinesis: Any, stream: Callable[..., str]) -> None:
    name = stream()
    put(kinesis, name, b"before")
    waiting = kinesis.get_shard_iterator(StreamName=name, ShardId=FIRST, ShardIteratorType="LATEST")
    kinesis.split_shard(StreamName=name, ShardToSplit=FIRST, NewStartingHashKey=HALF)
    assert [one["ShardId"] for one in put(kinesis, name, b"low", hash_key="1")] == [SECOND]
    assert [one["ShardId"] for one in put(kinesis, name, b"high", hash_key=HALF)] == [THIRD]

    parent = read(kinesis, name, FIRST)
    assert data(parent) == [b"before"]
    assert "NextShardIterator" not in parent
    assert [(child["ShardId"], child["ParentShards"]) for child in parent["ChildShards"]] == [
        (SECOND, [FIRST]),
        (THIRD, [FIRST]),
    ]
    assert parent["ChildShards"][1]["HashKeyRange"] == {"StartingHashKey": HALF, "EndingHashKey": str(2**128 - 1)}
    assert "NextShardIterator" not in kinesis.get_records(ShardIterator=waiting["ShardIterator"])
    assert data(read(kinesis, name, SECOND)) == [b"low"]
    assert data(read(kinesis, name, THIRD)) == [b"high"]

    first, second, third = kinesis.list_shards(StreamName=name)["Shards"]
    ended = int(first["SequenceNumberRange"]["EndingSequenceNumber"])
    assert int(parent["Records"][0]["SequenceNumber"]) < ended
    for child in (second, third):
        assert child["ParentShardId"] == FIRST
        assert int(child["SequenceNumberRange"]["StartingSequenceNumber"]) > ended
        assert "EndingSequenceNumber" not in child["SequenceNumberRange"]


def test_a_merge_has_two_parents_and_one_child(kinesis: Any, stream: Callable[..., str]) -> None:
    name = stream(2)
    put(kinesis, name, b"low")
    put(kinesis, name, b"high", hash_key=HALF)
    kinesis.merge_shards(StreamName=name, ShardToMerge=SECOND, AdjacentShardToMerge=FIRST)
    put(kinesis, name, b"after")
    for parent, payload in ((FIRST, b"low"), (SECOND, b"high")):
        answer = read(kinesis, name, parent)
        assert data(answer) == [payload]
        assert answer["ChildShards"][0]["ParentShards"] == [SECOND, FIRST]
    assert data(read(kinesis, name, THIRD)) == [b"after"]
    merged = kinesis.list_shards(StreamName=name)["Shards"][2]
    assert (merged["ParentShardId"], merged["AdjacentParentShardId"]) == (SECOND, FIRST)
    summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    assert (summary["OpenShardCount"], summary["RetentionPeriodHours"]) == (1, 24)


def test_the_number_of_shards_can_be_set(kinesis: Any, stream: Callable[..., str]) -> None:
    name = stream(2)
    for target in (5, 3):
        kinesis.update_shard_count(StreamName=name, TargetShardCount=target, ScalingType="UNIFORM_SCALING")
        shards = kinesis.list_shards(StreamName=name, ShardFilter={"Type": "AT_LATEST"})["Shards"]
        ranges = sorted(
            (int(one["HashKeyRange"]["StartingHashKey"]), int(one["HashKeyRange"]["EndingHashKey"])) for one in shards
        )
        assert len(ranges) == target
        assert ranges[0][0] == 0
        assert ranges[-1][1] == 2**128 - 1
        assert all(high + 1 == low for (_, high), (low, _) in pairwise(ranges))


def test_shards_are_listed_in_pages_and_filtered(kinesis: Any, stream: Callable[..., str]) -> None:
    name = stream(3)
    before = time.time()
    kinesis.split_shard(StreamName=name, ShardToSplit=FIRST, NewStartingHashKey="1000")

    def listed(**arguments: Any) -> list[int]:
        numbers: list[int] = []
        page = kinesis.list_shards(StreamName=name, MaxResults=2, **arguments)
        while True:
            numbers += [int(shard["ShardId"][-3:]) for shard in page["Shards"]]
            if "NextToken" not in page:
                return numbers
            page = kinesis.list_shards(NextToken=page["NextToken"], MaxResults=2)

    assert listed() == [0, 1, 2, 3, 4]
    assert listed(ExclusiveStartShardId=SECOND) == [2, 3, 4]
    assert listed(ShardFilter={"Type": "AT_TRIM_HORIZON"}) == [0, 1, 2]
    assert listed(ShardFilter={"Type": "AT_LATEST"}) == [1, 2, 3, 4]
    assert listed(ShardFilter={"Type": "FROM_TIMESTAMP", "Timestamp": before + 60}) == [1, 2, 3, 4]
    description = kinesis.describe_stream(StreamName=name, Limit=2)["StreamDescription"]
    assert [shard["ShardId"] for shard in description["Shards"]] == [FIRST, SECOND]
    assert description["HasMoreShards"]


def test_reading_begins_where_the_iterator_says(kinesis: Any, stream: Callable[..., str]) -> None:
    name = stream()
    numbers = [one["SequenceNumber"] for one in put(kinesis, name, b"0", b"1", b"2")]
    latest = kinesis.get_shard_iterator(StreamName=name, ShardId=FIRST, ShardIteratorType="LATEST")
    assert data(read(kinesis, name, FIRST, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[1])) == [b"1", b"2"]
    assert data(read(kinesis, name, FIRST, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[1])) == [b"2"]
    assert data(read(kinesis, name, FIRST, "AT_TIMESTAMP", Timestamp=time.time() - 60)) == [b"0", b"1", b"2"]
    put(kinesis, name, b"3")
    answer = kinesis.get_records(ShardIterator=latest["ShardIterator"])
    assert data(answer) == [b"3"]
    assert data(kinesis.get_records(ShardIterator=answer["NextShardIterator"])) == []


def test_the_distance_to_the_tip_is_told(kinesis: Any, stream: Callable[..., str]) -> None:
    name = stream()
    put(kinesis, name, b"0", b"1")
    iterator = kinesis.get_shard_iterator(StreamName=name, ShardId=FIRST, ShardIteratorType="TRIM_HORIZON")
    first = kinesis.get_records(ShardIterator=iterator["ShardIterator"], Limit=1)
    assert first["MillisBehindLatest"] > 0
    assert kinesis.get_records(ShardIterator=first["NextShardIterator"])["MillisBehindLatest"] == 0


def test_an_answer_holds_at_most_10_mib(kinesis: Any, stream: Callable[..., str]) -> None:
    """A record of 10 MiB comes alone, the small ones around it with others."""
    name = stream(MaxRecordSizeInKiB=10_240)
    large = b"x" * (10 * 1024 * 1024)
    put(kinesis, name, b"0")
    put(kinesis, name, large)
    put(kinesis, name, b"2")
    sizes = []
    iterator = kinesis.get_shard_iterator(StreamName=name, ShardId=FIRST, ShardIteratorType="TRIM_HORIZON")
    answer = kinesis.get_records(ShardIterator=iterator["ShardIterator"])
    while answer["Records"]:
        sizes.append([len(record["Data"]) for record in answer["Records"]])
        answer = kinesis.get_records(ShardIterator=answer["NextShardIterator"])
    assert sizes == [[1], [len(large)], [1]]


def test_the_size_of_records_is_the_streams_own(kinesis: Any, stream: Callable[..., str]) -> None:
    name = stream()
    summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    assert summary["MaxRecordSizeInKiB"] == 1024
    large = {"StreamName": name, "Data": b"x" * (1024 * 1024 + 1), "PartitionKey": "k"}
    assert refused(kinesis.put_record, **large) == ("ValidationException", 400)
    kinesis.update_max_record_size(StreamARN=summary["StreamARN"], MaxRecordSizeInKiB=2048)
    kinesis.put_record(**large)


def test_what_is_refused_has_the_name_it_has_in_aws(kinesis: Any, stream: Callable[..., str]) -> None:
    name = stream(2)
    expired = Iterator(name, FIRST, 0, time.time() - 301).sealed()
    of_no_shard = {"StreamName": name, "ShardId": "shardId-000000000009", "ShardIteratorType": "LATEST"}
    foreign = {"StreamName": name, "ShardId": FIRST, "ShardIteratorType": "AT_SEQUENCE_NUMBER"}
    entry = {"Data": b"", "PartitionKey": "k"}
    assert refused(kinesis.get_records, ShardIterator=expired) == ("ExpiredIteratorException", 400)
    assert refused(kinesis.get_records, ShardIterator="nonsense") == ("InvalidArgumentException", 400)
    assert refused(kinesis.get_shard_iterator, **foreign, StartingSequenceNumber="1") == (
        "InvalidArgumentException",
        400,
    )
    assert refused(kinesis.get_shard_iterator, **of_no_shard) == ("ResourceNotFoundException", 400)
    assert refused(kinesis.list_shards, StreamName="no-such") == ("ResourceNotFoundException", 400)
    assert refused(kinesis.create_stream, StreamName=name, ShardCount=1) == ("ResourceInUseException", 400)
    assert refused(kinesis.put_records, StreamName=name, Records=[entry] * 501) == ("ValidationException", 400)
    kinesis.split_shard(StreamName=name, ShardToSplit=FIRST, NewStartingHashKey="1000")
    again = {"StreamName": name, "ShardToSplit": FIRST, "NewStartingHashKey": "500"}
    assert refused(kinesis.split_shard, **again) == ("InvalidArgumentException", 400)
    apart = {"StreamName": name, "ShardToMerge": SECOND, "AdjacentShardToMerge": THIRD}
    assert refused(kinesis.merge_shards, **apart) == ("InvalidArgumentException", 400)


def test_what_is_motos_goes_on_working(kinesis: Any, stream: Callable[..., str]) -> None:
    name = stream()
    kinesis.add_tags_to_stream(StreamName=name, Tags={"team": "shop"})
    kinesis.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=48)
    summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    kinesis.register_stream_consumer(StreamARN=summary["StreamARN"], ConsumerName="one")
    summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    assert (summary["RetentionPeriodHours"], summary["ConsumerCount"]) == (48, 1)
    assert kinesis.list_tags_for_stream(StreamName=name)["Tags"] == [{"Key": "team", "Value": "shop"}]
    assert name in [one for page in kinesis.get_paginator("list_streams").paginate() for one in page["StreamNames"]]
    kinesis.delete_stream(StreamName=name)
    assert refused(kinesis.describe_stream_summary, StreamName=name) == ("ResourceNotFoundException", 400)
