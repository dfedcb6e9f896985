"""The clients people use work against the embedded AWS, unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_localstack_client_reaches_every_service(
    aws: Any, stream: Callable[..., str], bucket: Callable[[], str], table: Callable[..., str]
) -> None:
    kinesis, s3, dynamodb = aws.client("kinesis"), aws.client("s3"), aws.client("dynamodb")
    put = kinesis.put_record(StreamName=stream(), Data=b"x", PartitionKey="k")
    assert put["ShardId"] == "shardId-000000000000"

    name, key = bucket(), "stream=a/date=2026-01-01/ü d.json"
    s3.put_object(Bucket=name, Key=key, Body=b"x" * 3_000_000)
    assert s3.get_object(Bucket=name, Key=key)["Body"].read() == b"x" * 3_000_000
    assert s3.head_object(Bucket=name, Key=key)["ContentLength"] == 3_000_000
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=name)["Contents"]] == [key]

    rows = table()
    dynamodb.put_item(TableName=rows, Item={"key": {"S": "a"}})
    assert dynamodb.scan(TableName=rows)["Items"] == [{"key": {"S": "a"}}]

    aws.client("cloudwatch").put_metric_data(Namespace="n", MetricData=[{"MetricName": "m", "Value": 1}])
    assert aws.client("sts").get_caller_identity()["Account"] == "123456789012"
