"""The memory in which batches lie, shared by the host and all workers.

One sparse file of many big slots: only touched pages cost memory, and a batch is copied once,
from the engine's source into its slot. Workers map it read-only, so that user code that runs
wild cannot spoil the evidence.
"""

from __future__ import annotations

import mmap
import os

from streamheal import platform

# 64 shards with as many spans open as `Policy.open_spans_max` allows. GetRecords answers with 10 MiB of
# payload at most, which base64 and 10,000 envelopes make 16 MiB.
SLOTS = 2048
SLOT_BYTES = 32 << 20

# A slot that held a usual batch keeps its warm pages; one that grew beyond gives them back. The largest
# batch that KCL asks for by itself, 10,000 records, is 4.4 MB with payloads of 200 bytes.
_KEPT_BYTES = 8 << 20


class Slot:
    """One stretch of the arena. Satisfies `engines.base.Slot`."""

    __slots__ = ("index", "used", "view")

    def __init__(self, index: int, view: memoryview) -> None:
        self.index = index
        self.view = view
        self.used = 0


class Arena:
    """The host's side: slots that are free are handed out last in, first out, for warm pages."""

    def __init__(self) -> None:
        self.fd = platform.anonymous_file("arena", SLOTS * SLOT_BYTES)
        self.map = mmap.mmap(self.fd, SLOTS * SLOT_BYTES)
        platform.keep_out_of_dumps(self.map)
        self._view = memoryview(self.map)
        self._free = [
            Slot(index, self._view[index * SLOT_BYTES : (index + 1) * SLOT_BYTES]) for index in reversed(range(SLOTS))
        ]

    def take(self) -> Slot | None:
        return self._free.pop() if self._free else None

    def give_back(self, slot: Slot) -> None:
        if slot.used > _KEPT_BYTES:
            platform.free_pages(self.map, slot.index * SLOT_BYTES, SLOT_BYTES)
        slot.used = 0
        self._free.append(slot)

    def close(self) -> None:
        os.close(self.fd)


def map_arena(fd: int) -> memoryview:
    """The worker's side: all slots, to be read only."""
    memory = mmap.mmap(fd, SLOTS * SLOT_BYTES, mmap.MAP_SHARED, mmap.PROT_READ)
    platform.keep_out_of_dumps(memory)
    return memoryview(memory)
