"""The state of a fleet: one DynamoDB table, which any number of applications may share.

    row_kind (hash)           row_key (range)      row_value               row_version
    shop-orders#checkpoint    orders/shardId-…     {"sequence": "49638…"}  17
    shop-orders#owner         owner                {"owner": "host pid"}   beats: +1 every few seconds

Attributes are named so that none is one of DynamoDB's 573 reserved words (key, value, owner, …).
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from streamheal.config import aws
from streamheal.errors import AlreadyRunning, Conflict, StateError, StateUnavailable, Unavailable, UsageError
from streamheal.state.base import Row

_KEY_SCHEMA = [
    {"AttributeName": "row_kind", "KeyType": "HASH"},
    {"AttributeName": "row_key", "KeyType": "RANGE"},
]
_ATTRIBUTES = [{"AttributeName": one["AttributeName"], "AttributeType": "S"} for one in _KEY_SCHEMA]
_CREATED_WITHIN_S = 60.0
# Rows are small, and DynamoDB answers in milliseconds. A host that is told to stop waits for the call it is in.
_READ_WITHIN_S = 5.0


class _Lock(NamedTuple):
    owner: str
    token: str
    beats: int


class DynamoState:
    """Implements `State`.

    The owner beats: it counts its row's version up every few seconds. Whoever wants to own
    watches, by its own clock: a beat means that the owner lives, and `lease_s` without one that
    it does not. Clocks of two machines are never compared, so they need not agree.
    """

    def __init__(self, table: str, options: aws.AwsOptions, *, lease_s: float = 30.0, look_s: float = 1.0) -> None:
        self.url = f"dynamodb:{table}"
        self._table = table
        self._options = options
        self._lease_s = lease_s
        self._look_s = look_s
        self._client_made: Any = None
        self._making = threading.Lock()
        self._token = uuid.uuid4().hex
        self._owned: tuple[str, _Lock] | None = None  # application, our lock
        self._has_worked = False

    def _client(self) -> Any:
        with self._making:
            if self._client_made is None:
                self._client_made = aws.client("dynamodb", self._options, connections=16, read_timeout_s=_READ_WITHIN_S)
            return self._client_made

    # -- the table -------------------------------------------------------------------------

    def check(self) -> None:
        found = self._described()
        if found is None:
            self._create()
        elif sorted(map(str, found["KeySchema"])) != sorted(map(str, _KEY_SCHEMA)):
            has = ", ".join(f"{one['AttributeName']} ({one['KeyType']})" for one in found["KeySchema"])
            raise UsageError(
                f"DynamoDB table {self._table} is not one of streamheal's: its key is {has}. "
                f"Expected row_kind (HASH), row_key (RANGE), or no such table: it is then made"
            )
        self._wait_until_active()
        try:
            self._client().put_item(TableName=self._table, Item=_item("streamheal#check", "check", {}, 1))
            self._client().get_item(TableName=self._table, Key=_key("streamheal#check", "check"), ConsistentRead=True)
        except (BotoCoreError, ClientError) as error:
            raise self._at_check(error, "read and write") from error
        self._has_worked = True

    def _described(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._client().describe_table(TableName=self._table)["Table"]
            return found
        except (BotoCoreError, ClientError) as error:
            if aws.code(error) == "ResourceNotFoundException":
                return None
            raise self._at_check(error, "look at") from error

    def _create(self) -> None:
        try:
            self._client().create_table(
                TableName=self._table,
                KeySchema=_KEY_SCHEMA,
                AttributeDefinitions=_ATTRIBUTES,
                BillingMode="PAY_PER_REQUEST",
            )
        except (BotoCoreError, ClientError) as error:
            if aws.code(error) == "ResourceInUseException":
                return  # another host is making it at this moment
            explained = self._at_check(error, "make")
            if isinstance(explained, UsageError):
                raise UsageError(
                    f"there is no DynamoDB table {self._table}, and it cannot be made: {explained}. "
                    f"Allow dynamodb:CreateTable, or make it: {self._command()}"
                ) from error
            raise explained from error

    def _command(self) -> str:
        return (
            f"aws dynamodb create-table --table-name {self._table} --billing-mode PAY_PER_REQUEST "
            "--key-schema AttributeName=row_kind,KeyType=HASH AttributeName=row_key,KeyType=RANGE "
            "--attribute-definitions AttributeName=row_kind,AttributeType=S AttributeName=row_key,AttributeType=S"
        )

    def _wait_until_active(self) -> None:
        give_up_at = time.monotonic() + _CREATED_WITHIN_S
        while (found := self._described()) is None or found["TableStatus"] not in ("ACTIVE", "UPDATING"):
            status = "not there yet" if found is None else found["TableStatus"].lower()
            if time.monotonic() >= give_up_at or status == "deleting":
                raise UsageError(f"DynamoDB table {self._table} is {status}: expected it to become active")
            time.sleep(0.5)

    def _at_check(self, error: BotoCoreError | ClientError, what: str) -> UsageError | StateUnavailable:
        explained = aws.explain(error, f"{what} DynamoDB table {self._table}")
        return StateUnavailable(str(explained)) if isinstance(explained, Unavailable) else explained

    # -- one owner -------------------------------------------------------------------------

    def own(self, application: str, owner: str, *, at_once: bool = False) -> None:
        """As in `State`. Takes up to `lease_s` where the last owner was killed: its silence is waited for."""
        assert self._owned is None, f"{self._owned} is owned already"
        before = self._lock(application) if at_once else self._silent(application)
        self._become(application, _Lock(owner, self._token, 1), over=before)

    def _silent(self, application: str) -> _Lock | None:
        """The lock that may be written over: its owner was silent for `lease_s`; None: there is none."""
        seen = self._lock(application)
        give_up_at = time.monotonic() + self._lease_s
        # Our own token: we wrote it a moment ago, and did not hear the answer.
        while seen is not None and seen.token != self._token and time.monotonic() < give_up_at:
            time.sleep(self._look_s)
            now = self._lock(application)
            if now is not None and now != seen:
                raise self._already(application, now)
            seen = now
        return seen

    def _become(self, application: str, ours: _Lock, *, over: _Lock | None) -> None:
        """Write our lock, if the one that was seen is still there."""
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(row_kind)"}
        if over is not None:
            condition = {
                "ConditionExpression": "lock_token = :token AND row_version = :beats",
                "ExpressionAttributeValues": {":token": {"S": over.token}, ":beats": {"N": str(over.beats)}},
            }
        item = _item(_owner_kind(application), "owner", {"owner": ours.owner}, ours.beats)
        try:
            self._call("put_item", Item={**item, "lock_token": {"S": ours.token}}, **condition)
        except Conflict as error:
            now = self._lock(application)
            if now is not None and now.token == ours.token:
                self._owned = (application, now)  # an earlier try of this very call had arrived
                return
            raise self._already(application, now or ours) from error
        self._owned = (application, ours)

    def keep_owning(self) -> None:
        assert self._owned is not None, "nothing is owned"
        application, lock = self._owned
        self._become(application, lock._replace(beats=lock.beats + 1), over=lock)

    def disown(self) -> None:
        if self._owned is None:
            return
        (application, lock), self._owned = self._owned, None
        try:
            self._call(
                "delete_item",
                Key=_key(_owner_kind(application), "owner"),
                ConditionExpression="lock_token = :token",
                ExpressionAttributeValues={":token": {"S": lock.token}},
            )
        except (Conflict, StateUnavailable, StateError):
            pass  # another's by now, or it will fall silent by itself

    def _lock(self, application: str) -> _Lock | None:
        found = self._call("get_item", Key=_key(_owner_kind(application), "owner"), ConsistentRead=True).get("Item")
        if found is None:
            return None
        row = _row(found)
        return _Lock(str(row.value.get("owner")), found["lock_token"]["S"], row.version)

    def _already(self, application: str, lock: _Lock) -> AlreadyRunning:
        return AlreadyRunning(
            f"{application} is already running: {lock.owner} holds it in DynamoDB table {self._table}. "
            f"Stop it first, or run under another --application"
        )

    # -- rows ------------------------------------------------------------------------------

    def read(self, kind: str, key: str) -> Row | None:
        found = self._call("get_item", Key=_key(kind, key), ConsistentRead=True).get("Item")
        return None if found is None else _row(found)

    def write(self, kind: str, key: str, value: dict[str, Any], *, replaces: int | None) -> int:
        version = 1 if replaces is None else replaces + 1
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(row_kind)"}
        if replaces is not None:
            condition = {
                "ConditionExpression": "row_version = :replaces",
                "ExpressionAttributeValues": {":replaces": {"N": str(replaces)}},
            }
        self._call("put_item", Item=_item(kind, key, value, version), **condition)
        return version

    def scan(self, kind: str, key_prefix: str = "") -> Iterator[Row]:
        condition, values = "row_kind = :kind", {":kind": {"S": kind}}
        if key_prefix:
            condition += " AND begins_with(row_key, :prefix)"
            values[":prefix"] = {"S": key_prefix}
        following: dict[str, Any] = {}
        while True:
            page = self._call(
                "query",
                KeyConditionExpression=condition,
                ExpressionAttributeValues=values,
                ConsistentRead=True,
                **following,
            )
            yield from map(_row, page["Items"])
            if "LastEvaluatedKey" not in page:
                return
            following = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def delete(self, kind: str, key: str) -> None:
        self._call("delete_item", Key=_key(kind, key))

    def close(self) -> None:
        self.disown()
        with self._making:
            if self._client_made is not None:
                self._client_made.close()
                self._client_made = None

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """One call on the table, its errors as ours: `Conflict`, `StateUnavailable`, `StateError`."""
        try:
            answer: dict[str, Any] = getattr(self._client(), operation)(TableName=self._table, **arguments)
            return answer
        except (BotoCoreError, ClientError) as error:
            if aws.code(error) == "ConditionalCheckFailedException":
                raise Conflict(f"{self._table}: somebody else wrote first") from error
            explained = aws.explain(error, f"use DynamoDB table {self._table}")
            # A permission, credentials or the table itself that there were may come back: a run waits for them.
            given_back = self._has_worked and aws.code(error) != "ValidationException"
            kind = StateUnavailable if isinstance(explained, Unavailable) or given_back else StateError
            raise kind(str(explained)) from error


def _owner_kind(application: str) -> str:
    return f"{application}#owner"


def _key(kind: str, key: str) -> dict[str, Any]:
    return {"row_kind": {"S": kind}, "row_key": {"S": key}}


def _item(kind: str, key: str, value: dict[str, Any], version: int) -> dict[str, Any]:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return {**_key(kind, key), "row_value": {"S": text}, "row_version": {"N": str(version)}}


def _row(item: dict[str, Any]) -> Row:
    return Row(item["row_key"]["S"], json.loads(item["row_value"]["S"]), int(item["row_version"]["N"]))
