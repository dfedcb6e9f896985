"""`streamheal demo`."""

from __future__ import annotations


def demo() -> int:
    """Watch a stream with poison in it being healed: no Java, no Docker, no AWS account."""
    from streamheal import assembly

    return assembly.demo()
