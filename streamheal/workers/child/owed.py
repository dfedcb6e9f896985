"""What a processor has returned from, and has yet to say that it is done with.

    call 1 2 3    returned           owes 1 2 3, beyond nothing     told once: nothing stated, owes
                  checkpoint(2)      owes 3, beyond 2               told: 2, owes
    call 4 5      checkpoint()       owes nothing                   told: 5, owes nothing

It is told before the marks say that a record is done, so that the host never passes one that
is owed. In order, which nearly all records are, that takes two positions and no list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock

# A position as it compares; `Position` itself costs more to make than most records to handle.
Place = tuple[int, int]
Tell = Callable[[Place | None, bool], None]


class OutOfRange(Exception):
    """A statement before the last one, or beyond what was ever given."""


class Owed:
    """One processor's, for one shard. A processor may state from threads of its own.

    Attributes:
        tell: Gets (position, owes): all up to there is stated, None: all that is settled by now;
            and whether the processor has returned from records beyond it.
        after: The shard's checkpoint when the processor was made: nothing before it can be stated.
    """

    def __init__(self) -> None:
        self.tell: Tell = lambda place, owes: None
        self.after: Place | None = None
        self.owes = False
        self._lock = Lock()
        self._stated: Place | None = None  # the farthest
        self._returned: Place | None = None  # the farthest
        self._given: Place | None = None  # the farthest
        self._part: tuple[Place, Place] | None = None  # first and last of the latest call
        self._upto: Place | None = None  # stated since the latest call began
        self._late: set[Place] = set()  # returned, before `_stated`, and not stated: they came out of turn

    def called(self, first: Place, last: Place) -> None:
        """A call begins, with records from `first` to `last`."""
        with self._lock:
            self._part, self._upto = (first, last), None
            self._given = last if self._given is None else max(self._given, last)

    def returned(self, places: Iterable[Place]) -> None:
        """The call has returned. `places` are its records', looked at only where some came out of turn."""
        with self._lock:
            assert self._part is not None, "a call returned that never began"
            (first, last), upto, stated = self._part, self._upto, self._stated
            self._returned = last if self._returned is None else max(self._returned, last)
            if upto is not None and upto >= last:
                return
            if stated is not None and first <= stated:
                late = {place for place in places if place <= stated and (upto is None or place > upto)}
                if late:
                    self._late |= late
                    self._say(None, True)
                    return
            if not self.owes:
                self._say(stated, True)

    def state(self, place: Place) -> None:
        """Everything that was given, up to here, is done.

        Raises:
            OutOfRange: As KCL has it (KCL 3.1.3, ShardRecordProcessorCheckpointer.checkpoint), but
                that a record which is given again may always be stated again.
        """
        with self._lock:
            if self._given is None and place == self.after:
                return  # the checkpoint that it was initialized with
            if self._given is None or place > self._given or not self._may_state(place):
                raise OutOfRange
            self._upto = place if self._upto is None else max(self._upto, place)
            self._stated = place if self._stated is None else max(self._stated, place)
            self._late = {late for late in self._late if late > place}
            owes = bool(self._late) or (self._returned is not None and self._returned > self._stated)
            self._say(place if self._late else self._stated, owes)

    def state_part(self) -> None:
        """The latest call's records are done, and all before them. Nothing was ever given: nothing is said."""
        if self._part is not None:
            self.state(self._part[1])

    def state_all(self) -> None:
        if self._given is not None:
            self.state(self._given)

    def _may_state(self, place: Place) -> bool:
        if self._part is not None and place >= self._part[0]:
            return True
        least = self.after if self._stated is None else self._stated
        return least is None or place >= least

    def _say(self, place: Place | None, owes: bool) -> None:
        self.owes = owes
        self.tell(place, owes)
