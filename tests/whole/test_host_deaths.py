"""A record that kills the host and all that is in it, life after life: it is found, and nobody beside it."""

from __future__ import annotations

import base64
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def test_a_record_that_kills_its_host_is_found_and_nobody_beside_it(site_of: Any, kinesis: Any) -> None:
    """Ten are in a call of a batch processor when it happens: each runs alone, and nine are done."""
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(100), lambda number: "killhost" if number == 30 else "fine", keys=10))

    deaths = lives(lambda: site.heal("shop:BatchShop"))

    (envelope,) = (json.loads(path.read_text()) for path in (site.folder / "quarantine").rglob("*.json"))
    assert deaths == HOST_DEATHS_MAX
    assert site.effects().keys() == {*range(100)} - {30}
    assert envelope["reason"] == "crash"
    assert [one["alone"] for one in envelope["attempts"]][-2:] == [True, True]
    assert "died while this record ran alone" in envelope["title"]
    assert "was not run again" in envelope["verdict"]


def test_a_record_that_kills_its_host_when_asked_for_its_key_is_found(site_of: Any, kinesis: Any) -> None:
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(60), lambda number: "keykillhost" if number == 30 else "fine"))

    deaths = lives(lambda: site.heal("shop:KeyThreadShop"))

    (envelope,) = (json.loads(path.read_text()) for path in (site.folder / "quarantine").rglob("*.json"))
    assert deaths == HOST_DEATHS_MAX
    assert json.loads(base64.b64decode(envelope["data_base64"]))["n"] == 30
    assert site.effects().keys() == {*range(60)} - {30}


def test_it_is_found_from_the_state_alone_where_each_life_has_a_fresh_disk(
    site_of: Any, kinesis: Any, aws: Any, bucket: Callable[[], str]
) -> None:
    """This one kills its worker first, and the host from its cell."""
    site: Site = site_of(shards=1)
    aside, s3 = bucket(), aws.client("s3")
    where = ["--state", f"dynamodb:{site.stream}", "--quarantine", f"s3://{aside}/aside"]
    put(kinesis, site.stream, orders(range(60), lambda number: "killhostalone" if number == 30 else "fine"))

    def life() -> Any:
        forget_owner(aws.client("dynamodb"), site.stream)
        done = site.heal("shop:Shop", *where)
        for left in [path for path in site.folder.iterdir() if path.name not in ("shop.py", "effects")]:
            shutil.rmtree(left) if left.is_dir() else Path(left).unlink()
        return done

    deaths = lives(life)

    (kept,) = s3.list_objects_v2(Bucket=aside, Prefix="aside/application")["Contents"]
    envelope = json.load(s3.get_object(Bucket=aside, Key=kept["Key"])["Body"])
    assert deaths == HOST_DEATHS_MAX
    assert json.loads(base64.b64decode(envelope["data_base64"]))["n"] == 30
    assert site.effects().keys() == {*range(60)} - {30}


def forget_owner(dynamodb: Any, table: str) -> None:
    """What waits 30 s for the owner's silence is not what is tested here."""
    if table in dynamodb.list_tables()["TableNames"]:
        for item in dynamodb.scan(TableName=table)["Items"]:
            if item["row_key"]["S"] == "owner":
                dynamodb.delete_item(TableName=table, Key={name: item[name] for name in ("row_kind", "row_key")})
