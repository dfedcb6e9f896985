"""Who runs, written down before it does: what the next host knows of one that was killed whole.

    kind                   key             value
    APPLICATION#running    STREAM/SHARD    {"version": 1, "life": …,
                                            "running":  [[position, since, alone], …],
                                            "suspects": [[position, [[life, since, until, alone], …]], …]}

A *life* is one run of a host. The next one to begin the shard takes what is marked running for what
a dead host left, and makes suspects of it. Hosts may lose a shard without dying (a lease is taken
away): such a host takes its own marks back, also from among the suspects of the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from streamheal.records import Position
from streamheal.state.base import State
from streamheal.state.rows import Rows

_VERSION = 1
# More tell nothing new.
_DEATHS_KEPT = 5


class Running(NamedTuple):
    """A record that runs, or is about to. `since` is Unix time; `alone`: nothing else of the host runs."""

    position: Position
    since: float
    alone: bool = False


class Death(NamedTuple):
    """A host that died while the record was marked: at most at `until`, when the next began."""

    life: str
    since: float
    until: float
    alone: bool


class Suspect(NamedTuple):
    position: Position
    deaths: tuple[Death, ...]

    @property
    def alone(self) -> tuple[Death, ...]:
        """The deaths in which nothing else ran."""
        return tuple(death for death in self.deaths if death.alone)


class Found(NamedTuple):
    """What earlier lives have left.

    Attributes:
        readable: False where there was something that is not understood.
        explained: Somebody was marked by the life before this one, or none was.
    """

    suspects: tuple[Suspect, ...] = ()
    readable: bool = True
    explained: bool = True


class Marks:
    """The durable marks of one stream's shards. Blocking."""

    def __init__(self, state: State, application: str, stream: str) -> None:
        self._rows = Rows(state, f"{application}#running")
        self._prefix = f"{stream}/"

    def begin(self, shard_id: str, life: str, after: Position | None, now: float) -> Found:
        """What hosts that died have left beyond this checkpoint. What one left running is suspect from now on.

        What cannot be understood accuses nobody, and is written over.
        """
        key = self._prefix + shard_id
        self._rows.look_anew(key)
        try:
            value = self._rows.read(key)
            found = _suspects(value, life, now)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            self._rows.delete(key)
            return Found(readable=False)
        if not value:
            return Found()
        kept = tuple(suspect for suspect in found if after is None or suspect.position > after)

        def taken_over(value: dict[str, Any]) -> dict[str, Any]:
            # Should another host have written meanwhile, it has the shard and we do not: see `write`.
            return _value(life, (), kept)

        # What our own life has marked is another stay's to take back; this one's mark may come after it.
        if value["life"] != life and (value["running"] or value["suspects"]):
            self._rows.change(key, taken_over)
        return Found(kept, explained=not kept or value["life"] == life or bool(value["running"]))

    def write(self, shard_id: str, life: str, running: Sequence[Running], *, claim: bool = False) -> bool:
        """Write down who runs or is about to. Returning true means that the next life knows of all of them.

        Args:
            claim: The first time in a life: whatever of another is there is of a host that has lost the shard.

        Returns:
            Whether the shard is ours. False: another host has begun it.
        """

        def run(value: dict[str, Any]) -> dict[str, Any]:
            if not claim and value.get("life") != life:
                return value
            written = _value(life, running, ())
            return {**written, "suspects": value["suspects"] if value.get("version") == _VERSION else []}

        return bool(self._rows.change(self._prefix + shard_id, run).get("life") == life)

    def clear(self, shard_id: str, life: str) -> None:
        """The spot is passed: nobody is marked any more, or suspect."""

        def cleared(value: dict[str, Any]) -> dict[str, Any]:
            if value.get("life") != life:
                return value
            return {**value, "running": [], "suspects": []}

        self._rows.change(self._prefix + shard_id, cleared)

    def leave(self, shard_id: str, life: str) -> None:
        """The shard is given up by a host that lives: what it had marked says nothing of any death."""

        def left(value: dict[str, Any]) -> dict[str, Any]:
            if value.get("version") != _VERSION:
                return value
            running = [] if value["life"] == life else value["running"]
            suspects = [
                [position, rest]
                for position, deaths in value["suspects"]
                if (rest := [death for death in deaths if death[0] != life])
            ]
            return {**value, "running": running, "suspects": suspects}

        self._rows.look_anew(self._prefix + shard_id)
        self._rows.change(self._prefix + shard_id, left)


def _value(life: str, running: Sequence[Running], suspects: Sequence[Suspect]) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "life": life,
        "running": [[_text(one.position), round(one.since, 3), one.alone] for one in running],
        "suspects": [[_text(one.position), [list(death) for death in one.deaths[-_DEATHS_KEPT:]]] for one in suspects],
    }


def _suspects(value: dict[str, Any], life: str, now: float) -> tuple[Suspect, ...]:
    """Suspects, and whoever was running in a life before this one.

    Raises:
        ValueError, TypeError, KeyError, AttributeError, OverflowError: This is not what is written here.
    """
    if not value:
        return ()
    if value["version"] != _VERSION:
        raise ValueError(f"version {value['version']}, expected {_VERSION}")
    died = str(value["life"])
    found = {_position(text): tuple(_death(death) for death in deaths) for text, deaths in value["suspects"]}
    for text, since, alone in value["running"]:
        death = _death([died, since, round(now, 3), alone])
        if died != life:  # the same life has not died: it had lost the shard, and has it again
            found[_position(text)] = (*found.get(_position(text), ()), death)
    return tuple(Suspect(position, deaths) for position, deaths in sorted(found.items()))


def _death(parts: list[Any]) -> Death:
    life, since, until, alone = parts
    if not isinstance(life, str) or not isinstance(alone, bool):
        raise TypeError(f"{parts} is no death")
    return Death(life, float(since), float(until), alone)


def _text(position: Position) -> str:
    return f"{position.sequence}/{position.sub_sequence}"


def _position(text: str) -> Position:
    sequence, sub_sequence = text.split("/")
    return Position(int(sequence), int(sub_sequence))
