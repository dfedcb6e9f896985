"""The loop that holds everything together, over fakes: what was decided is done, and in order."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from streamheal.core.messages import Cause, Stated
from streamheal.core.policy import Policy
from streamheal.quarantine.envelope import Code
from streamheal.quarantine.seal import seal
from streamheal.records import Position, Record
from streamheal.runtime.chronicle import Chronicle
from streamheal.runtime.keeper import Keeper
from streamheal.runtime.runtime import Runtime
from tests.runtime.fakes import FakeEngine, FakePool, FakeShelf, FakeStarts, Handler, no_marks

QUICK = Policy(
    retry_s_min=0.01,
    checkpoint_s=0.05,
    patience_s=0.5,
    pause_s_min=0.05,
    pause_s_max=0.1,
    failing_s_min=0.2,
    human_s=0.2,
)
CODE = Code(processor="shop:Shop", version=None, python="3.11", packages={}, config_hash="0")


class Told:
    """What one run came to, and every event that was told on the way."""

    def __init__(
        self, handler: Handler, *batches: bytes, shelf: FakeShelf | None = None, initialize_failures: int = 0
    ) -> None:
        self.engine, self.pool, self.shelf = (
            FakeEngine(*batches),
            FakePool(handler, initialize_failures),
            shelf or FakeShelf(),
        )
        self.events: list[str] = []

    def run(self, **options: Any) -> Told:
        asyncio.run(asyncio.wait_for(self._run(options), 20))
        return self

    async def _run(self, options: dict[str, Any]) -> None:
        chronicle = Chronicle(structlog.get_logger())
        chronicle.listen(lambda event, fields: self.events.append(event))
        self.runtime = Runtime(
            engine=self.engine, pool=self.pool, keeper=Keeper(self.shelf, chronicle), seal=_seal,
            starts=FakeStarts(), marks=no_marks(), chronicle=chronicle, **{"policy": QUICK, **options},
        )  # fmt: skip
        await self.runtime.run()
        await self.runtime.keeper.close()
        (self.figures,) = self.runtime.figures()


def _seal(record: Any, shard: Any, decision: Any, attempts: Any, masked: Any) -> Any:
    return seal(
        record, application="shop", stream=shard.stream, decision=decision, attempts=attempts, code=CODE, host="h",
        now=datetime.now(UTC),
    )  # fmt: skip


_seal.id_of = lambda record, shard: record.sequence_number  # type: ignore[attr-defined]  # as a sealer has it


def fine(record: Record) -> None:
    """Nothing is wrong with any record."""


def test_a_shard_is_read_checkpointed_and_complete() -> None:
    told = Told(fine, bytes([1, 2, 3]), bytes([4, 5])).run()
    assert told.engine.checkpoints[-1] == Position(5)
    assert told.engine.completed == ["shard-0"]
    assert told.pool.seats["shard-0"].log == ["start", "limit None", "shard_ended"]
    assert (told.figures.read, told.figures.done, told.figures.in_flight) == (5, 5, 0)


def test_a_sick_record_is_stored_before_the_checkpoint_passes_it() -> None:
    """2 raises each time; others succeed around it, in this batch and in later ones."""

    def sick(record: Record) -> None:
        if record.data == b"2":
            raise KeyError("customer")

    told = Told(sick, bytes([1, 2, 3]), *[bytes([number]) for number in range(4, 60)]).run()
    assert [envelope.sequence_number for envelope in told.shelf.kept] == ["2"]
    assert [one.number for one in told.shelf.kept[0].attempts] == [1, 2, 3]
    assert told.engine.checkpoints[-1] == Position(59)
    assert told.figures.quarantined_by_reason == {"exception": 1}
    assert told.figures.read == told.figures.done + told.figures.quarantined


def test_a_store_that_does_not_answer_is_waited_for() -> None:
    def sick(record: Record) -> None:
        if record.data == b"2":
            raise KeyError("customer")

    told = Told(
        sick, bytes([1, 2, 3]), *[bytes([number]) for number in range(4, 60)], shelf=FakeShelf(refusals=3)
    ).run()
    assert [envelope.sequence_number for envelope in told.shelf.kept] == ["2"]
    assert told.events.count("quarantine_unavailable") == 3
    assert told.runtime.keeper.writes == {"unavailable": 3, "stored": 1}


def test_a_checkpoint_that_fails_is_made_again() -> None:
    told = Told(fine, bytes([1, 2, 3]))
    told.engine.refuse_checkpoints = 2
    told.run()
    assert told.engine.checkpoints == [Position(3)]
    assert told.events.count("checkpoint_failed") == 2


def test_a_killer_dies_alone_twice_and_its_shard_goes_on() -> None:
    def killer(record: Record) -> None:
        if record.data == b"2":
            raise SystemExit

    told = Told(killer, bytes([1, 2, 3]), *[bytes([number]) for number in range(4, 60)]).run()
    assert [(envelope.sequence_number, envelope.reason) for envelope in told.shelf.kept] == [("2", "crash")]
    assert told.figures.done == 58


def test_initialize_is_tried_again_until_it_succeeds() -> None:
    told = Told(fine, bytes([1, 2, 3]), initialize_failures=1).run()
    assert told.events.count("initialize_failed") == 1
    assert told.figures.done == 3


def test_where_everything_fails_a_human_is_called_and_nobody_is_set_aside() -> None:
    def broken(record: Record) -> None:
        raise KeyError("customer")

    told = Told(broken, bytes([1, 2, 3, 4])).run(until_caught_up=True)
    assert told.runtime.needs_human
    assert told.shelf.kept == []
    assert "human_called" in told.events


def test_a_shard_left_to_a_human_runs_nothing_while_its_last_checkpoint_is_kept() -> None:
    """Its cells count as free for other shards by then."""

    def broken(record: Record) -> None:
        if record.data != b"1":
            raise KeyError("customer")

    told = Told(broken, bytes([1, 2, 3]))
    keep, let_go = told.engine.checkpoint, []

    async def checkpoint(shard_id: str, position: Position) -> None:
        let_go.append("abandon" in told.pool.seats[shard_id].log)
        await keep(shard_id, position)

    told.engine.checkpoint = checkpoint  # type: ignore[method-assign]
    told.run(policy=replace(QUICK, checkpoint_s=1_000.0), until_caught_up=True)
    assert told.runtime.needs_human
    assert told.engine.checkpoints == [Position(1)]
    assert let_go == [True]


def test_what_is_stored_while_the_next_worker_comes_up_is_not_given_to_it() -> None:
    """1 is poison by its own word; 2 kills the worker; 1 is stored while the next one is initialized."""

    def sick(record: Record) -> None:
        if record.data == b"1":
            raise KeyError("customer")
        if record.data == b"2":
            raise SystemExit

    told = Told(sick, bytes([1, 2, 3]), *[bytes([number]) for number in range(4, 80)])
    told.pool.initialize_s = 0.05
    told.pool.cause = Cause.POISON
    told.run()
    assert sorted(envelope.sequence_number for envelope in told.shelf.kept) == ["1", "2"]
    assert told.figures.done == 77


def test_what_was_to_run_again_while_there_was_no_worker_runs_again_in_the_next() -> None:
    """1 fails, and its worker dies. Its second try falls due while the next one is initialized; in a replay,
    where nobody's patience ends, nothing else would ever wake the shard."""
    tries: list[bytes] = []

    def sick(record: Record) -> None:
        tries.append(record.data)
        if len(tries) == 1:
            told.pool.initialize_s = 0.2
            asyncio.get_running_loop().call_later(0.005, told.pool.seats["shard-0"].die)
            raise KeyError("customer")

    told = Told(sick, bytes([1]))
    told.run(policy=replace(QUICK, replaying=True, retry_s_min=0.1))
    assert tries == [b"1", b"1"]
    assert told.figures.done == 1


