"""KCL's tables in DynamoDB, as far as we look at them: KCL alone writes them.

    APPLICATION                    a lease a shard
    APPLICATION-CoordinatorState   the leader's lock (KCL 3.0 to 3.4; from 3.5 on it lies among the leases)
    APPLICATION-WorkerMetricStats  how busy its workers are

A user's properties may name each of them otherwise.

The one thing that is deleted here is the leader's lock of a daemon that we have seen dead, which would
hold up a fleet for two minutes (the lock's lease; no property of KCL shortens it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import botocore.exceptions

from streamheal.config import aws
from streamheal.errors import UsageError
from streamheal.records import Position

LEADER = "Leader"
_LEASE_KEY = "leaseKey"
_COORDINATOR_KEY = "key"
_READ_WITHIN_S = 5.0


class Lease(NamedTuple):
    shard_id: str
    owner: str | None
    ended: bool
    counter: int  # moves with every renewal by its owner
    checkpoint: str  # a sequence number, or a word of KCL's such as TRIM_HORIZON
    sub_sequence: int


class Tables:
    """Blocking; raises botocore's errors.

    Args:
        handed_on: The user's properties for KCL, some of which name tables.
    """

    def __init__(self, application: str, options: aws.AwsOptions, handed_on: Mapping[str, str] | None = None) -> None:
        theirs = handed_on or {}
        self._leases = theirs.get("tableName", application)
        self._coordinator = theirs.get("coordinatorStateTableName", f"{application}-CoordinatorState")
        self._metrics = theirs.get("workerMetricsTableName", f"{application}-WorkerMetricStats")
        self._client = aws.client("dynamodb", options, read_timeout_s=_READ_WITHIN_S)

    @property
    def endpoint(self) -> str:
        found: str = self._client.meta.endpoint_url
        return found

    @property
    def region(self) -> str:
        found: str = self._client.meta.region_name
        return found

    def check(self) -> None:
        """
        Raises:
            UsageError: A table of KCL's name is somebody else's.
        """
        expected = ((self._leases, _LEASE_KEY), (self._coordinator, _COORDINATOR_KEY), (self._metrics, "wid"))
        for table, key in expected:
            schema = self._schema(table)
            if schema is not None and schema != [(key, "HASH")]:
                has = ", ".join(f"{name} ({kind})" for name, kind in schema)
                raise UsageError(
                    f"DynamoDB table {table} is not one of KCL's: its key is {has}. Expected {key} (HASH), or no "
                    f"such table: it is then made. Give another --application, or another name in --kcl-properties"
                )

    def _schema(self, table: str) -> list[tuple[str, str]] | None:
        try:
            found = self._client.describe_table(TableName=table)["Table"]
        except self._client.exceptions.ResourceNotFoundException:
            return None
        return [(one["AttributeName"], one["KeyType"]) for one in found["KeySchema"]]

    def release_leader(self, worker_id: str) -> bool:
        """Whether that worker was the leader, and is not any more. Only for one that is known to be dead."""
        return any(
            self._delete(table, key, worker_id)
            for table, key in ((self._coordinator, _COORDINATOR_KEY), (self._leases, _LEASE_KEY))
        )

    def _delete(self, table: str, key: str, worker_id: str) -> bool:
        try:
            self._client.delete_item(
                TableName=table,
                Key={key: {"S": LEADER}},
                ConditionExpression="ownerName = :worker",
                ExpressionAttributeValues={":worker": {"S": worker_id}},
            )
        except (
            self._client.exceptions.ConditionalCheckFailedException,
            self._client.exceptions.ResourceNotFoundException,
        ):
            return False
        return True

    def leases(self) -> Iterator[Lease]:
        pages = self._client.get_paginator("scan").paginate(TableName=self._leases, ConsistentRead=True)
        for page in pages:
            yield from (_lease(item) for item in page["Items"] if _is_lease(item))

    def checkpoints(self) -> dict[str, tuple[Position | None, bool]]:
        """By shard: the position, and whether it is complete.

        Raises:
            UsageError: There is no such table, or it may not be read.
        """
        try:
            found = list(self.leases())
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            raise UsageError(str(aws.explain(error, f"read the leases in DynamoDB table {self._leases}"))) from error
        return {lease.shard_id: (_position(lease), lease.ended) for lease in found}

    def close(self) -> None:
        self._client.close()


def _position(lease: Lease) -> Position | None:
    return Position(int(lease.checkpoint), lease.sub_sequence) if lease.checkpoint.isdecimal() else None


def _is_lease(item: dict[str, Any]) -> bool:
    # From KCL 3.5 on, other things lie in the same table.
    return item.get("entityType", {"S": "LEASE"})["S"] == "LEASE" and "checkpoint" in item


def _lease(item: dict[str, Any]) -> Lease:
    owner = item.get("leaseOwner", {}).get("S")
    checkpoint = item["checkpoint"]["S"]
    return Lease(
        item[_LEASE_KEY]["S"],
        owner,
        checkpoint == "SHARD_END",
        int(item["leaseCounter"]["N"]),
        checkpoint,
        int(item.get("checkpointSubSequenceNumber", {"N": "0"})["N"]),
    )
