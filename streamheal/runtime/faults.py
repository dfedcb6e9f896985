"""A broken rule of our own stops the shard it was broken in, and no other.

What raises in a shard's core, or in carrying out what it decided, says that something is not as we
believe it to be. Nothing about that shard can be relied on then, least of all how far it is safe to
checkpoint. The other shards have cores of their own, and nothing of theirs was touched.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
Run = TypeVar("Run", bound="Breakable")

WHY = "a rule of streamheal's own was broken; nothing is checkpointed past it. Please report it, with this line"


class Breakable(Protocol):
    def broke(self, error: Exception) -> None:
        """Stop this shard: what it believes is not so."""


def for_this_shard(method: Callable[Concatenate[Run, P], None]) -> Callable[Concatenate[Run, P], None]:
    """What the method raises is the end of its shard, not of the run."""

    def guarded(run: Run, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(run, *args, **kwargs)
        except Exception as error:
            run.broke(error)

    functools.update_wrapper(guarded, method)
    return guarded


def told(error: Exception) -> dict[str, str]:
    """The fields of `rule_broken`. Frames without their variables: a payload never comes into a log."""
    return {
        "error": f"{type(error).__name__}: {error}".rstrip(": "),
        "traceback": "".join(traceback.format_exception(error)),
    }
