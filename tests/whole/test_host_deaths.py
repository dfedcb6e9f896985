"""A record that kills the host and all that is in it, life after life: it is found, and nobody beside it."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.whole.running import Site, orders, put

# From one checkpoint: in the second its marks are left, in the third and fourth it dies alone.
HOST_DEATHS_MAX = 4


def lives(life: Callable[[], Any]) -> int:
    """Start it again each time it is killed, as what runs a container does. Returns how often that was."""
    for deaths in range(HOST_DEATHS_MAX + 1):
        done = life()
        if done.returncode != -signal.SIGKILL:
            assert done.returncode == 0, done.stderr
            return deaths
    raise AssertionError(f"the host dies again and again\n{done.stderr}")


@pytest.mark.parametrize("target", ["shop:Shop", "shop:ThreadShop", "shop:AsyncShop", "shop:BatchShop"])
def test_a_record_that_kills_its_host_is_found_and_nobody_beside_it(site_of: Any, kinesis: Any, target: str) -> None:
    site: Site = site_of(shards=2)
    put(kinesis, site.stream, orders(range(100), lambda number: "killhost" if number == 30 else "fine", keys=10))

    deaths = lives(lambda: site.heal(target))

    (found,) = site.quarantined()
    envelope = site.show(found["id"])
    assert deaths == HOST_DEATHS_MAX
    assert site.effects().keys() == {*range(100)} - {30}
    assert envelope["reason"] == "crash"
    assert [one["alone"] for one in envelope["attempts"]][-2:] == [True, True]
    assert "died while this record ran alone" in envelope["title"]
    assert "was not run again" in envelope["verdict"]


def test_it_is_found_from_the_state_alone_where_each_life_has_a_fresh_disk(
    site_of: Any, kinesis: Any, aws: Any, bucket: Callable[[], str]
) -> None:
    """This one kills its worker first, and the host from its cell."""
    site: Site = site_of(shards=1)
    where = ["--state", f"dynamodb:{site.stream}", "--quarantine", f"s3://{bucket()}/aside"]
    put(kinesis, site.stream, orders(range(60), lambda number: "killhostalone" if number == 30 else "fine"))

    def life() -> Any:
        forget_owner(aws.client("dynamodb"), site.stream)
        done = site.heal("shop:Shop", *where)
        for left in [path for path in site.folder.iterdir() if path.name not in ("shop.py", "effects")]:
            shutil.rmtree(left) if left.is_dir() else Path(left).unlink()
        return done

    lives(life)

    (found,) = site.quarantined(*where[2:])
    assert found["sequence_number"]
    assert site.effects().keys() == {*range(60)} - {30}


def forget_owner(dynamodb: Any, table: str) -> None:
    """What waits 30 s for the owner's silence is not what is tested here."""
    if table in dynamodb.list_tables()["TableNames"]:
        for item in dynamodb.scan(TableName=table)["Items"]:
            if item["row_key"]["S"] == "owner":
                dynamodb.delete_item(TableName=table, Key={name: item[name] for name in ("row_kind", "row_key")})
