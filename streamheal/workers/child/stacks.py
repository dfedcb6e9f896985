"""Where coroutines wait: no thread's stack shows it, and faulthandler sees threads alone."""

from __future__ import annotations

import os
from types import FrameType
from typing import Any


def write_stack(dump: int, title: str, coroutine: Any) -> None:
    """Write what a suspended coroutine waits in to where faulthandler writes the threads'."""
    os.write(dump, stack_text(title, coroutine).encode())


def stack_text(title: str, coroutine: Any) -> str:
    """What a suspended coroutine waits in, as faulthandler writes a thread's stack."""
    lines = [f'  File "{f.f_code.co_filename}", line {f.f_lineno} in {f.f_code.co_name}' for f in _frames(coroutine)]
    return "\n".join([f"{title} (most recent call first):", *reversed(lines), "\n"])


def _frames(coroutine: Any) -> list[FrameType]:
    """Outermost first."""
    found = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            break
        found.append(frame)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return found
