"""What every state promises, as one check that each of them runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from streamheal.errors import AlreadyRunning, Conflict
from streamheal.state.base import Row, State

TEXT = {"text": 'ä " \\ \U0001f41f \n', "number": 4711, "list": [1, [2, None]], "map": {"a": {"b": True}}, "": 0.5}


def check_state(make_state: Callable[[], State]) -> None:
    """
    Args:
        make_state: Opens the state, empty at first; what it keeps is there when it is opened
            again. Each one made is another process, as far as ownership goes.
    """
    state = make_state()
    state.check()
    state.check()
    _keeps_rows(make_state)
    _refuses_a_write_over_what_was_not_read(make_state)
    _scans_in_order_by_prefix(make_state)
    _of_many_writers_one_wins_each_version(make_state)
    _has_one_owner(make_state)
    state.close()


def _keeps_rows(make_state: Callable[[], State]) -> None:
    state = make_state()
    assert state.read("app#kind", "key") is None
    assert state.write("app#kind", "key", TEXT, replaces=None) == 1
    state.close()
    again = make_state()
    assert again.read("app#kind", "key") == Row("key", TEXT, 1)
    assert again.write("app#kind", "key", {}, replaces=1) == 2
    assert again.read("app#kind", "key") == Row("key", {}, 2)
    assert again.read("other#kind", "key") is None
    again.delete("app#kind", "key")
    again.delete("app#kind", "key")
    assert again.read("app#kind", "key") is None
    again.close()


def _refuses_a_write_over_what_was_not_read(make_state: Callable[[], State]) -> None:
    state = make_state()
    state.write("app#versions", "key", {"n": 1}, replaces=None)
    with pytest.raises(Conflict):
        state.write("app#versions", "key", {"n": 2}, replaces=None)
    with pytest.raises(Conflict):
        state.write("app#versions", "key", {"n": 2}, replaces=7)
    with pytest.raises(Conflict):
        state.write("app#versions", "never there", {"n": 2}, replaces=1)
    assert state.read("app#versions", "key") == Row("key", {"n": 1}, 1)
    state.close()


def _scans_in_order_by_prefix(make_state: Callable[[], State]) -> None:
    state = make_state()
    keys = [f"orders/{nth:04}" for nth in range(1200)]
    for key in [*reversed(keys[:600]), *keys[600:]]:
        state.write("app#scan", key, {"key": key}, replaces=None)
    for key in ("order", "orders", "orders0", "payments/1", "orders/ü"):
        state.write("app#scan", key, {}, replaces=None)
    assert [row.key for row in state.scan("app#scan", "orders/")] == [*keys, "orders/ü"]
    assert [row.value for row in state.scan("app#scan", "orders/0017")] == [{"key": "orders/0017"}]
    assert [row.key for row in state.scan("app#scan")] == [
        "order",
        "orders",
        *keys,
        "orders/ü",
        "orders0",
        "payments/1",
    ]
    assert list(state.scan("app#scan", "nothing")) == []
    assert list(state.scan("app#nothing")) == []
    state.close()


def _of_many_writers_one_wins_each_version(make_state: Callable[[], State]) -> None:
    """Four who add one each, ten times, reading anew after each conflict: nothing is lost."""
    make_state().write("app#race", "key", {"n": 0}, replaces=None)

    def add() -> None:
        state = make_state()
        for _ in range(10):
            while True:
                row = state.read("app#race", "key")
                assert row is not None
                try:
                    state.write("app#race", "key", {"n": row.value["n"] + 1}, replaces=row.version)
                    break
                except Conflict:
                    continue
        state.close()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert make_state().read("app#race", "key") == Row("key", {"n": 40}, 41)


def _has_one_owner(make_state: Callable[[], State]) -> None:
    first, second = make_state(), make_state()
    first.own("shop-orders", "host-1 pid 4711")
    with _beating(first), pytest.raises(AlreadyRunning, match="shop-orders is already running: host-1 pid 4711"):
        second.own("shop-orders", "host-2 pid 4712")
    second.own("shop-payments", "host-2 pid 4712")
    first.keep_owning()
    second.keep_owning()
    first.disown()
    first.disown()
    third = make_state()
    third.own("shop-orders", "host-3 pid 4713")
    third.keep_owning()
    for state in (first, second, third):
        state.close()
    fourth = make_state()
    fourth.own("shop-orders", "host-4 pid 4714")
    fourth.close()


@contextmanager
def _beating(state: State) -> Iterator[None]:
    """What a run does every few seconds, done often."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.05):
            state.keep_owning()

    thread = threading.Thread(target=beat)
    thread.start()
    yield
    over.set()
    thread.join(20)
