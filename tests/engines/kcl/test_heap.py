"""The JVM's memory, by what was measured of KCL 3.1.3 (16 shards of full batches need more than 256 MiB)."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamheal import platform
from streamheal.engines.kcl.heap import (
    jvm_options,
    memory_limit_bytes,
    refuse_more_than_there_is,
    usual_heap_bytes,
)
from streamheal.errors import UsageError

MIB, GIB = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("shards", "memory_bytes", "mib"),
    [
        (1, 8 * GIB, 272),
        (16, 8 * GIB, 512),
        (64, 8 * GIB, 1280),
        (16, 512 * MIB, 256),  # the other half is for the host, the workers, and the JVM beside its heap
        (1, 100 * MIB, 128),  # less and it does not start
        (10_000, 8 * GIB, 4096),
    ],
)
def test_the_heap_grows_with_the_shards_and_ends_at_half_the_container(
    shards: int, memory_bytes: int, mib: int
) -> None:
    assert usual_heap_bytes(shards, memory_bytes) == mib * MIB


def test_the_container_s_limit_is_read_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 2 of cgroups says `max` for none; version 1 a number beyond any machine's memory."""
    new, old = tmp_path / "memory.max", tmp_path / "memory" / "memory.limit_in_bytes"
    old.parent.mkdir()
    monkeypatch.setattr(platform, "_CGROUPS", str(tmp_path))
    machine = memory_limit_bytes()
    assert machine > 64 * MIB
    old.write_text("9223372036854771712\n")
    assert memory_limit_bytes() == machine
    old.write_text("67108864\n")
    assert memory_limit_bytes() == 64 * MIB
    new.write_text("max\n")
    assert memory_limit_bytes() == 64 * MIB
    new.write_text("33554432\n")
    assert memory_limit_bytes() == 32 * MIB
    assert usual_heap_bytes(1) == 128 * MIB


def test_a_heap_beyond_the_container_is_refused_before_it_is_filled() -> None:
    with pytest.raises(UsageError, match="--kcl-heap is 512000000MiB, and there are"):
        refuse_more_than_there_is(500_000 * GIB)
    refuse_more_than_there_is(64 * MIB)


def test_a_small_heap_is_collected_by_one_thread() -> None:
    assert "-XX:+UseSerialGC" in jvm_options(384 * MIB)
    assert "-XX:+UseSerialGC" not in jvm_options(2048 * MIB)


def test_a_collector_that_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A JVM that is asked for two of them does not start."""
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:+UseZGC")
    assert not [option for option in jvm_options(384 * MIB) if "GC" in option]
