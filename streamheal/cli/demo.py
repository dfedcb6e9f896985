"""`streamheal demo`."""

from __future__ import annotations


def demo() -> int:
    """Watch a stream with poison in it being healed: no Java, no Docker, no AWS account."""
    from streamheal import assembly
    from streamheal.cli import logs

    # The live view tells what happens, in sentences; the log would tell it again.
    logs.configure("error")
    return assembly.demo()
