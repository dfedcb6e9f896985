"""How KCL's JVM is told what it may use."""

from __future__ import annotations

import pytest

from streamheal.engines.kcl.heap import jvm_options

MIB = 1 << 20


def test_a_small_heap_is_collected_by_one_thread() -> None:
    assert "-XX:+UseSerialGC" in jvm_options(384 * MIB)
    assert "-XX:+UseSerialGC" not in jvm_options(2048 * MIB)


def test_a_collector_that_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A JVM that is asked for two of them does not start."""
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:+UseZGC")
    assert not [option for option in jvm_options(384 * MIB) if "GC" in option]
