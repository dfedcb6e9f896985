"""Whoever runs too long is ended, and nobody who merely stood beside it, or was stopped, or was not looked at."""

from __future__ import annotations

from pathlib import Path

from streamheal.core.messages import At, Cause, Failed, WorkerDied

from .stand import line, standing

WAITING = """
import asyncio
class App(RecordProcessor):
    deadline_s = 0.4
    async def process_record(self, record):
        n = record.json()
        if n == 3: return await self.charge()
        await asyncio.sleep(0.25)
        effect(n)
    async def charge(self):
        {charge}
"""


async def test_a_coroutine_past_its_deadline_is_cancelled_and_its_neighbours_go_on(tmp_path: Path) -> None:
    """Its process lives; it has failed where it waited, and is the only one that has."""
    async with standing(tmp_path, WAITING.format(charge="await asyncio.Event().wait()"), concurrency=2) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([3, 1, 2, 4, 5, 6]))
        failed = await ear.failed(At(1, 0))
        assert (failed.cause, failed.alone) == (Cause.OVERRAN, False)
        (attempt,) = ear.attempts[At(1, 0)]
        assert (attempt.outcome, attempt.exception_type, attempt.signal) == ("deadline", None, None)
        assert attempt.message == f"still running after {attempt.duration_s:.1f} s"
        assert attempt.frames == ("app.py:process_record", "app.py:charge")
        assert "in charge" in (attempt.stack or "")
        assert attempt.duration_s >= 0.4
        await ear.span_done(1)
        assert stand.effects() == ["1", "2", "4", "5", "6"]
        assert not ear.of(WorkerDied)


async def test_what_is_queued_behind_a_cancelled_coroutine_waits_for_it(tmp_path: Path) -> None:
    async with standing(tmp_path, WAITING.format(charge="await asyncio.Event().wait()")) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([3, 1], keys=lambda n: "one"))
        await ear.span_done(1)
        assert stand.effects() == []
        ear.seat.settle(At(1, 0))
        ear.bring(2, line([2], first=10, keys=lambda n: "one"))
        await ear.span_done(2)
        assert stand.effects() == ["1", "2"]


async def test_a_coroutine_that_catches_its_cancellation_and_returns_is_done(tmp_path: Path) -> None:
    charge = "try: await asyncio.Event().wait()\n        except asyncio.CancelledError: effect('gave up')"
    async with standing(tmp_path, WAITING.format(charge=charge)) as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([3, 1]))
        await ear.span_done(1)
        assert stand.effects() == ["1", "gave up"]
        ear.bring(2, line(["again"], first=10))
        await ear.span_done(2)
        assert not ear.of(Failed), "and the cancellation stays with its record"


async def test_a_coroutine_that_does_not_end_is_stopped_with_its_process(tmp_path: Path) -> None:
    """Its neighbours, who are in time, are not past their deadline; all show where they were."""
    charge = "while True:\n            try: await asyncio.sleep(60)\n            except asyncio.CancelledError: pass"
    async with standing(tmp_path, WAITING.format(charge=charge), concurrency=2) as stand:
        ear = await stand.ear(heal=True).start()
        ear.bring(1, line([3, 1, 2, 4, 5, 6]))
        await ear.until(lambda: ear.of(WorkerDied))
        died: WorkerDied = ear.of(WorkerDied)[0]
        assert died.overran == (At(1, 0),)
        assert len(died.running) == 2
        await ear.until(lambda: ear.open == 0)
        assert ear.aside == {At(1, 0): "OVERRAN"}
        for attempt in ear.attempts[At(1, 0)]:
            assert attempt.frames == ("app.py:process_record", "app.py:charge")
        neighbour = ear.attempts[died.running[1].at][0]
        assert neighbour.outcome == "crash"
        assert "another record" in (neighbour.message or "")
