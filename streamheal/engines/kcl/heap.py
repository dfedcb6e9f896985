"""How much memory the JVM may use."""

from __future__ import annotations

import os
from pathlib import Path

_MIB = 1 << 20

# Measured on KCL 3.1.3 with 10,000 records of 200 bytes a batch: 384 MiB carry 16 shards, 256 MiB do
# not; with 2 shards 256 MiB are enough. What grows is what is prefetched for each shard.
_BASE_BYTES = 256 * _MIB
_SHARD_BYTES = 8 * _MIB
_LEAST_BYTES = 128 * _MIB
# The other half is for the host, the workers and what the JVM needs beside its heap.
_SHARE = 0.5

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def usual_heap_bytes(shards: int, memory_bytes: int | None = None) -> int:
    """For a host that may come to hold so many shards, in a container of so much memory."""
    memory_bytes = memory_limit_bytes() if memory_bytes is None else memory_bytes
    wanted = _BASE_BYTES + _SHARD_BYTES * shards
    return max(_LEAST_BYTES, min(wanted, int(memory_bytes * _SHARE)))


def memory_limit_bytes() -> int:
    """The container's limit, or the machine's memory where that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _LIMITS:
        try:
            return min(machine, int(Path(path).read_text()))
        except (OSError, ValueError):
            continue  # another version of cgroups, or `max`
    return machine
