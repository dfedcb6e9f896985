"""Which records a replay is made of, decided once: a killed replay goes on with what is still open."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from streamheal.errors import UsageError
from streamheal.quarantine.base import Selection
from streamheal.quarantine.envelope import Envelope


class Group(NamedTuple):
    """Records that one processor of one application reads from one stream, by shard in stream order."""

    target: str
    application: str
    stream: str
    ids_by_shard: dict[str, list[str]]

    @property
    def ids(self) -> list[str]:
        return [id for ids in self.ids_by_shard.values() for id in ids]


def groups(envelopes: Iterable[Envelope], target: str | None) -> list[Group]:
    """Put envelopes together by who reads them; `target` reads them all, where it is given."""
    found: dict[tuple[str, str, str], dict[str, list[tuple[int, int, str]]]] = {}
    for envelope in envelopes:
        name = (target or envelope.code.processor, envelope.application, envelope.stream)
        place = (int(envelope.sequence_number), envelope.sub_sequence_number, envelope.id)
        found.setdefault(name, {}).setdefault(envelope.shard_id, []).append(place)
    return [
        Group(*name, {shard: [id for _, _, id in sorted(places)] for shard, places in sorted(shards.items())})
        for name, shards in found.items()
    ]


class Ledger(Protocol):
    """See `state.ledgers.ReplayLedger`; blocking."""

    def open(self, replay_id: str, ids: Sequence[str], *, selection: str) -> None: ...
    def pending(self, replay_id: str) -> list[str]: ...
    def settle(self, replay_id: str, ids: Sequence[str], outcome: str) -> None: ...
    def unfinished(self) -> dict[str, str]: ...


class Frozen(NamedTuple):
    """A selection that no longer changes, whatever comes into quarantine meanwhile.

    `resumed`: the same was asked for before, and cut off.
    """

    replay_id: str
    resumed: bool


def freeze(group: Group, selection: Selection, data: bytes | None, ledger: Ledger, *, now: str) -> Frozen:
    """Write down what is to be replayed.

    The same replay, cut off before, is closed: what it healed is no longer open, so this one
    goes on where it was; what had failed in it is tried again, because the code may be mended.
    """
    asked, resumed = _name(group, selection, data), False
    for replay_id, selection_of_it in ledger.unfinished().items():
        if selection_of_it == asked:
            ledger.settle(replay_id, ledger.pending(replay_id), "left")
            resumed = True
    replay_id = f"{now}-{asked}"
    ledger.open(replay_id, group.ids, selection=asked)
    return Frozen(replay_id, resumed)


def _name(group: Group, selection: Selection, data: bytes | None) -> str:
    """The same for the same question; not for the same answer, which a cut-off replay has changed."""
    asked = (
        group.target,
        group.stream,
        msgspec.json.encode(selection).decode(),
        data.hex() if data is not None else "",
    )
    return hashlib.sha256("\0".join(asked).encode()).hexdigest()[:12]


def refuse_many_for_one_payload(chosen: Sequence[Envelope], data: bytes | None) -> None:
    if data is not None and len(chosen) != 1:
        raise UsageError(f"--data is the payload of one record, and {len(chosen)} are selected: expected one ID")
