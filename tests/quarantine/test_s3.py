from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from streamheal.config.aws import AwsOptions
from streamheal.errors import StoreError, StoreUnavailable, UsageError
from streamheal.quarantine import s3
from streamheal.quarantine.base import Selection
from streamheal.quarantine.s3 import S3Store
from tests.quarantine.promises import check_store
from tests.quarantine.samples import envelope


def opened(bucket: str, prefix: str = "") -> S3Store:
    return S3Store(bucket, prefix, AwsOptions())


@pytest.mark.parametrize("prefix", ["", "some/prefix"])
def test_s3_keeps_every_promise_of_a_store(bucket: Callable[[], str], prefix: str) -> None:
    name = bucket()
    check_store(lambda: opened(name, prefix))


def test_an_endpoint_that_ignores_conditions_keeps_the_first_copy_too(bucket: Callable[[], str]) -> None:
    name = bucket()
    store = opened(name)
    store._bucket.conditional = False
    assert store.put([envelope(1), envelope(2)]) == [None, None]
    again = opened(name)
    again._bucket.conditional = False
    assert again.put([envelope(1, verdict="stored again")]) == [None]
    assert again.get(envelope(1).id) == envelope(1)
    assert again.amend(envelope(1).id, lambda one: one) == envelope(1)


def test_objects_lie_where_athena_and_duckdb_look_for_them(aws: Any, bucket: Callable[[], str]) -> None:
    name = bucket()
    one = envelope(1, application="a/b")
    opened(name, "quarantine").put([one])
    found = aws.client("s3").get_object(
        Bucket=name, Key=f"quarantine/application=a%2Fb/stream=orders/date=2026-11-24/{one.id}.json"
    )
    assert found["ContentType"] == "application/json"


def test_a_day_that_ends_between_two_tries_makes_no_second_copy(bucket: Callable[[], str]) -> None:
    """The answer to the first was lost at midnight; the same run tries again, a day later."""
    store = opened(bucket())
    before, after = "2026-11-24T23:59:59.000Z", "2026-11-25T00:00:01.000Z"
    assert store.put([envelope(1, quarantined_at=before)]) == [None]
    assert store.put([envelope(1, quarantined_at=after), envelope(2, quarantined_at=after)]) == [None, None]
    assert [one.quarantined_at for one in store.scan(Selection())] == [before, after]


def test_more_than_a_page_of_objects_is_found(bucket: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys come a page at a time, bodies in windows of a few."""
    monkeypatch.setattr("streamheal.quarantine.bucket._PAGE_KEYS", 20)
    monkeypatch.setattr(s3, "_FETCHED_BYTES_MAX", 15_000)
    store = opened(bucket())
    some = [envelope(nth) for nth in range(50)]
    assert store.put(some) == [None] * 50
    assert list(store.scan(Selection())) == some


def test_a_missing_bucket_is_said_with_what_would_make_it(aws: Any) -> None:
    with pytest.raises(
        UsageError, match=r"there is no bucket nobody-made-it\. Create it with: aws s3 mb s3://nobody-made-it"
    ):
        opened("nobody-made-it").check()
    (outcome,) = opened("nobody-made-it").put([envelope(1)])
    assert isinstance(outcome, StoreError)


def test_an_endpoint_that_refuses_is_waited_for(aws: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    store = S3Store("bucket", "", AwsOptions(endpoint_url=nobody))
    with pytest.raises(StoreUnavailable, match="does not answer"):
        store.check()
    outcomes = store.put([envelope(1), envelope(2)])
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable, StoreUnavailable]
