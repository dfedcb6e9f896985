"""What `streamheal quarantine discard` does to one envelope."""

from __future__ import annotations

import getpass
import socket
from datetime import UTC, datetime

from streamheal.attempts import utc_text
from streamheal.errors import UsageError
from streamheal.quarantine.base import Store
from streamheal.quarantine.envelope import Discard, Envelope


def discard(store: Store, envelope: Envelope, why: str) -> str:
    """Mark it, and say so in a line.

    Raises:
        UsageError: It is healed.
    """
    note = Discard(at=_now(), by=_who(), why=why)

    def change(current: Envelope) -> Envelope:
        if current.status == "healed":
            raise UsageError(f"{current.id} is healed already: there is nothing to discard")
        if current.status == "open":
            current.status, current.discard = "discarded", note
        return current

    kept = store.amend(envelope.id, change).discard
    if kept is None or kept == note:
        return f"{envelope.id} discarded: {why}"
    return f"{envelope.id} was discarded already, by {kept.by} at {kept.at}: {kept.why}"


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def _now() -> str:
    return utc_text(datetime.now(UTC))
