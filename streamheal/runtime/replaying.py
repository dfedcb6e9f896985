"""Which records a replay is made of, decided once: a killed replay goes on with what it had left."""

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

    def only(self, ids: Iterable[str]) -> Group:
        """What of the group is among these ids."""
        wanted = set(ids)
        kept = {shard: [id for id in mine if id in wanted] for shard, mine in self.ids_by_shard.items()}
        return self._replace(ids_by_shard={shard: mine for shard, mine in kept.items() if mine})


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
    def unfinished(self) -> dict[str, str]: ...


class Frozen(NamedTuple):
    """A selection that no longer changes, whatever comes into quarantine meanwhile."""

    replay_id: str
    group: Group
    resumed: bool


def freeze(group: Group, selection: Selection, data: bytes | None, ledger: Ledger, *, now: str) -> Frozen:
    """Write down what is to be replayed; or find that the same replay was cut off, and go on with it."""
    asked = _name(group, selection, data)
    for replay_id, selection_of_it in ledger.unfinished().items():
        if selection_of_it == asked:
            return Frozen(replay_id, group.only(ledger.pending(replay_id)), resumed=True)
    replay_id = f"{now}-{asked}"
    ledger.open(replay_id, group.ids, selection=asked)
    return Frozen(replay_id, group, resumed=False)


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
