"""How far a processor says that it is done, where returning from a record is not to say so."""

from __future__ import annotations

from streamheal.core.messages import Stated
from streamheal.records import Position


class Statements:
    """What one shard's processor owes, and how far the shard may be checkpointed therefore.

    A processor that keeps records in its memory, and says later that they are done, loses them
    with its process. Until it has said so the shard's checkpoint stays before them, settled or not.

        returned   1 2 3 4 5 . .
        stated         *                 it owes 4 and 5: limit = 3

    Where nothing is owed there is no limit: that is so for every processor that never states
    anything, because returning is its word.

    Attributes:
        owes: The processor has returned from records, and has yet to say that they are done.
        upto: Of what is owed: the last position before it.
        forgone: A process died that owed what nobody had kept: until a host begins the shard anew,
            and its records are given again, no checkpoint may pass them.
        forgone_after: The last position before them; None: not even the first may be passed.
    """

    def __init__(self) -> None:
        self.owes = self.forgone = False
        self.forgone_after: Position | None = None
        self.upto: Position | None = None

    def stated(self, said: Stated, watermark: Position | None) -> None:
        """Take in what the processor says. `watermark` is the ledger's, now."""
        if said.gone:
            self._forgo(watermark)
        elif said.position is None:
            self.upto = least(self.upto, watermark) if self.owes else watermark
            self.owes = True
        else:
            # Where nothing was owed, all that is settled by now is done.
            before = self.upto if self.owes else watermark
            self.upto = said.position if before is None else max(before, said.position)
            self.owes = said.owes

    def worker_died(self, *, kept: bool) -> None:
        """What it had in its memory is gone. `kept`: its records run again."""
        if self.owes and not kept:
            self._forgo(self.upto)
        self.owes = False

    def _forgo(self, after: Position | None) -> None:
        self.forgone_after = least(self.forgone_after, after) if self.forgone else after
        self.forgone = True

    def limited(self, watermark: Position | None) -> Position | None:
        """How far the shard may be checkpointed, of this watermark."""
        if self.owes:
            watermark = least(watermark, self.upto)
        if self.forgone:
            watermark = least(watermark, self.forgone_after)
        return watermark


def least(one: Position | None, other: Position | None) -> Position | None:
    """Of how far two allow; None: not even the first record may be passed."""
    return None if one is None or other is None else min(one, other)
