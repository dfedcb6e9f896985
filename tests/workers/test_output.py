"""What workers print is read without anybody waiting for it."""

from __future__ import annotations

import asyncio
import os
from itertools import pairwise

from streamheal.workers.output import OutputReader


async def test_a_flood_of_lines_is_read_little_by_little_so_that_others_are_heard() -> None:
    """40,000 lines lie there. The loop turns many times until they are handed on."""
    lines: list[str] = []
    read, write = os.pipe()
    reader = OutputReader(asyncio.get_running_loop(), read, lines.append)
    os.write(write, b"\n" * 40_000)
    seen = [0]
    async with asyncio.timeout(20):
        while len(lines) < 40_000:
            await asyncio.sleep(0)
            seen.append(len(lines))
    assert max(after - before for before, after in pairwise(seen)) <= 1_200
    reader.close()
    os.close(write)


async def test_of_a_flood_that_must_be_read_at_once_the_end_is_kept() -> None:
    lines: list[str] = []
    read, write = os.pipe()
    reader = OutputReader(asyncio.get_running_loop(), read, lines.append)
    os.write(write, b"".join(b"%d\n" % number for number in range(5_000)) + b"the l")
    reader.read_all()
    assert lines[:2] == ["… (4,000 lines are left out)", "4000"]
    assert lines[-1] == "4999"
    assert reader.mid_line
    os.write(write, b"ast\n")
    reader.close()
    assert lines[-1] == "the last"
    os.close(write)
