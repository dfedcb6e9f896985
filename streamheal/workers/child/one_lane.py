"""All records of a shard in one lane, where asking for their keys might kill the host.

In cautious mode nothing of a record's runs before the host has written down that it will. A processor's
own `key` would: it is asked in order to find the record's lane. So there it is not asked. The shard's
order is the order of every key, too, and each record is asked for its key as a part of its run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from streamheal.workers.child.spans import Key, Lane

ALL: Final = object()  # the key of that lane; no processor's own is it
_FREE: Final = Lane()


class OneLane:
    """Whether a shard has only that lane, and until when.

    Args:
        possible: Records go by keys of the processor's own.
    """

    def __init__(self, *, possible: bool) -> None:
        self.is_on, self._possible = False, possible

    def begin(self, busy: Mapping[Key, Lane | None]) -> None:
        """Not while there are other lanes: what is open in them would be overtaken."""
        self.is_on = self.is_on or (self._possible and not busy)

    def goes_on(self, busy: Mapping[Key, Lane | None], *, cautious: bool) -> bool:
        """Whether the next record's lane may be looked for now.

        Caution may be over, and this lane not empty. Whoever waits behind a blocked head is lined up, as in any
        lane; else nothing more is added, so that it comes to its end, and keys are asked for again.
        """
        if not self.is_on or cautious:
            return True
        lane = busy.get(ALL, _FREE)
        self.is_on = lane is not _FREE
        return not self.is_on or (lane is not None and lane.blocked)
