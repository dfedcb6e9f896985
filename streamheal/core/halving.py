"""Find who makes a batch fail, for processors that take many records at once."""

from __future__ import annotations


class Halving:
    """Runs prefixes of what is left, in order, so that what succeeded is done and never runs again.

        1..8 fails   1..4 ok   5..6 fails   5 ok   6 fails, alone: it is the culprit   then 7..8

    The culprit is judged like any other record: by a witness, alone. An innocent record runs
    again as often as a failing prefix holds it: at most log2(n) times, rounded up, for each culprit.
    """

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._upto = last
        self._failing: int | None = None  # somebody up to here makes the batch fail

    def next_run(self) -> tuple[int, int] | None:
        """First and last of the records to call with next; None: all have run."""
        return (self._first, self._upto) if self._first <= self._last else None

    def ran(self, ok: bool) -> int | None:
        """What came of the run. Returns the culprit, once it has failed alone."""
        if ok:
            self._first = self._upto + 1
            if self._failing is not None and self._failing < self._first:
                self._failing = None  # it did not fail again: whatever it was, it is done
            self._upto = self._last if self._failing is None else (self._first + self._failing) // 2
            return None
        if self._first == self._upto:
            culprit, self._first, self._failing = self._first, self._first + 1, None
            self._upto = self._last
            return culprit
        self._failing = self._upto
        self._upto = (self._first + self._upto) // 2
        return None
