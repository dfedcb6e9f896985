"""What the Java SDK needs: CBOR, and HTTP/2 by prior knowledge on the port that speaks HTTP/1.1 as well."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import cbor2
import h2.config
import h2.connection
import h2.events

CBOR = "application/x-amz-cbor-1.1"


def headers(operation: str, content_type: str = CBOR) -> dict[str, str]:
    return {
        "X-Amz-Target": f"Kinesis_20131202.{operation}",
        "Content-Type": content_type,
        "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kinesis/aws4_request, Signature=x",
    }


def ask(aws: Any, operation: str, **request: Any) -> tuple[int, Any]:
    """One call in CBOR: status and answer."""
    asked = urllib.request.Request(aws.url, cbor2.dumps(request), headers(operation))
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            assert answer.headers["Content-Type"] == CBOR
            body = answer.read()
            return answer.status, cbor2.loads(body) if body else None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, cbor2.loads(error.read())


def test_records_go_in_and_out_in_cbor(aws: Any, stream: Callable[..., str]) -> None:
    """Times are whole milliseconds there, and data is bytes."""
    name = stream()
    before = time.time() * 1000 - 1
    status, put = ask(aws, "PutRecords", StreamName=name, Records=[{"Data": b"\x00\xff", "PartitionKey": "k"}])
    assert (status, put["FailedRecordCount"]) == (200, 0)
    place = {"StreamName": name, "ShardId": "shardId-000000000000", "ShardIteratorType": "AT_TIMESTAMP"}
    _, found = ask(aws, "GetShardIterator", **place, Timestamp=cbor2.CBORTag(1, int(before)))
    _, answer = ask(aws, "GetRecords", **found)
    [record] = answer["Records"]
    assert (record["Data"], record["PartitionKey"]) == (b"\x00\xff", "k")
    assert record["SequenceNumber"] == put["Records"][0]["SequenceNumber"]
    assert isinstance(record["ApproximateArrivalTimestamp"], int)
    assert before <= record["ApproximateArrivalTimestamp"] <= time.time() * 1000
    _, told = ask(aws, "DescribeStreamSummary", StreamName=name)
    assert isinstance(told["StreamDescriptionSummary"]["StreamCreationTimestamp"], int)


def test_refusals_and_what_is_motos_come_in_cbor_as_well(aws: Any, stream: Callable[..., str]) -> None:
    status, answer = ask(aws, "GetRecords", ShardIterator="nonsense")
    assert (status, answer["__type"]) == (400, "InvalidArgumentException")
    assert ask(aws, "AddTagsToStream", StreamName=stream(), Tags={"a": "b"})[0] == 200
    status, answer = ask(aws, "DeleteStream", StreamName="no-such")
    assert (status, answer["__type"]) == (400, "ResourceNotFoundException")
    status, answer = ask(aws, "ListShards", StreamName=7)
    assert (status, answer["__type"]) == (400, "SerializationException")


def test_http_2_is_spoken_by_prior_knowledge(aws: Any, stream: Callable[..., str]) -> None:
    name = stream()
    place = urlsplit(aws.url)
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    with socket.create_connection((place.hostname, place.port), timeout=10) as peer:
        connection.initiate_connection()
        asked = {":method": "POST", ":path": "/", ":scheme": "http", ":authority": place.netloc}
        asked.update({key.lower(): value for key, value in headers("ListShards").items()})
        connection.send_headers(1, list(asked.items()))
        connection.send_data(1, cbor2.dumps({"StreamName": name}), end_stream=True)
        peer.sendall(connection.data_to_send())
        status, body, ended = b"", b"", False
        while not ended:
            received = peer.recv(65536)
            assert received, "the connection ended"
            for event in connection.receive_data(received):
                if isinstance(event, h2.events.ResponseReceived):
                    status = dict(event.headers)[b":status"]
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                ended = ended or isinstance(event, h2.events.StreamEnded)
    assert status == b"200"
    assert cbor2.loads(body)["Shards"][0]["ShardId"] == "shardId-000000000000"
