"""How much memory the JVM may use, and how it is told."""

from __future__ import annotations

import os

from streamheal import platform
from streamheal.errors import UsageError

_MIB = 1 << 20

# Measured on KCL 3.1.3 with 10,000 records of 200 bytes a batch: 384 MiB carry 16 shards, 256 MiB do
# not; with 2 shards 256 MiB are enough. What grows is what is prefetched for each shard. Twice what is
# just enough: with 640 MiB instead of 384 the same JVM spent a fifth less CPU on collecting.
_BASE_BYTES = 256 * _MIB
_SHARD_BYTES = 16 * _MIB
_LEAST_BYTES = 128 * _MIB
# The other half is for the host, the workers and what the JVM needs beside its heap.
_SHARE = 0.5

# Up to here the collector with one thread costs least: 16 % of all the JVM's CPU less than G1 at 384 MiB,
# 3 and 13 % at 640 MiB (16 shards, 10,000 records a batch). Beyond, its pauses would grow with the heap.
_ONE_THREAD_BYTES_MAX = 1024 * _MIB
_OPTION_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")


def usual_heap_bytes(shards: int, memory_bytes: int | None = None) -> int:
    """For a host that may come to hold so many shards, in a container of so much memory."""
    memory_bytes = memory_limit_bytes() if memory_bytes is None else memory_bytes
    wanted = _BASE_BYTES + _SHARD_BYTES * shards
    return max(_LEAST_BYTES, min(wanted, int(memory_bytes * _SHARE)))


def refuse_more_than_there_is(heap_bytes: int) -> None:
    """
    Raises:
        UsageError: The container would be killed for it, some time later.
    """
    if heap_bytes > (most := memory_limit_bytes()):
        raise UsageError(
            f"--kcl-heap is {heap_bytes >> 20}MiB, and there are {most >> 20}MiB of memory here: expected at most "
            f"half of that, which leaves room for the host and the workers"
        )


def memory_limit_bytes() -> int:
    """The container's limit, or the machine's memory where that is less."""
    return platform.container_memory_bytes() or platform.machine_memory_bytes()


def jvm_options(heap_bytes: int) -> list[str]:
    """What a JVM of so much heap is started with, whatever it is to run."""
    options = [
        f"-Xmx{heap_bytes >> 20}m",
        # A shard's thread that finds no memory would leave its shard standing, or spend the whole
        # grace on the way out.
        "-XX:+ExitOnOutOfMemoryError",
        # The protocol is written in the JVM's default charset (before Java 18 the locale's).
        "-Dfile.encoding=UTF-8",
    ]
    # Two collectors asked for are an error to the JVM, and the user's own choice goes first.
    theirs = any("GC" in os.environ.get(variable, "") for variable in _OPTION_VARIABLES)
    if heap_bytes <= _ONE_THREAD_BYTES_MAX and not theirs:
        options.append("-XX:+UseSerialGC")
    return options
