"""Processes that grow are ended before the kernel ends their host, and only who grows one alone is blamed."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamheal.core.messages import At, WorkerDied
from streamheal.errors import TargetError

from .stand import line, standing

MIB = 1 << 20

EATING = """
class App(RecordProcessor):
    concurrency = 2
    def process_record(self, record):
        n = record.json()
        if n == 1: self.eat()
        if n == 2 and record.attempt == 1: time.sleep(60)
        effect(n)
    def eat(self):
        eaten = []
        while True:
            eaten.append(bytearray(4 << 20))
            time.sleep(0.001)
"""


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"memory_each": 96 * MIB}, "grew past 96 MiB"),
        ({"memory_together": 256 * MIB}, "the largest when all worker processes together passed 256 MiB"),
    ],
)
async def test_who_grows_a_process_alone_is_named_and_its_neighbour_is_done(
    tmp_path: Path, limits: dict[str, int], says: str
) -> None:
    async with standing(tmp_path, EATING, **limits) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([1, 2, 3]))
        await ear.until(lambda: ear.open == 0)
        assert ear.aside == {At(1, 0): "CRASHED"}
        assert sorted(stand.effects()) == ["2", "3"]
        assert ear.deaths == ["memory", "memory"], "in the worker, and alone"
        assert [fields["cause"] for fields in stand.log.of("worker_died")] == ["memory", "memory"]
        for attempt in ear.attempts[At(1, 0)]:
            assert (attempt.outcome, attempt.signal) == ("crash", None)
            assert says in (attempt.message or "")
        assert ear.attempts[At(1, 0)][-1].frames == ("app.py:process_record", "app.py:eat")


async def test_shared_memory_is_held_against_nobody(tmp_path: Path) -> None:
    """A batch lies in memory that all processes map, and every one that reads it has it resident."""
    code = "class App(RecordProcessor):\n    def process_record(self, record): effect(len(record.data))"
    async with standing(tmp_path, code, memory_each=64 * MIB) as stand:
        ear = await stand.ear(heal=True).start()
        for span in range(1, 13):
            ear.bring(span, line([b"x" * (6 * MIB)], first=span))
        await ear.until(lambda: ear.open == 0)
        assert stand.effects() == [str(6 * MIB)] * 12
        assert not ear.of(WorkerDied)


async def test_a_processor_that_needs_more_than_it_may_have_is_refused_at_the_start(tmp_path: Path) -> None:
    code = (
        "ballast = bytearray(80 << 20)\nfor n in range(0, len(ballast), 4096): ballast[n] = 1\ndef handle(record): pass"
    )
    with pytest.raises(TargetError, match=r"app:handle uses \d+ MiB, and a worker may use no more than 64 MiB"):
        async with standing(tmp_path, code, "app:handle", memory_each=64 * MIB):
            pass
