"""A Kinesis stream read from end to end, as a store has to: for its envelopes, not as they come."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from streamheal.config import aws
from streamheal.errors import StoreError, StoreUnavailable, Unavailable

# What GetRecords gives at most is 10 MiB, of every shard at once while they are merged.
_RECORDS_A_CALL = 1000

# Five GetRecords a second and shard, for all who read it (Kinesis quotas): being asked to wait is common.
_READ_PATIENCE_S = 60.0


class Place(NamedTuple):
    """Where a record lies in the stream."""

    shard_id: str
    sequence_number: str

    def __str__(self) -> str:
        return f"{self.shard_id} {self.sequence_number}"


class Stream:
    """Threads may share it."""

    def __init__(self, name: str, options: aws.AwsOptions) -> None:
        self.name = name
        self._options = options
        self._client_made: Any = None
        self._making = threading.Lock()

    def client(self) -> Any:
        with self._making:
            if self._client_made is None:
                self._client_made = aws.client("kinesis", self._options, connections=16)
            return self._client_made

    def call(self, operation: str, what: str, *, patience_s: float | None = None, **arguments: Any) -> dict[str, Any]:
        """One call, throttling waited out for a while; other errors as `StoreUnavailable` or `StoreError`."""
        patience_s = _READ_PATIENCE_S if patience_s is None else patience_s
        give_up_at, wait_s = time.monotonic() + patience_s, 0.2
        while True:
            try:
                answer: dict[str, Any] = getattr(self.client(), operation)(**arguments)
                return answer
            except (BotoCoreError, ClientError) as error:
                if not aws.is_throttling(error) or time.monotonic() >= give_up_at:
                    explained = aws.explain(error, f"{what} stream {self.name}")
                    kind = StoreUnavailable if isinstance(explained, Unavailable) else StoreError
                    raise kind(str(explained)) from error
            time.sleep(wait_s)
            wait_s = min(2.0, wait_s * 2)

    def shard_ids(self) -> list[str]:
        found: list[str] = []
        arguments: dict[str, Any] = {"StreamName": self.name}
        while True:
            page = self.call("list_shards", "list the shards of", **arguments)
            found += [shard["ShardId"] for shard in page["Shards"]]
            if "NextToken" not in page:
                return found
            arguments = {"NextToken": page["NextToken"]}

    def merged(self, order: Callable[[bytes], str | None], after: dict[str, str]) -> Iterator[tuple[Place, bytes]]:
        """What all shards hold, by what `order` says of each; within a shard as it lies there.

        Args:
            order: Sorts as text; None: leave it out.
            after: By shard, the sequence number to begin behind; from the beginning where there is none.
        """
        shards = [self._ordered(shard_id, order, after.get(shard_id)) for shard_id in self.shard_ids()]
        for _, place, data in heapq.merge(*shards, key=lambda one: one[0]):
            yield place, data

    def _ordered(
        self, shard_id: str, order: Callable[[bytes], str | None], after: str | None
    ) -> Iterator[tuple[str, Place, bytes]]:
        for sequence_number, data in self.records(shard_id, after):
            at = order(data)
            if at is not None:
                yield at, Place(shard_id, sequence_number), data

    def records(self, shard_id: str, after: str | None) -> Iterator[tuple[str, bytes]]:
        """Everything in a shard up to its tip, or its end."""
        iterator: str | None = self._iterator(shard_id, "AFTER_SEQUENCE_NUMBER" if after else "TRIM_HORIZON", after)
        while iterator is not None:
            try:
                page = self.call("get_records", "read", ShardIterator=iterator, Limit=_RECORDS_A_CALL)
            except StoreError as error:
                # An iterator is good for five minutes, and whoever reads us may take longer.
                if (
                    not isinstance(error.__cause__, ClientError)
                    or aws.code(error.__cause__) != "ExpiredIteratorException"
                ):
                    raise
                iterator = self._iterator(shard_id, "AFTER_SEQUENCE_NUMBER" if after else "TRIM_HORIZON", after)
                continue
            for record in page["Records"]:
                after = record["SequenceNumber"]
                yield record["SequenceNumber"], record["Data"]
            iterator = page.get("NextShardIterator")
            if not page["Records"] and page.get("MillisBehindLatest", 0) == 0:
                return

    def from_place(self, place: Place) -> list[tuple[Place, bytes]]:
        """The record at a place and some that follow; empty where the stream has forgotten it."""
        iterator = self._iterator(place.shard_id, "AT_SEQUENCE_NUMBER", place.sequence_number)
        while iterator is not None:
            page = self.call("get_records", "read", ShardIterator=iterator, Limit=_RECORDS_A_CALL)
            if page["Records"] or page.get("MillisBehindLatest", 0) == 0:
                return [(Place(place.shard_id, one["SequenceNumber"]), one["Data"]) for one in page["Records"]]
            iterator = page.get("NextShardIterator")
        return []

    def _iterator(self, shard_id: str, kind: str, sequence_number: str | None) -> str | None:
        arguments: dict[str, Any] = {"StreamName": self.name, "ShardId": shard_id, "ShardIteratorType": kind}
        if sequence_number is not None:
            arguments["StartingSequenceNumber"] = sequence_number
        answer = self.call("get_shard_iterator", "read", **arguments)
        iterator: str | None = answer.get("ShardIterator")
        return iterator
