"""Whether somebody reads every shard: only a lease that is renewed has an owner who lives."""

from __future__ import annotations

from streamheal.engines.kcl.readers import Readers
from streamheal.engines.kcl.tables import Lease


def lease(shard_id: str, owner: str | None, counter: int = 1, *, ended: bool = False) -> Lease:
    return Lease(shard_id, owner, ended, counter, "SHARD_END" if ended else "TRIM_HORIZON", 0)


def test_what_we_hold_and_what_has_ended_is_read() -> None:
    leases = [lease("s0", "us"), lease("s1", None, ended=True)]
    assert Readers("us", alive_s=10).read_all(leases, ["s0"], {"s0"}, now=0)


def test_an_open_shard_without_a_lease_is_read_by_nobody() -> None:
    assert not Readers("us", alive_s=10).read_all([lease("s0", "us")], ["s0", "s1"], {"s0"}, now=0)


def test_a_lease_without_an_owner_is_read_by_nobody() -> None:
    readers = Readers("us", alive_s=10)
    assert not readers.read_all([lease("s0", None, 1)], ["s0"], set(), now=0)
    assert not readers.read_all([lease("s0", None, 2)], ["s0"], set(), now=1)


def test_another_owner_is_believed_once_it_is_seen_to_renew() -> None:
    """A host that was killed is named in the table until KCL gives its lease away."""
    readers = Readers("us", alive_s=10)
    assert not readers.read_all([lease("s0", "w2", 7)], ["s0"], set(), now=0)
    assert not readers.read_all([lease("s0", "w2", 7)], ["s0"], set(), now=3)
    assert readers.read_all([lease("s0", "w2", 8)], ["s0"], set(), now=4)
    assert readers.read_all([lease("s0", "w2", 8)], ["s0"], set(), now=14)
    assert not readers.read_all([lease("s0", "w2", 8)], ["s0"], set(), now=14.1)


def test_a_lease_that_was_only_just_given_to_another_says_nothing_of_its_new_owner() -> None:
    """Giving it away moves the counter as well, and KCL may give it to a host that has died (its issue 1452)."""
    readers = Readers("us", alive_s=10)
    assert not readers.read_all([lease("s0", "w2", 7)], ["s0"], set(), now=0)
    assert not readers.read_all([lease("s0", "w3", 8)], ["s0"], set(), now=1)
    assert readers.read_all([lease("s0", "w3", 9)], ["s0"], set(), now=2)


def test_a_lease_in_our_name_that_we_do_not_hold_yet_is_ours_to_read() -> None:
    """The leader gives it to us, and our daemon renews it before it has started to read."""
    readers = Readers("us", alive_s=10)
    assert not readers.read_all([lease("s0", "dead", 7)], ["s0"], set(), now=0)
    assert not readers.read_all([lease("s0", "us", 8)], ["s0"], set(), now=1)
    assert not readers.read_all([lease("s0", "us", 9)], ["s0"], set(), now=2)
    assert readers.read_all([lease("s0", "us", 9)], ["s0"], {"s0"}, now=3)
