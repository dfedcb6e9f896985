"""KCL's tables, as they lie in DynamoDB (the embedded one): what is read there, and the one thing that is deleted."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streamheal.config.aws import AwsOptions
from streamheal.engines.kcl.tables import Lease, Tables
from streamheal.errors import UsageError
from streamheal.records import Position

US, THEM = "host-1", "host-2"
CHECKPOINT = "49600000000000000000000000000000000000000000000000000001"
Make = Callable[..., str]


@pytest.fixture
def application() -> str:
    return f"app-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def tables(aws: Any, application: str) -> Iterator[Tables]:
    made = Tables(application, AwsOptions())
    yield made
    made.close()


@pytest.fixture
def make(aws: Any) -> Make:
    """Makes a table of this name and key, with these items of strings, numbers and sets."""

    def make(name: str, key: str, *items: dict[str, Any], sort: str | None = None, kind: str = "S") -> str:
        keys = [(key, "HASH")] + ([(sort, "RANGE")] if sort else [])
        dynamodb = aws.client("dynamodb")
        dynamodb.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": one, "KeyType": role} for one, role in keys],
            AttributeDefinitions=[{"AttributeName": one, "AttributeType": kind} for one, _ in keys],
        )
        for item in items:
            dynamodb.put_item(TableName=name, Item={one: _typed(value) for one, value in item.items()})
        return name

    return make


def _typed(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"SS": value}
    return {"N": str(value)} if isinstance(value, int) else {"S": value}


def lease(shard: int, **more: Any) -> dict[str, Any]:
    usual = {
        "leaseKey": f"shardId-{shard:012d}",
        "leaseCounter": 3,
        "checkpoint": CHECKPOINT,
        "checkpointSubSequenceNumber": 0,
        "ownerSwitchesSinceCheckpoint": 0,
        "startingHashKey": "0",
        "endingHashKey": "1",
    }
    return {**usual, **more}


def leader(key: str, owner: str) -> dict[str, Any]:
    return {key: "Leader", "ownerName": owner, "leaseDuration": "120000", "recordVersionNumber": "a-b-c"}


def keys(aws: Any, table: str, key: str) -> set[str]:
    return {item[key]["S"] for item in aws.client("dynamodb").scan(TableName=table)["Items"]}


def test_no_tables_will_do_and_so_will_kcl_s_own(tables: Tables, make: Make, application: str) -> None:
    """KCL makes them at its first start."""
    tables.check()
    make(application, "leaseKey")
    tables.check()
    make(f"{application}-CoordinatorState", "key")
    make(f"{application}-WorkerMetricStats", "wid")
    tables.check()


@pytest.mark.parametrize(
    ("suffix", "keys", "says"),
    [
        ("", ["id"], r"id \(HASH\)\. Expected leaseKey"),
        ("", ["leaseKey", "at"], r"leaseKey \(HASH\), at \(RANGE\)\. Expected leaseKey"),
        ("-CoordinatorState", ["leaseKey"], r"leaseKey \(HASH\)\. Expected key"),
        ("-WorkerMetricStats", ["key"], r"key \(HASH\)\. Expected wid"),
    ],
)
def test_somebody_else_s_table_is_refused(
    tables: Tables, make: Make, application: str, *, suffix: str, keys: list[str], says: str
) -> None:
    make(application + suffix, *keys[:1], sort=next(iter(keys[1:]), None))
    with pytest.raises(UsageError, match=rf"{application}{suffix} is not one of KCL's: its key is {says} \(HASH\)"):
        tables.check()


@pytest.fixture(params=["3.1", "3.5"])
def layout(request: pytest.FixtureRequest, application: str, make: Make) -> tuple[str, str]:
    """Where the leader's lock lies: a table of its own, or among the leases. The table and its key."""
    if request.param == "3.1":
        make(application, "leaseKey", lease(0, leaseOwner=US))
        return make(f"{application}-CoordinatorState", "key", {"key": "Migration3.0", "cv": "X"}), "key"
    make(application, "leaseKey", lease(0, leaseOwner=US, entityType="LEASE"))
    return application, "leaseKey"