def test_a_processor_that_owes_is_heard_out_once_before_the_shard_is_complete() -> None:
    """All five are done, and it says so of the second, and of all of them in `shard_ended` only."""
    told = Told(fine, bytes([1, 2, 3]), bytes([4, 5]))
    told.pool.first_words = Stated(Position(2), owes=True)
    told.pool.last_words = Stated(Position(5), owes=False)
    told.run()
    assert told.engine.checkpoints[-1] == Position(5)
    assert told.engine.completed == ["shard-0"]
    assert told.pool.seats["shard-0"].log.count("shard_ended") == 1


def test_a_shard_whose_end_is_not_stated_is_not_complete() -> None:
    told = Told(fine, bytes([1, 2, 3]))
    told.pool.first_words = Stated(Position(2), owes=True)
    told.run()
    assert set(told.engine.checkpoints) == {Position(2)}
    assert told.engine.completed == []
    assert told.runtime.needs_human
    assert {"human_called", "shard_stopped"} <= set(told.events)


def test_a_checkpoint_that_is_held_is_told_of_once() -> None:
    told = Told(fine, bytes([1]), bytes([2]), bytes([3]))
    told.pool.first_words = Stated(None, owes=True, gone=True)
    told.run()
    assert told.engine.checkpoints == []
    assert told.events.count("checkpoint_held") == 1
