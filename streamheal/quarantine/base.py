"""What every quarantine store promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from streamheal.errors import StoreError, StoreUnavailable
from streamheal.quarantine.envelope import Envelope


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which envelopes; every given part must hold. Times are ISO 8601 in UTC, of quarantining."""

    ids: tuple[str, ...] = ()
    fingerprint: str | None = None
    shard: str | None = None
    key: str | None = None
    reason: str | None = None
    since: str | None = None
    until: str | None = None
    status: str | None = "open"
    application: str | None = None
    stream: str | None = None


class Store(Protocol):
    """Keeps envelopes. Methods block, may be called from any thread, several at once."""

    url: str

    def check(self) -> None:
        """Try that envelopes can be written and read here.

        Raises:
            UsageError: Missing bucket, stream or permission; a folder that cannot be written.
        """

    def put(self, envelopes: Sequence[Envelope]) -> list[StoreError | StoreUnavailable | None]:
        """Keep these durably; one answer for each, None: kept.

        None means that the bytes survive the loss of this process and machine, as far as the
        store can promise that. Putting an id that is there already keeps what is there: a host
        killed between storing and checkpointing stores again, and a replay may have happened since.
        """

    def get(self, id_prefix: str) -> Envelope:
        """The one envelope whose id begins so, with its bytes (spilled ones fetched).

        Raises:
            NotFound, Ambiguous: With what would be right.
        """

    def scan(self, selection: Selection) -> Iterator[Envelope]:
        """The envelopes selected, oldest first, `ids` being prefixes. Spilled bytes are not fetched."""

    def amend(self, id: str, change: Callable[[Envelope], Envelope]) -> Envelope:
        """Write what became of an envelope (`status`, `replays`, `discard`), and return it."""
