"""Cautious mode: where hosts have died before, the next life must know who ran if this one dies, too.

    worker, cell ── intends ──► waits ──► admitted ──► written (one write for all of a shard) ──► permitted
                                            │
                                            └─ core's Solitude: together, or alone in the whole host

All shards of a host are cautious while one is: a death of the host says something of a record that
ran alone only if it is known that nothing else did. Who is asked about, whether somebody is
convicted, and when it is over is the core's to decide (`core/caution.py`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from streamheal.attempts import Attempt, utc_text
from streamheal.core.caution import Solitude
from streamheal.core.messages import At, Done, Event, Failed, Named, SpanArrived, WorkerDied
from streamheal.quarantine.prose import HOST_DIED
from streamheal.records import Position, Shard
from streamheal.runtime.telling import names_of
from streamheal.state.marks import Death, Found, Running, Suspect

if TYPE_CHECKING:
    from streamheal.runtime.runtime import Runtime
    from streamheal.runtime.shard import ShardRun


class Marks(Protocol):
    """What must be remembered about who runs; blocking (see `state.marks.Marks`)."""

    def begin(self, shard_id: str, life: str, after: Position | None, now: float) -> Found: ...
    def write(self, shard_id: str, life: str, running: Sequence[Running], *, claim: bool = False) -> bool: ...
    def clear(self, shard_id: str, life: str) -> None: ...
    def leave(self, shard_id: str, life: str) -> None: ...


class HostCaution:
    """Whether this host is cautious, and all its shards' marks."""

    def __init__(self, runtime: Runtime, marks: Marks, life: str) -> None:
        self.runtime, self.marks, self.life = runtime, marks, life
        self.solitude: Solitude = runtime.core_host.solitude
        self.on = False
        # By shard: it may come back before its last stay, of the same life, has taken back what it marked.
        self.writing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._shards: list[ShardCaution] = []

    async def found(self, shard: Shard, after: Position | None) -> Found:
        runtime = self.runtime
        async with self.writing[shard.shard_id]:
            now = runtime.wall_clock()
            found: Found = await runtime.insist(lambda: self.marks.begin(shard.shard_id, self.life, after, now))
        if not found.readable:
            runtime.chronicle.warning("marks_unreadable", **names_of(shard))
        return found

    def joins(self, caution: ShardCaution) -> None:
        self._shards.append(caution)
        if self.on:
            caution.turn(True)
        self.look()

    def leaves(self, caution: ShardCaution) -> None:
        if caution in self._shards:
            self._shards.remove(caution)
            self.look()

    def look(self) -> None:
        """Everything that follows from how the cores stand now."""
        on = any(caution.run.healer.cautious for caution in self._shards)
        # While it is written down that somebody has the host for itself, nobody else may run unheard of.
        on |= self.on and any(caution.marked_alone for caution in self._shards)
        if on is not self.on:
            self.on = on
            for caution in list(self._shards):
                caution.turn(on)

    def go_on(self) -> None:
        """Somebody has ended: others may be admitted."""
        for caution in self._shards:
            caution.go_on()


class _Wish(NamedTuple):
    """What would begin together: one record, or a call of a batch processor."""

    records: tuple[Named, ...]
    in_cell: bool


