"""Envelopes as JSON lines, with payloads as people may see them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from streamheal.errors import UsageError
from streamheal.quarantine.envelope import Envelope


def line(envelope: Envelope, *, unmasked: bool) -> str:
    """The envelope in one line. Where its processor masks, the masked bytes stand in place of the
    payload's own, and where those spilled is left out: it leads to them."""
    if envelope.masked_base64 is not None and not unmasked:
        envelope = msgspec.structs.replace(envelope, data_base64=envelope.masked_base64, data_ref=None)
    return msgspec.json.encode(envelope).decode() + "\n"


def write_lines(path: Path, envelopes: Iterable[Envelope], *, unmasked: bool) -> int:
    """Write them all, or leave what was there; returns how many there were.

    Raises:
        UsageError: The file cannot be written.
    """
    written = 0
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as partial:
            try:
                for envelope in envelopes:
                    partial.write(line(envelope, unmasked=unmasked))
                    written += 1
                partial.flush()
                os.replace(partial.name, path)
            except BaseException:
                os.unlink(partial.name)
                raise
    except OSError as error:
        raise UsageError(f"--out: {path} cannot be written: {error.strerror}") from error
    return written
