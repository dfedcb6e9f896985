"""What a process said before it died is heard, whatever it had not heard itself."""

from __future__ import annotations

import os
import time
from pathlib import Path

from streamheal.core.messages import At, Cause, Failed, SpanDone

from .stand import line, standing

# 0 fails. Its lane then asks 2 for its key, and meanwhile nobody in the process takes more than one message.
CODE = """
class App(RecordProcessor):
    concurrency = 2
    def key(self, record):
        if record.json() == 2:
            effect("deaf")
            while not os.path.exists("die"): pass
            os._exit(3)
        return record.partition_key
    def process_record(self, record):
        raise ValueError(record.json())
"""


async def test_what_a_process_said_is_heard_though_it_died_before_it_had_read_our_words(tmp_path: Path) -> None:
    """The kernel says first that ours were not read. What was said lies behind that."""
    async with standing(tmp_path, CODE) as stand:
        ear = await stand.ear().start()
        process = ear.seat.process
        assert process is not None
        ear.bring(1, line([0]))
        ear.bring(2, line([2], first=1))
        # Nothing is read here until it is dead, as when others keep the loop busy.
        give_up_at = time.monotonic() + 20
        while not stand.effects() and time.monotonic() < give_up_at:
            pass
        for _ in range(3):
            ear.seat.limit(None)
        (tmp_path / "die").touch()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - the loop stands, that is the point
        process._died()
        assert [(failed.record.at, failed.cause) for failed in ear.of(Failed)] == [(At(1, 0), Cause.RAISED)]
        assert [done.span for done in ear.of(SpanDone)] == [1]
