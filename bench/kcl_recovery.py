"""How long records stand still when a daemon dies, a shard is split, a host is stopped.

A record a shard is put every 50 ms, with the time at which it was put as its payload: what flows again is
told by the first one that was put after the event.
"""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time
from collections.abc import Iterable
from typing import Any

from bench.figures import Figure
from bench.kcl_rig import EACH, FAST, STREAM, Bare, Ground, Ours, Side, until

_EVERY_S = 0.05


class _Trickle:
    """Puts a record on every open shard, again and again, while in its `with`."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._ended = threading.Event()
        self.look()
        self._thread = threading.Thread(target=self._put)

    def look(self) -> None:
        """Which shards are open."""
        self._keys = [_middle(shard) for shard in self._ground.open_shards()]

    def _put(self) -> None:
        while not self._ended.wait(_EVERY_S):
            now = b"%.4f" % time.monotonic()
            records = [{"Data": now, "PartitionKey": "k", "ExplicitHashKey": key} for key in self._keys]
            self._ground.kinesis.put_records(StreamName=STREAM, Records=records)

    def __enter__(self) -> _Trickle:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()


def _middle(shard: dict[str, Any]) -> str:
    hashes = shard["HashKeyRange"]
    return str((int(hashes["StartingHashKey"]) + int(hashes["EndingHashKey"])) // 2)


def _flow_s(side: Side, shard_ids: Iterable[str], since: float) -> float:
    """From then until this side has done, of all these shards, a record that was put later."""

    def first() -> dict[str, float]:
        found: dict[str, float] = {}
        for note in side.notes():
            if note.number > since:
                found.setdefault(note.shard_id, note.at)
        return found

    wanted = set(shard_ids)
    until(f"records flow on {', '.join(sorted(wanted))}", lambda: wanted <= set(first()), alive=side.process)
    return max(at for shard_id, at in first().items() if shard_id in wanted) - since


def _ids(ground: Ground) -> set[str]:
    return {shard["ShardId"] for shard in ground.open_shards()}


def _split(side: Side, trickle: _Trickle) -> float:
    """Split the first open shard; how long it takes until both children flow."""
    ground = side.ground
    before, shard = _ids(ground), ground.open_shards()[0]
    since = time.monotonic()
    ground.kinesis.split_shard(StreamName=STREAM, ShardToSplit=shard["ShardId"], NewStartingHashKey=_middle(shard))
    trickle.look()
    return _flow_s(side, _ids(ground) - before, since)


def _daemon_killed() -> tuple[float, float]:
    with Ground(2) as ground:
        ground.seed(lambda number: "w1")
        with _Trickle(ground) as trickle, Ours(ground, "w1", FAST, EACH) as side:
            _flow_s(side, _ids(ground), time.monotonic())
            jvm = side.jvm()
            assert jvm is not None
            killed = time.monotonic()
            os.kill(jvm, signal.SIGKILL)
            flow_s = _flow_s(side, _ids(ground), killed)
            return flow_s, _split(side, trickle)


def daemon_killed_s(rounds: int) -> list[Figure]:
    flows, splits = zip(*(_daemon_killed() for _ in range(rounds)), strict=True)
    return [
        _seconds("daemon_killed_s", flows, "bare KCL 3.1.3: 10"),
        _seconds("daemon_killed_split_s", splits, "bare KCL 3.1.3: 117"),
    ]


def _stop_after_reshard() -> float:
    with Ground(2) as ground:
        ground.seed(lambda number: "w1")
        with _Trickle(ground) as trickle, Ours(ground, "w1", FAST, EACH) as side:
            _flow_s(side, _ids(ground), time.monotonic())
            _split(side, trickle)
            time.sleep(1.0)
            asked = time.monotonic()
            side.terminate()
            code = side.process.wait(60)
            took_s = time.monotonic() - asked
        assert code == 0, f"exit code {code}"
        return took_s


def stop_after_reshard_s(rounds: int) -> list[Figure]:
    stops = [_stop_after_reshard() for _ in range(rounds)]
    return [_seconds("stop_after_reshard_s", stops, "bare KCL 3.1.3: its whole grace, 20")]


def _hand_over(kind: type[Side], leads: bool) -> float:
    """Two hosts, two shards each; the one that leads, or the other, is stopped.

    Whoever is up first may take all, and gives two of them back.
    """
    with Ground(4) as ground:
        ground.seed(lambda number: f"w{1 + number % 2}")
        with (
            _Trickle(ground),
            kind(ground, "w1", FAST, EACH) as one,
            kind(ground, "w2", FAST, EACH) as other,
        ):
            sides = (one, other)
            until("each has two shards", lambda: [len(_held(side)) for side in sides] == [2, 2])
            until("one of them leads", ground.leader)
            leader = ground.leader()
            leaving, staying = sides if (one.worker_id == leader) == leads else sides[::-1]
            asked, shards = time.monotonic(), _held(leaving)
            leaving.terminate()
            return _flow_s(staying, shards, asked)


def _held(side: Side) -> set[str]:
    """On which shards it has lately done something."""
    since = time.monotonic() - 1.0
    return {note.shard_id for note in side.notes() if note.at > since}


def handover_s(rounds: int) -> list[Figure]:
    """A leader's end is another matter: whoever stays looks for a new one only every half minute (KCL 3.1.3)."""
    pairs = [(_hand_over(Ours, False), _hand_over(Bare, False)) for _ in range(rounds)]
    ours, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
    detail = (
        f"{ours:.1f} s against {bare:.1f} s, {len(pairs)} rounds; "
        f"ours {_range(ours for ours, _ in pairs)} s, bare {_range(bare for _, bare in pairs)} s"
    )
    leader, bare_leader = _hand_over(Ours, True), _hand_over(Bare, True)
    return [
        Figure("handover_s", ours, None, False, detail),
        Figure("handover_leader_s", leader, None, False, f"{leader:.1f} s against {bare_leader:.1f} s, once"),
        Figure("handover_vs_kclpy", statistics.median(one / two for one, two in pairs), 1.0, False, detail),
    ]


def _range(found: Iterable[float]) -> str:
    ordered = sorted(found)
    return f"{ordered[0]:.1f} to {ordered[-1]:.1f}"


def _seconds(name: str, found: Iterable[float], bare: str) -> Figure:
    ordered = list(found)
    detail = f"s, median of {len(ordered)}, {_range(ordered)} ({bare})"
    return Figure(name, statistics.median(ordered), 10.0, False, detail)
