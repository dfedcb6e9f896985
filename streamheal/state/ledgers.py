"""What the rows of a state mean: checkpoints, starts, and how far a replay is.

    kind                        key                          value
    APPLICATION#checkpoint      STREAM/SHARD                 {"sequence", "sub_sequence", "ended", "began"}
    APPLICATION#start           STREAM/SHARD                 {"checkpoint", "count", "by", "doubt"}
    APPLICATION#running         STREAM/SHARD                 see `marks.py`
    APPLICATION#replay          REPLAY                       {"selection", "records", "finished", "outcomes"}
    APPLICATION#replay-ids      REPLAY/CHUNK                 {"ids", "outcomes"}

Sequence numbers are kept as text: JSON's numbers end at 2^53 for many who read them. A
stream's name holds no slash (CreateStream: letters, digits, '_', '.' and '-').
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from streamheal.errors import StateError
from streamheal.records import Position
from streamheal.state.base import State
from streamheal.state.rows import Rows

# A chunk is written anew whenever one of its records is settled: large enough for few rows,
# small enough to be written often (about 4 KiB; DynamoDB bills a write by the KiB).
_IDS_A_CHUNK = 200


class Checkpoint(NamedTuple):
    """How far a shard is.

    Attributes:
        position: Every record up to here is settled; None: none is known to be.
        ended: The shard is read and settled to its end.
        began: From where it was first read, as `begin` was told; None: not begun.
    """

    position: Position | None = None
    ended: bool = False
    began: str | None = None


class Checkpoints:
    """How far each shard of a stream is. Blocking; as `State`'s, its methods raise `Unavailable`."""

    def __init__(self, state: State, application: str, stream: str) -> None:
        self._rows = Rows(state, f"{application}#checkpoint")
        self._prefix = f"{stream}/"

    def read_all(self) -> dict[str, Checkpoint]:
        """By shard id: every shard that was begun, checkpointed or ended."""
        rows = self._rows.read_all(self._prefix)
        found = {row.key.removeprefix(self._prefix): row.value for row in rows}
        return {shard_id: _checkpoint(shard_id, value) for shard_id, value in found.items()}

    def begin(self, shard_id: str, at: str) -> None:
        """Remember from where a shard is first read, so that a restart before its first checkpoint
        does not begin later (LATEST) than this start did. Only the first call counts."""
        self._change(shard_id, lambda value: {**value, "began": value.get("began") or at})

    def write(self, shard_id: str, position: Position) -> None:
        """Every record of the shard up to here is settled. Never goes back."""

        def forward(value: dict[str, Any]) -> dict[str, Any]:
            there = _checkpoint(shard_id, value).position
            if there is not None and there >= position:
                return value
            return {**value, "sequence": str(position.sequence), "sub_sequence": position.sub_sequence}

        self._change(shard_id, forward)

    def write_ended(self, shard_id: str) -> None:
        """The shard was split or merged, and every record of it is settled."""
        self._change(shard_id, lambda value: {**value, "ended": True})

    def forget(self, shard_id: str) -> None:
        """What is kept was of another stream of this name, which has been deleted."""
        self._rows.delete(self._prefix + shard_id)

    def _change(self, shard_id: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._rows.change(self._prefix + shard_id, lambda value: change({**_NOT_BEGUN, **value}))


_NOT_BEGUN: dict[str, Any] = {"sequence": None, "sub_sequence": 0, "ended": False, "began": None}


def _checkpoint(shard_id: str, value: dict[str, Any]) -> Checkpoint:
    """To guess what a row of another kind may have meant would be to lose records, or to read them all again."""
    sequence, sub_sequence = value.get("sequence"), value.get("sub_sequence", 0)
    ended, began = value.get("ended", False), value.get("began")
    understood = {
        "sequence": sequence is None or (isinstance(sequence, str) and sequence.isascii() and sequence.isdecimal()),
        "sub_sequence": isinstance(sub_sequence, int) and not isinstance(sub_sequence, bool) and sub_sequence >= 0,
        "ended": isinstance(ended, bool),
        "began": began is None or isinstance(began, str),
    }
    for name, right in understood.items():
        if not right:
            raise StateError(
                f"the state's checkpoint of {shard_id} cannot be understood: its {name} is {value.get(name)!r}. "
                "A later streamheal wrote it, or a hand: put it right, or delete it to read the shard anew"
            )
    return Checkpoint(None if sequence is None else Position(int(sequence), sub_sequence), ended, began)


_SOMEBODY = Position(0)


class Starts:
    """What a host must know of its earlier lives; an object for each life. Blocking."""

    def __init__(self, state: State, application: str, stream: str) -> None:
        self._rows = Rows(state, f"{application}#start")
        self._prefix = f"{stream}/"
        self._life = uuid.uuid4().hex

    def count(self, shard_id: str, position: Position | None) -> int:
        """How often a host began from this very checkpoint, this time included; written down first.

        A life counts once, though the answer to its write was lost, and it writes again.
        """
        at = _at(position)

        def one_more(value: dict[str, Any]) -> dict[str, Any]:
            before = value.get("count") if value.get("checkpoint") == at else 0
            # What is there may be of another version, or damaged: that must not keep a shard from starting.
            count = before + (value.get("by") != self._life) if isinstance(before, int) and before > 0 else 1
            return {**value, "checkpoint": at, "count": count, "by": self._life}

        return int(self._rows.change(self._prefix + shard_id, one_more)["count"])

    def take_back(self, shard_id: str, position: Position | None, count: int) -> None:
        """The shard was left in order: who had counted so many has not died there, those before it have. Its next
        host may have counted meanwhile, and then that stands."""
        ours = {"checkpoint": _at(position), "count": count}

        def one_less(value: dict[str, Any]) -> dict[str, Any]:
            return {**value, "count": count - 1, "by": None} if ours.items() <= value.items() else value

        self._rows.change(self._prefix + shard_id, one_less)

    def doubt(self, shard_id: str) -> Position | None:
        """Who was set aside last here, if that was with nobody to ask and nothing has succeeded since."""
        kept = self._rows.read(self._prefix + shard_id).get("doubt")
        if not kept:
            return None
        sequence, _, sub_sequence = str(kept).partition("/")
        if all(part.isascii() and part.isdecimal() for part in (sequence, sub_sequence)):
            return Position(int(sequence), int(sub_sequence))
        return _SOMEBODY  # an earlier version kept no more than that there is a doubt; or the row is damaged

    def set_doubt(self, shard_id: str, doubt: Position | None) -> None:
        self._rows.change(self._prefix + shard_id, lambda value: {**value, "doubt": _at(doubt)})


def _at(position: Position | None) -> str | None:
    return None if position is None else f"{position.sequence}/{position.sub_sequence}"


class ReplayLedger:
    """Which records a replay is about, and which of them are settled. Blocking.

    The selection is frozen when it is opened. What was settled stays so, whoever is killed
    when: a replay opened again under its name goes on where it was. Once all is settled only
    a summary stays.
    """

    def __init__(self, state: State, application: str) -> None:
        self._heads = Rows(state, f"{application}#replay")
        self._chunks = Rows(state, f"{application}#replay-ids")
        self._known: dict[str, _Known] = {}
        self._settling = threading.Lock()

    def open(self, replay_id: str, ids: Sequence[str], *, selection: str | None = None) -> None:
        """Freeze the selection. A replay that is open already, or finished, stays as it is.

        Args:
            selection: Says what was asked for, so that `unfinished` can tell whether it is asked
                for again; left out, a hash of the ids.
        """
        if self._heads.read(replay_id):
            return
        unique = list(dict.fromkeys(ids))
        for nth in range(0, len(unique), _IDS_A_CHUNK):
            chunk = {"ids": unique[nth : nth + _IDS_A_CHUNK], "outcomes": {}}
            self._chunks.change(_chunk_key(replay_id, nth), _always(chunk))
        # Last: a replay is there once its head is. Chunks without one are written over.
        asked = selection if selection is not None else selection_hash(ids)
        head = {"selection": asked, "records": len(unique), "finished": not unique, "outcomes": {}}
        self._heads.change(replay_id, _always(head))

    def pending(self, replay_id: str) -> list[str]:
        """Those not settled yet, in the order in which they were selected."""
        with self._settling:
            known = self._load(replay_id)
            if known.chunk_of and not known.pending:
                self._finish(replay_id)  # it was killed just before
            return list(known.pending)

    def _load(self, replay_id: str) -> _Known:
        known = self._known[replay_id] = _Known({}, {})
        for row in self._chunks.read_all(f"{replay_id}/"):
            ids, outcomes = row.value.get("ids"), row.value.get("outcomes")
            if not (isinstance(ids, list) and isinstance(outcomes, dict) and all(isinstance(id, str) for id in ids)):
                raise StateError(
                    f"the state's row {row.key} of a replay cannot be understood: delete it, and replay anew"
                )
            known.chunk_of.update(dict.fromkeys(ids, row.key))
            known.pending.update(dict.fromkeys(id for id in ids if id not in outcomes))
        return known

    def settle(self, replay_id: str, ids: Sequence[str], outcome: str) -> None:
        """What became of these. The first outcome of a record stays; an unknown id is ignored."""
        with self._settling:
            known = self._known.get(replay_id) or self._load(replay_id)
            by_chunk: dict[str, list[str]] = {}
            for id in ids:
                if id in known.pending:
                    by_chunk.setdefault(known.chunk_of[id], []).append(id)
            for key, some in by_chunk.items():
                self._chunks.change(key, _settling(some, outcome))
                for id in some:
                    known.pending.pop(id, None)
            if by_chunk and not known.pending:
                self._finish(replay_id)

    def _finish(self, replay_id: str) -> None:
        rows = self._chunks.read_all(f"{replay_id}/")
        outcomes = dict(Counter(outcome for row in rows for outcome in row.value["outcomes"].values()))
        self._heads.change(replay_id, lambda head: {**head, "finished": True, "outcomes": outcomes})
        for row in rows:
            self._chunks.delete(row.key)
        del self._known[replay_id]

    def unfinished(self) -> dict[str, str]:
        """Replays of which something is pending, with the selection each was opened for."""
        return {row.key: row.value["selection"] for row in self._heads.read_all() if not row.value["finished"]}


class _Known(NamedTuple):
    """One replay's records. Both keep the order of selection."""

    chunk_of: dict[str, str]
    pending: dict[str, None]


def _chunk_key(replay_id: str, nth: int) -> str:
    return f"{replay_id}/{nth // _IDS_A_CHUNK:06d}"


def _always(value: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda _: value


def _settling(ids: Sequence[str], outcome: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda value: {**value, "outcomes": {**dict.fromkeys(ids, outcome), **value["outcomes"]}}


def selection_hash(ids: Sequence[str]) -> str:
    """The same for the same records, in whatever order."""
    return hashlib.sha256("\n".join(sorted(set(ids))).encode()).hexdigest()[:12]