class ShardCaution:
    """One shard's marks: who waits, who runs, and what of that is durable."""

    def __init__(self, host: HostCaution, run: ShardRun, suspects: Sequence[Suspect]) -> None:
        self.run = run
        self.on = False
        self._host = host
        self._suspects = {suspect.position: suspect for suspect in suspects}
        self._suspected: dict[At, Suspect] = {}
        self._solitary: set[At] = set()  # they run alone in the host, when they run in a cell
        self._waiting: dict[At, _Wish] = {}
        self._admitted: dict[At, _Wish] = {}
        self._running: dict[At, Running] = {}
        self._cells: set[At] = set()
        self._left_alone: list[At] = []  # their marks must go before anybody else may begin
        self._stale = self._wrote = self._claimed = self._working = False
        self._was_wanted = run.healer.cautious
        self._writing = host.writing[run.shard.shard_id]

    # -- what earlier lives have left ----------------------------------------------------

    def arrived(self, span: int, size: int) -> SpanArrived:
        """The event of a new span, with those of its records that ran when hosts died."""
        if not self._suspects:
            return SpanArrived(span, size)
        places = self.run.seat.places(span, self._suspects)
        found = [(nth, self._suspects.pop(position)) for nth, position in places]
        self._suspected.update({At(span, nth): suspect for nth, suspect in found})
        killed = tuple(len(suspect.alone) for _, suspect in found)
        return SpanArrived(span, size, tuple(nth for nth, _ in found), killed)

    def attempts(self, at: At) -> list[Attempt]:
        """What hosts' deaths looked like to this record, once."""
        suspect = self._suspected.pop(at, None)
        return [] if suspect is None else [_attempt(death) for death in suspect.deaths]

    # -- on and off ----------------------------------------------------------------------

    def look(self) -> None:
        """Whether anything follows from how the core stands now, after any event."""
        wanted = self.run.healer.cautious
        if wanted is not self._was_wanted:
            self._was_wanted = wanted
            self._host.look()

    @property
    def marked_alone(self) -> bool:
        return bool(self._left_alone) or any(running.alone for running in self._running.values())

    def turn(self, on: bool) -> None:
        run, log = self.run, self._host.runtime.chronicle
        names = names_of(run.shard)
        if on is self.on or run.over:
            return
        self.on = on
        if on:
            log.warning("shard_cautious", **names, suspects=len(self._suspects), why=self._why())
            self._host.solitude.hold(self)  # until it is known what runs
            run.seat.cautious(True)
            return
        self._forget()
        self._suspects.clear()  # what has not come by now will not come any more
        run.seat.cautious(False)
        if not run.healer.over:
            log.info("shard_at_full_speed", **names)
            self._host.runtime.spawn(self._clear())

    def _why(self) -> str:
        if self._suspects:
            return "hosts have died while these records ran"
        if self.run.healer.cautious:
            return "a host began here before, and has made no progress"
        return "another shard of this host is"

    def leave(self) -> None:
        """The shard is not run here any more, and nobody has died of it."""
        self.on = False
        # What was never written keeps nobody waiting.
        alone = [at for at, running in self._running.items() if running.alone]
        marked_alone = [*self._left_alone, *alone] if self._wrote else []
        self._forget(but=marked_alone)
        self._left_alone = marked_alone
        if not marked_alone:
            self._host.leaves(self)
        if self._wrote:
            self._host.runtime.spawn(self._leave())

    def _forget(self, but: Collection[At] = ()) -> None:
        for at in (*self._waiting, *self._running, *self._left_alone):
            if at not in but:
                self._host.solitude.leave((self, at))
        self._host.solitude.leave(self)
        for kept in (self._waiting, self._admitted, self._running, self._cells, self._left_alone):
            kept.clear()
        self._host.go_on()

    async def _clear(self) -> None:
        host, shard_id = self._host, self.run.shard.shard_id
        async with self._writing:
            if not self.on:
                await host.runtime.insist(lambda: host.marks.clear(shard_id, host.life))

    async def _leave(self) -> None:
        host, shard_id = self._host, self.run.shard.shard_id
        async with self._writing:
            await host.runtime.insist(lambda: host.marks.leave(shard_id, host.life))
        self._forget()
        host.leaves(self)

    # -- what workers and cells say ---------------------------------------------------------

    def runs_alone(self, at: At, solitary: bool) -> None:
        if solitary:
            self._solitary.add(at)

    def intends(self, records: tuple[Named, ...], in_cell: bool) -> None:
        if self.on:
            self._waiting[records[0].at] = _Wish(records, in_cell)
            self.go_on()
        else:
            self.run.seat.permit(records[0].at)

    def through(self, ats: Iterable[At]) -> None:
        """In their worker. Who failed there may run in a cell by now, or wait for one, before the worker says this."""
        self._over([at for at in ats if at not in self._cells], in_cell=False)

    def _over(self, ats: Iterable[At], *, in_cell: bool) -> None:
        for at in ats:
            self._cells.discard(at)
            if at in self._waiting and self._waiting[at].in_cell is in_cell:
                del self._waiting[at]
            self._admitted.pop(at, None)
            running = self._running.pop(at, None)
            if running is not None and running.alone:
                self._left_alone.append(at)
                self._stale = True
            elif at not in self._left_alone:  # else it may have been to begin again, and the mark is not gone yet
                self._host.solitude.leave((self, at))
        self._host.go_on()

    def heeds(self, running: tuple[Named, ...], alone: tuple[Named, ...]) -> None:
        # Of those in cells some may have been permitted meanwhile: they are marked already, maybe as alone.
        before = tuple(record for record in alone if record.at not in self._running)
        self._cells.update(record.at for record in before)
        running = running + before
        for record in running:
            self._mark(record, alone=False)
            self._host.solitude.hold((self, record.at))
        self._stale |= bool(running)
        self._host.solitude.leave(self)
        self._host.go_on()

    def hears(self, event: Event) -> None:
        """Any event of the seat's, before the core hears of it."""
        match event:
            case Failed(record, alone=True):
                self._over((record.at,), in_cell=True)
            case Done(at, alone=True):
                self._over((at,), in_cell=True)
            case WorkerDied():
                # What waited in it, or ran, does so no more. Cells are processes of their own.
                self.through({*self._waiting, *self._admitted, *self._running})

    # -- writing ------------------------------------------------------------------------------

    def go_on(self) -> None:
        if self.on and not self._working and (self._admit() or self._stale):
            self._working = True
            self._host.runtime.spawn(self._write())

    def _admit(self) -> bool:
        """Let those begin that may, once it is written down; whether there are any."""
        for first, wish in list(self._waiting.items()):
            if first in self._left_alone:
                continue  # it has run alone just now: what ends then must not be taken for the end of this
            alone = wish.in_cell and first in self._solitary
            keys = [(self, record.at) for record in wish.records]
            if not (self._host.solitude.be_alone(keys[0]) if alone else all(map(self._host.solitude.join, keys))):
                continue
            del self._waiting[first]
            self._admitted[first] = wish
            for record in wish.records:
                self._mark(record, alone)
            if wish.in_cell:
                self._cells.add(first)
        return bool(self._admitted)

    def _mark(self, record: Named, alone: bool) -> None:
        self._running[record.at] = Running(record.position, self._host.runtime.wall_clock(), alone)

    async def _write(self) -> None:
        host, shard_id = self._host, self.run.shard.shard_id
        while self.on and (self._admit() or self._stale):
            admitted, left_alone = list(self._admitted), list(self._left_alone)
            running, claim = list(self._running.values()), not self._claimed
            self._stale = False
            self._wrote = True
            async with self._writing:
                write = partial(host.marks.write, shard_id, host.life, running, claim=claim)
                ours = await host.runtime.insist(write)
            for at in left_alone:
                host.solitude.leave((self, at))
            self._left_alone = [at for at in self._left_alone if at not in left_alone]
            if not ours:
                host.go_on()
                return  # another host has begun the shard: nothing may begin here, and we will hear of it
            self._claimed = True
            for at in admitted:
                if self._admitted.pop(at, None) is not None:
                    self.run.seat.permit(at)
            if left_alone:
                host.go_on()
                host.look()
        self._working = False


def _attempt(death: Death) -> Attempt:
    """The time it took is the most that it can have taken: when the host died, nobody has seen."""
    alone = "alone in it" if death.alone else "in it, beside others"
    return Attempt(
        number=0,
        started_at=utc_text(datetime.fromtimestamp(death.since, UTC)),
        duration_s=max(0.0, death.until - death.since),
        outcome="crash",
        message=f"{HOST_DIED} while this record ran {alone}",
        worker=f"a host that died (its life {death.life})",
        alone=death.alone,
    )


class CautiousRun:
    """A shard's run, as far as it hears of caution (`workers.port.Listener`)."""

    caution: ShardCaution

    def intends(self, records: tuple[Named, ...], *, alone: bool = False) -> None:
        self.caution.intends(records, alone)

    def through(self, ats: tuple[At, ...]) -> None:
        self.caution.through(ats)

    def heeds(self, running: tuple[Named, ...], alone: tuple[Named, ...] = ()) -> None:
        self.caution.heeds(running, alone)
