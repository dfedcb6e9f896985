"""The lanes of one shard where one thing runs at a time.

    waiting   records that may run, in stream order
    blocked   lanes whose head has failed; those behind it wait here until it is settled

A worker's lanes run many records at once; the core cannot tell the difference (it never could
tell how many ran).
"""

from __future__ import annotations

from heapq import heappop, heappush

from streamheal.core.messages import At


class Lanes:
    def __init__(self) -> None:
        self._waiting: list[At] = []
        self._lane: dict[At, object] = {}
        self._heads: dict[object, At] = {}
        self._behind: dict[object, list[At]] = {}

    def line_up(self, at: At, lane: object) -> None:
        self._lane[at] = lane
        heappush(self._waiting, at)

    def first(self) -> At | None:
        """The next record that may run; it stays where it is."""
        while self._waiting:
            at = self._waiting[0]
            if (behind := self._behind.get(self._lane[at])) is None:
                return at
            behind.append(heappop(self._waiting))
        return None

    def start(self) -> At:
        """Take out the record that `first` named."""
        return heappop(self._waiting)

    def put_back(self, at: At) -> None:
        """It was taken out, and not run after all."""
        heappush(self._waiting, at)

    def block(self, at: At) -> None:
        """The record failed: those behind it in its lane wait until it is settled."""
        lane = self._lane[at]
        self._heads.setdefault(lane, at)
        self._behind.setdefault(lane, [])

    def is_blocked(self, at: At) -> bool:
        return self._lane[at] in self._heads

    def settle(self, at: At) -> None:
        """Its lane goes on, if it was this record that blocked it."""
        lane = self._lane.pop(at)
        # In a batch a record may be done while an earlier one of its lane was returned as failed.
        if self._heads.get(lane) == at:
            del self._heads[lane]
            for waiting in self._behind.pop(lane):
                heappush(self._waiting, waiting)

    def held(self, span: int) -> list[At]:
        """Records of this span that wait behind a blocked one."""
        return sorted(at for behind in self._behind.values() for at in behind if at.span == span)
