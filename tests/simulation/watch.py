"""Looks over the runtime's shoulder: what a core hears and decides, and what is logged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamheal.core.messages import (
    At,
    Cause,
    Decision,
    Event,
    Failed,
    Order,
    RunAlone,
    Signal,
    Witnessed,
    WorkerDied,
)

if TYPE_CHECKING:
    from tests.simulation.oracle import Stream
    from tests.simulation.world import World

_TRIES = (Cause.RAISED, Cause.OVERRAN, Cause.CRASHED)
_TOLD = (Witnessed, Failed, WorkerDied)


def watched(world: World, stream: Stream) -> None:
    """From now on every event of the shard's present run is audited, and told in the transcript."""
    healer, number = stream.healer, stream.number
    assert healer is not None
    handle, oracle = healer.handle, world.oracle

    def handled(event: Event, now: float, jitter: float = 0.5) -> list[Decision]:
        if world.transcript is not None and event is not Signal.TICKED:
            world.note(f"{now:9.3f} s{number} {event}")
        if isinstance(event, _TOLD):
            _write_down(world, stream, event)
        cautious = healer.cautious
        decisions = handle(event, now, jitter)
        world.hosts.heard(stream, healer, cautious, now)
        if world.transcript is not None:
            for decision in decisions:
                world.note(f"{'':9} s{number}   -> {decision}")
        oracle.audit(healer)
        if event is Signal.TICKED and (wakes_at := healer.wakes_at) is not None and wakes_at <= now:
            oracle.fail(f"ticked at {now}, wants to be woken at {wakes_at}")
        if not decisions:
            return decisions
        unstated = (
            world.spec.states and healer.statements.limited(healer.ledger.watermark()) != healer.ledger.watermark()
        )
        if Order.STOP_SHARD in decisions and stream.deaths < world.spec.policy.deaths_stop and not unstated:
            oracle.fail(f"stopped after {stream.deaths} deaths")
        for decision in decisions:
            if isinstance(decision, RunAlone):
                stream.run.seat.items[decision.at].track.sent_at = now  # type: ignore[union-attr]  # it is our seat
        if Order.HALT in decisions:
            oracle.seen["shards halted"] += 1
        return decisions

    healer.handle = handled  # type: ignore[method-assign]  # the runtime must not know that it is watched


def _write_down(world: World, stream: Stream, event: Witnessed | Failed | WorkerDied) -> None:
    """Counted tries, for the oracle's own view of who failed in one way."""
    assert stream.run is not None
    items = stream.run.seat.items  # type: ignore[attr-defined]  # it is our seat
    tries: list[tuple[At, Cause, str]] = []
    if isinstance(event, Witnessed):
        stream.witnessed_since = max(stream.witnessed_since, event.since)
    elif isinstance(event, Failed):
        # That a deadline was passed is all that is known of a hang.
        if event.cause in _TRIES:
            tries = [(event.record.at, event.cause, "" if event.cause is Cause.OVERRAN else event.likeness)]
    else:
        tries = [(at, Cause.OVERRAN, "") for at in event.overran]
    for at, cause, likeness in tries:
        track = items[at].track
        track.failed.append((cause.name, likeness))
        # What another may have done that was left in a used cell, or held the process, is no failure of its own.
        left_there = isinstance(event, Failed) and event.used and cause is not Cause.RAISED
        if not (left_there or (isinstance(event, WorkerDied) and event.held and event.running_total > 1)):
            track.first_failed_at = min(track.first_failed_at, world.now)


class Log:
    """What a chronicle writes to: people are counted, the rest is told in the transcript."""

    def __init__(self, world: World) -> None:
        self._world = world

    def debug(self, event: str, **fields: Any) -> None: ...

    def info(self, event: str, **fields: Any) -> None:
        if self._world.transcript is not None:
            told = " ".join(f"{name}={value}" for name, value in fields.items() if name not in ("traceback", "stream"))
            self._world.note(f"           {event} {told}")

    def warning(self, event: str, **fields: Any) -> None:
        if event == "shard_abandoned":
            self._world.oracle.seen[event] += 1
            self._world.stream(fields["shard_id"]).abandoned = True
        self.info(event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        if event in ("human_called", "shard_stopped"):
            self._world.oracle.seen[event] += 1
        self.info(event, **fields)
        if event in ("ledger_broken", "rule_broken") and self._world.violation is None:
            # The runtime stops the shard and calls a human; here it is a bug of ours.
            self._world.oracle.fail(f"{event}: {fields.get('error') or fields.get('why')}")