def test_the_lock_of_a_dead_leader_is_released_and_nothing_else(
    aws: Any, tables: Tables, layout: tuple[str, str]
) -> None:
    table, key = layout
    others = keys(aws, table, key)
    aws.client("dynamodb").put_item(
        TableName=table, Item={one: _typed(value) for one, value in leader(key, US).items()}
    )
    assert tables.release_leader(US)
    assert keys(aws, table, key) == others
    assert not tables.release_leader(US)


def test_another_worker_s_lock_is_left_alone(aws: Any, tables: Tables, layout: tuple[str, str]) -> None:
    table, key = layout
    aws.client("dynamodb").put_item(
        TableName=table, Item={one: _typed(value) for one, value in leader(key, THEM).items()}
    )
    assert not tables.release_leader(US)
    assert "Leader" in keys(aws, table, key)


def test_where_nobody_leads_nothing_is_released(tables: Tables, layout: tuple[str, str]) -> None:
    assert not tables.release_leader(US)


def test_without_any_table_nothing_is_released(tables: Tables) -> None:
    assert not tables.release_leader(US)


def test_tables_that_the_user_s_properties_name_are_looked_at(aws: Any, make: Make, application: str) -> None:
    """The names of KCL's own setters (KCL 3.1.3, MultiLangDaemonConfiguration)."""
    make(application, "id")  # somebody else's, and not looked at
    named = {
        "tableName": make(f"{application}-a", "leaseKey", lease(0)),
        "coordinatorStateTableName": make(f"{application}-b", "key", leader("key", US)),
        "workerMetricsTableName": make(f"{application}-c", "wid"),
    }
    tables = Tables(application, AwsOptions(), named)
    try:
        tables.check()
        assert len(list(tables.leases())) == 1
        assert tables.release_leader(US)
        assert keys(aws, named["coordinatorStateTableName"], "key") == set()
    finally:
        tables.close()
    for key in named:
        wrong = Tables(application, AwsOptions(), {**named, key: application})
        with pytest.raises(UsageError, match=f"{application} is not one of KCL's"):
            wrong.check()
        wrong.close()


def test_leases_are_read_and_what_else_lies_there_is_not(tables: Tables, make: Make, application: str) -> None:
    """From KCL 3.5 on one table holds it all; a lease of an older one says of itself no kind at all."""
    make(
        application,
        "leaseKey",
        lease(0, leaseOwner=US),
        lease(1, leaseOwner=THEM, entityType="LEASE", parentShardId=["shardId-000000000000"]),
        lease(2, entityType="LEASE", checkpoint="SHARD_END"),
        lease(3, checkpoint="TRIM_HORIZON"),
        {**leader("leaseKey", US), "entityType": "LEADER"},
        leader("leaseKey", US) | {"leaseKey": "an older Leader"},
        {"leaseKey": US, "entityType": "WORKER_METRIC_STATS", "lut": 1700000000},
        {"leaseKey": "Migration3.0", "entityType": "CLIENT_VERSION_MIGRATION", "cv": "CLIENT_VERSION_3X"},
        {"leaseKey": "stream", "entityType": "STREAM", "checkpoint": "x"},
    )
    assert sorted(tables.leases()) == [
        Lease("shardId-000000000000", US, False, 3, CHECKPOINT, 0),
        Lease("shardId-000000000001", THEM, False, 3, CHECKPOINT, 0),
        Lease("shardId-000000000002", None, True, 3, "SHARD_END", 0),
        Lease("shardId-000000000003", None, False, 3, "TRIM_HORIZON", 0),
    ]


def test_checkpoints_are_positions_and_a_word_of_kcls_is_none(tables: Tables, make: Make, application: str) -> None:
    make(
        application,
        "leaseKey",
        lease(0, checkpointSubSequenceNumber=7),
        lease(1, checkpoint="TRIM_HORIZON"),
        lease(2, checkpoint="SHARD_END"),
    )
    assert tables.checkpoints() == {
        "shardId-000000000000": (Position(int(CHECKPOINT), 7), False),
        "shardId-000000000001": (None, False),
        "shardId-000000000002": (None, True),
    }


def test_every_page_of_a_large_table_is_read(tables: Tables, make: Make, application: str) -> None:
    make(application, "leaseKey", *(lease(shard, padding="x" * 300_000) for shard in range(5)))
    assert len(list(tables.leases())) == 5


def test_where_aws_answers_is_told(aws: Any, tables: Tables) -> None:
    assert (tables.endpoint, tables.region) == (aws.url, "us-east-1")
