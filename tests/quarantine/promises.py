"""What every quarantine store promises, as one check that each of them runs."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec
import pytest

from streamheal.errors import Ambiguous, NotFound
from streamheal.quarantine.base import Selection, Store
from streamheal.quarantine.envelope import Discard, Envelope, Replay
from tests.quarantine.samples import attempt, envelope

EVERY = Selection(status=None)


def check_store(make_store: Callable[[], Store]) -> None:
    """
    Args:
        make_store: Opens the store, empty at first; what it keeps is there when it is opened again.
    """
    make_store().check()
    assert list(make_store().scan(EVERY)) == []
    _keeps_what_it_acknowledged(make_store)
    _keeps_one_copy_of_an_id_the_first(make_store)
    _finds_by_any_unambiguous_prefix(make_store)
    _selects(make_store)
    _amends(make_store)
    _amends_one_after_another(make_store)


def _keeps_what_it_acknowledged(make_store: Callable[[], Store]) -> None:
    """Out of order in, oldest first out, every field as it was."""
    some = [
        envelope(nth, attempts=[attempt(message="ä\ud800".encode("utf-8", "backslashreplace").decode())])
        for nth in range(1, 31)
    ]
    assert make_store().put(some[::-1]) == [None] * 30
    assert list(make_store().scan(EVERY)) == some
    assert make_store().get(some[4].id) == some[4]


def _keeps_one_copy_of_an_id_the_first(make_store: Callable[[], Store]) -> None:
    """A host killed between storing and checkpointing stores again: the same day, and the next."""
    kept = make_store().get(envelope(1).id)
    again = [
        envelope(1, verdict="stored again"),
        envelope(2, verdict="stored again", quarantined_at="2026-11-25T00:00:01.000Z"),
        envelope(31),
    ]
    assert make_store().put(again) == [None, None, None]
    found = list(make_store().scan(EVERY))
    assert [one.id for one in found] == [envelope(nth).id for nth in range(1, 32)]
    assert found[0] == kept


def _finds_by_any_unambiguous_prefix(make_store: Callable[[], Store]) -> None:
    store = make_store()
    ids = [envelope(nth).id for nth in range(1, 32)]
    wanted = ids[7]
    length = next(n for n in range(1, 17) if sum(id.startswith(wanted[:n]) for id in ids) == 1)
    assert store.get(wanted[:length]).id == wanted
    with pytest.raises(NotFound, match="0000"):
        store.get("0000")
    with pytest.raises(NotFound):
        store.get("aaaaaaaaaaaaaaaa")
    with pytest.raises(Ambiguous, match=r"31 quarantined records .* and 26 more"):
        store.get("")


def _selects(make_store: Callable[[], Store]) -> None:
    others = [
        envelope(40, application="other app/ü"),
        envelope(41, stream="payments"),
        envelope(42, shard_id="shardId-000000000007"),
        envelope(43, partition_key="ключ"),
        envelope(44, reason="crash", fingerprint="ffffffffffff"),
        envelope(45, quarantined_at="2026-12-01T00:00:00.000Z"),
    ]
    assert make_store().put(others) == [None] * 6
    store = make_store()

    def numbers(**selection: object) -> list[int]:
        found = store.scan(msgspec.convert({"status": None, **selection}, Selection))
        return [int(one.sequence_number[-4:]) for one in found]

    assert numbers(application="other app/ü") == [40]
    assert numbers(stream="payments") == [41]
    assert numbers(shard="shardId-000000000007") == [42]
    assert numbers(key="ключ") == [43]
    assert numbers(reason="crash") == [44]
    assert numbers(fingerprint="ffffffffffff") == [44]
    assert numbers(since="2026-11-30T00:00:00Z") == [45]
    assert numbers(until="2026-11-24T12:00:02Z") == [1, 2]
    assert numbers(since="2026-11-24T12:00:30Z", until="2026-11-24T12:00:40.000Z") == [30, 31, 40]
    assert numbers(ids=[envelope(9).id[:12], envelope(3).id]) == [3, 9]
    assert numbers(ids=[envelope(9).id], key="ключ") == []
    assert numbers() == [*range(1, 32), 40, 41, 42, 43, 44, 45]


def _amends(make_store: Callable[[], Store]) -> None:
    """What became of it is written; what it is stays."""
    before = make_store().get(envelope(3).id)
    discard = Discard(at="2026-11-24T13:00:00.000Z", by="ann@host", why="a test order")

    def mark(one: Envelope) -> Envelope:
        one.status = "discarded"
        one.discard = discard
        return one

    amended = make_store().amend(before.id, mark)
    assert amended.status == "discarded"
    assert make_store().get(before.id) == amended
    assert amended == msgspec.structs.replace(before, status="discarded", discard=discard)
    assert before.id not in [one.id for one in make_store().scan(Selection())]
    assert [one.id for one in make_store().scan(Selection(status="discarded"))] == [before.id]
    assert make_store().put([envelope(3)]) == [None]
    assert make_store().get(before.id) == amended
    with pytest.raises(NotFound):
        make_store().amend("aaaaaaaaaaaaaaaa", mark)


def _amends_one_after_another(make_store: Callable[[], Store]) -> None:
    """Two who amend at once, a replay and a person: neither undoes the other's entry."""
    store = make_store()
    id = envelope(5).id

    def add(number: int) -> None:
        def change(one: Envelope) -> Envelope:
            entry = Replay(
                at=f"2026-11-24T14:00:0{number}.000Z", code_version=None, outcome="failed", attempt=attempt()
            )
            one.replays = [*one.replays, entry]
            return one

        store.amend(id, change)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(one.at[18] for one in make_store().get(id).replays) == ["0", "1", "2", "3", "4"]
