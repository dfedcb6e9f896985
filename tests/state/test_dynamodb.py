from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from streamheal.config.aws import AwsOptions
from streamheal.errors import AlreadyRunning, StateError, StateUnavailable, UsageError
from streamheal.records import Position
from streamheal.state.dynamodb import DynamoState, _Lock
from streamheal.state.ledgers import Checkpoints, ReplayLedger
from tests.state.promises import check_state


def opened(name: str, lease_s: float = 1.0) -> DynamoState:
    return DynamoState(name, AwsOptions(), lease_s=lease_s, look_s=0.1)


@pytest.fixture
def name(aws: Any) -> str:
    return f"table-{uuid.uuid4().hex[:12]}"


def test_dynamodb_keeps_every_promise_of_a_state(name: str) -> None:
    check_state(lambda: opened(name))


def test_a_missing_table_is_made_billed_by_use(aws: Any, name: str) -> None:
    opened(name).check()
    table = aws.client("dynamodb").describe_table(TableName=name)["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"


def test_a_table_of_somebody_elses_is_refused(table: Callable[..., str]) -> None:
    name = table()
    with pytest.raises(UsageError, match=r"its key is key \(HASH\)\. Expected row_kind \(HASH\), row_key \(RANGE\)"):
        opened(name).check()


def test_an_owner_that_was_killed_is_followed_once_it_has_been_silent(name: str) -> None:
    """Nobody gives the lock back; the next run waits out the lease, and no longer."""
    killed, following = opened(name), opened(name)
    killed.check()
    killed.own("shop-orders", "host-1 pid 4711")
    began = time.monotonic()
    following.own("shop-orders", "host-2 pid 4712")
    assert 1.0 <= time.monotonic() - began < 5.0
    with pytest.raises(AlreadyRunning, match="host-2 pid 4712 holds it in DynamoDB table"):
        killed.keep_owning()
    following.keep_owning()
    killed.disown()
    following.keep_owning()
    following.close()


def test_of_two_who_saw_the_same_silence_one_wins(name: str) -> None:
    killed, one, other = opened(name), opened(name), opened(name)
    killed.check()
    killed.own("shop-orders", "killed")
    seen_by_both = one._silent("shop-orders")
    one._become("shop-orders", _lock(one), over=seen_by_both)
    with pytest.raises(AlreadyRunning, match="one"):
        other._become("shop-orders", _lock(other), over=seen_by_both)
    one.close()


def _lock(state: DynamoState) -> _Lock:
    return _Lock("one", state._token, 1)


def test_a_beat_whose_answer_was_lost_is_not_taken_for_anothers(name: str) -> None:
    state = opened(name)
    state.check()
    state.own("shop-orders", "host-1")
    before = state._owned
    state.keep_owning()
    state._owned = before  # as if the answer had not come
    state.keep_owning()
    state.keep_owning()
    state.close()


def test_an_endpoint_that_refuses_is_waited_for(aws: Any, name: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    state = DynamoState(name, AwsOptions(endpoint_url=nobody))
    with pytest.raises(StateUnavailable, match="does not answer"):
        state.check()
    with pytest.raises(StateUnavailable, match=f"cannot use DynamoDB table {name}: {nobody} does not answer"):
        state.read("app#kind", "key")


def test_a_table_that_was_deleted_is_not_taken_for_an_empty_one(name: str) -> None:
    """ "No checkpoint" would begin anew, and with LATEST skip what came meanwhile."""
    with pytest.raises(StateError, match=name):
        opened(name).read("app#kind", "key")
    with pytest.raises(StateError, match=name):
        list(opened(name).scan("app#kind"))


def test_what_has_worked_and_is_taken_away_is_waited_for(aws: Any, name: str) -> None:
    """A run that was under way when a permission or the table went goes on when it is back."""
    state = opened(name)
    state.check()
    aws.client("dynamodb").delete_table(TableName=name)
    with pytest.raises(StateUnavailable, match=name):
        state.read("app#kind", "key")
    opened(name).check()
    assert state.read("app#kind", "key") is None


def test_a_row_larger_than_dynamodb_keeps_is_an_error_not_a_wait(name: str) -> None:
    state = opened(name)
    state.check()
    with pytest.raises(StateError):
        state.write("app#kind", "key", {"text": "x" * 410_000}, replaces=None)


def test_ledgers_work_over_dynamodb_too(name: str) -> None:
    state = opened(name)
    state.check()
    checkpoints = Checkpoints(state, "shop-orders", "orders")
    far = Position(49638000000000000000000000000000000000000000000000004711, 3)
    checkpoints.write("shardId-000000000000", far)
    assert Checkpoints(state, "shop-orders", "orders").read_all()["shardId-000000000000"].position == far
    ids = [f"{nth:016}" for nth in range(450)]
    ledger = ReplayLedger(state, "shop-orders")
    ledger.open("replay-1", ids)
    ledger.settle("replay-1", ids[:449], "healed")
    assert ReplayLedger(state, "shop-orders").pending("replay-1") == ids[449:]
    state.close()
