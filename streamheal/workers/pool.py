"""All worker processes of one host: who runs what, who stands by, who has died.

    spare (warm: the processor is imported)
      ├──► place             a worker, with any number of shards' seats (`places.py`)
      └──► cell              one record, alone

When a worker dies its place takes the spare at once, so that other keys flow again before a
new process could even have imported the processor.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque

from streamheal.errors import TargetError
from streamheal.records import Shard
from streamheal.workers import wire
from streamheal.workers.arena import Arena, Slot
from streamheal.workers.cells import Cells
from streamheal.workers.cgroups import Group
from streamheal.workers.child.birth import Birth
from streamheal.workers.deaths import BEGINNERS, OURS, Death, cause_of, how_it_died
from streamheal.workers.facts import gather_facts
from streamheal.workers.liveness import Liveness
from streamheal.workers.memory import Memory, mib
from streamheal.workers.nursery import Newborn, Nursery
from streamheal.workers.places import Place, Places
from streamheal.workers.port import Listener, Log, TargetFacts, WorkerOptions
from streamheal.workers.process import LOOK_EVERY_S, Process
from streamheal.workers.recycling import Recycler
from streamheal.workers.seat import ShardSeat
from streamheal.workers.watchdog import Watchdog

# After a death or a wish for a cell, two spares are kept for so long: the next death may be near.
_TROUBLE_S = 60.0
_WARMING_MAX = 2
# Shards that initialize at once in one process, where `initialize` may wait as coroutines do.
_BEGINNERS_MAX = 4
# Coroutines past their deadline whose stacks are asked for.
_SHOWN_MAX = 20
# At the end a process that was killed may be in a call that nothing interrupts.
_CLOSE_S = 5.0
_SPARE_RETRY_S_MIN, _SPARE_RETRY_S_MAX = 0.5, 30.0


class WorkerPool:
    """Implements `port.Pool`. Lives in one event loop.

    Args:
        ready_s_max: How long importing the processor may take.
        initialize_s_max, hook_s_max: How long `initialize` and the other hooks may take.
    """

    def __init__(
        self,
        options: WorkerOptions,
        log: Log,
        *,
        ready_s_max: float = 60.0,
        initialize_s_max: float = 60.0,
        hook_s_max: float | None = None,
    ) -> None:
        self.ready_s_max, self.initialize_s_max = ready_s_max, initialize_s_max
        self.hook_s_max = options.deadline_s if hook_s_max is None else hook_s_max
        self.watchdog, self.liveness, self.memory = Watchdog(), Liveness(log), Memory(options, log)
        self.recycler = Recycler(self.memory, self.watchdog, log)
        self.cells = Cells(self, options.cells_max)
        self.nursery = Nursery(log)
        self.batches = False
        self.loop: asyncio.AbstractEventLoop
        self._options, self._log = options, log
        self._arena = Arena()
        self._places = Places(options.workers)
        self._seats: dict[Process, dict[int, ShardSeat]] = {}
        self._unborn = 0
        self._warming: set[Process] = set()
        self._warm: deque[Process] = deque()
        self._living: set[Process] = set()
        self._late_slots: dict[Process, list[Slot]] = {}
        self._first: asyncio.Future[wire.Facts] | None = None
        self._serials = self._numbers = self._deaths = 0
        self._trouble_until = 0.0
        self._spare_failures = 0
        self._spares_from = 0.0
        self._tick: asyncio.TimerHandle | None = None
        self._opened = self._closing = False

    # -- port.Pool -----------------------------------------------------------------------

    async def open(self) -> TargetFacts:
        self.loop = asyncio.get_running_loop()
        self._first = self.loop.create_future()
        self.memory.open()
        await self.nursery.open()
        self._spawn()
        try:
            facts = await asyncio.wait_for(self._first, self.ready_s_max)
        except TimeoutError:
            for process in self._warming:
                process.kill("import")
            raise TargetError(
                f"importing {self._options.target.partition(':')[0]} takes longer than {self.ready_s_max:.0f} s"
                "   (TARGET)"
            ) from None
        if facts.error is not None:
            raise TargetError(facts.error)
        used = max((process.status.anonymous_bytes or 0 for process in self._warm), default=0)
        if self.memory.each is not None and used > self.memory.each:
            raise TargetError(
                f"once imported, {self._options.target} uses {mib(used)} MiB, and a worker may use no more than "
                f"{mib(self.memory.each)} MiB   (--worker-memory)"
            )
        self.watchdog.deadline_s = facts.deadline_s
        self.batches = facts.mode == "batch"
        self._places.beginners_max = _BEGINNERS_MAX if facts.mode == "async" else 1
        self._opened = True
        self.memory.tell()
        self._look()
        return await gather_facts(self._options.target, facts)

    def take_slot(self) -> Slot | None:
        return self._arena.take()

    def give_back(self, slot: object) -> None:
        assert isinstance(slot, Slot), f"{slot!r} is no slot of this pool"
        self._arena.give_back(slot)

    def seat(self, shard: Shard, listener: Listener) -> ShardSeat:
        return ShardSeat(self, shard, listener)

    async def close(self) -> None:
        self._closing = True
        if self._tick is not None:
            self._tick.cancel()
        self.nursery.close()
        processes = list(self._living)
        for process in processes:
            process.kill("close")
        if processes:
            await asyncio.wait([asyncio.ensure_future(process.dead.wait()) for process in processes], timeout=_CLOSE_S)
        for process in processes:
            if not process.dead.is_set():
                process.bury()
        self._arena.close()
        self.memory.close()

    # -- what seats and cells ask for ------------------------------------------------------

    def next_serial(self) -> int:
        """Names one use of a slot, so that marks of an earlier use are never taken for it."""
        self._serials += 1
        return self._serials

    def seat_waits(self, seat: ShardSeat) -> None:
        self._sit(self._places.take(seat))
        self.tend()

    def seat_left(self, seat: ShardSeat) -> None:
        if seat.process is not None:
            self._seats[seat.process].pop(seat.number, None)
        place = seat.place
        alone = self._places.leave(seat)
        seat.process = seat.due = None
        seat.stage = "out"
        if alone is not None:
            alone.kill("by_us")
        elif place is not None:
            self._sit(place)

    def seat_began(self, seat: ShardSeat) -> None:
        """Its processor is initialized, and another's may be."""
        assert seat.place is not None
        self._sit(seat.place)

    def give_back_later(self, process: Process, slots: list[Slot]) -> None:
        """The process may read them until it is dead."""
        self._late_slots.setdefault(process, []).extend(slots)

    # -- who stands where ------------------------------------------------------------------

    def tend(self) -> None:
        """Put warm processes where they are wanted, and warm as many more as will be."""
        if self._closing or not self._opened:
            return
        for place in self._places:
            if self._warm and place.awaited:
                self._settle_in(place, self._warm.popleft())
        # The last spare is kept for the next death: there everything healthy waits, here one key.
        while len(self._warm) > 1 and self.cells.lacking:
            self.cells.take(self._warm.popleft())
        now = self.loop.time()
        if self.cells.lacking:
            self._trouble_until = now + _TROUBLE_S
        wanted = self.cells.lacking + (2 if now < self._trouble_until else 1)
        wanted += sum(place.process is None and bool(place.seats) for place in self._places)
        while (warming := len(self._warming) + self._unborn) < _WARMING_MAX and warming + len(self._warm) < wanted:
            if now < self._spares_from:
                break
            self._spawn()

    def _settle_in(self, place: Place, process: Process) -> None:
        place.process = process
        process.label = f"worker {place.index}"
        self._seats[process] = {}
        self._log.debug("worker_started", worker=place.index, pid=process.pid)
        self._sit(place)

    def _sit(self, place: Place) -> None:
        while (seat := self._places.next_to_begin(place)) is not None:
            assert place.process is not None
            self._numbers += 1
            self._seats[place.process][self._numbers] = seat
            self.memory.begins(place.process)
            seat.sit(place.process, self._numbers)

    def _spawn(self) -> None:
        options, group = self._options, self.memory.new_group()
        birth = Birth(
            parent=os.getpid(),
            arena=self._arena.fd,
            target=options.target,
            ordering=options.ordering,
            concurrency=options.concurrency,
            deadline_s=options.deadline_s,
            group=None if group is None else group.path,
        )
        self._unborn += 1
        self.nursery.bear(birth, lambda newborn: self._born(newborn, group))

    def _born(self, newborn: Newborn | OSError, group: Group | None) -> None:
        self._unborn -= 1
        if isinstance(newborn, OSError):
            self._not_born(newborn, group)
            return
        process = Process(self, newborn, self.loop, group)
        self._living.add(process)
        self._warming.add(process)

    def _not_born(self, error: OSError, group: Group | None) -> None:
        """Whoever waits for a process waits on: what is lacking now may be there soon."""
        self.memory.left(group)
        why = f"no process can be started: {error.strerror}"
        if self._first is not None and not self._first.done():
            self._first.set_result(wire.Facts(error=why))
        elif not self._closing:
            self._log.warning("process_not_started", why=why, again_in_s=self._put_off())

    def _put_off(self) -> float:
        """In how many seconds there is another try."""
        wait_s = min(_SPARE_RETRY_S_MAX, _SPARE_RETRY_S_MIN * 2.0**self._spare_failures)
        self._spare_failures += 1
        self._spares_from = self.loop.time() + wait_s
        return wait_s

    # -- process.Owner ---------------------------------------------------------------------

    def heard(self, process: Process, message: wire.ToHost) -> None:
        if isinstance(message, wire.Facts):
            self._warmed(process, message)
        elif isinstance(message, wire.Heeded):
            process.heeded_s = process.awake_s
        elif isinstance(message, wire.Drained):
            assert process.draining is not None
            process.draining.discard(message.seat)
        elif self.cells.has(process):
            self.cells.heard(process, message)
        elif not isinstance(message, wire.Ready | wire.Unready) or process.doomed is None:
            number: int = message.seat
            seat = self._seats.get(process, {}).get(number)
            if seat is not None:
                seat.heard(message)

    def _warmed(self, process: Process, facts: wire.Facts) -> None:
        self._warming.discard(process)
        self.memory.imported(process)
        if facts.error is None and process.doomed is None:
            self._warm.append(process)
            self._spare_failures = 0
        else:
            self._spare_failed(process, facts.error or "")
        if self._first is not None and not self._first.done():
            self._first.set_result(facts)
        self.tend()

    def _spare_failed(self, process: Process, why: str) -> None:
        process.kill("spare failed")
        if self._opened and not self._closing:
            self._log.warning("spare_died", pid=process.pid, why=why, again_in_s=self._put_off())

    def printed(self, process: Process, stream_name: str, line: str) -> None:
        # What a processor masks is masked in the worker; lines as they come are not.
        withheld = process.facts is not None and process.facts.masks_texts
        shown = "(withheld: the processor masks its texts)" if withheld else line
        self._log.info("worker_output", worker=process.name, stream_name=stream_name, line=shown)

    def died(self, process: Process) -> None:
        self._living.discard(process)
        self.memory.died(process)
        for slot in self._late_slots.pop(process, ()):
            self._arena.give_back(slot)
        if self._closing:
            for seat in self._seats.pop(process, {}).values():
                seat.process = None
            return
        if process in self._warming:
            self._warming.discard(process)
            self._import_died(process)
        elif process in self._warm:
            self._warm.remove(process)
            self._log.warning("spare_died", pid=process.pid, why=how_it_died(process), again_in_s=0.0)
        elif self.cells.has(process):
            self._say_died(process, 1, cause_of(process, in_cell=True), 1)
            self.cells.died(process)
        elif process in self._seats:
            self._worker_died(process)
        self.watchdog.buried(process)
        self.recycler.buried(process)
        self.tend()

    def _import_died(self, process: Process) -> None:
        last = (process.tail.text() or "").strip().rsplit("\n", 1)[-1]
        module = self._options.target.partition(":")[0]
        why = f"{module} ends the process while it is imported: {how_it_died(process)}" + (f" ({last})" if last else "")
        if process.doomed == "import":
            why = f"importing {module} takes longer than {self.ready_s_max:.0f} s"
        if self._first is not None and not self._first.done():
            option = "TARGET" if process.grew is None else "--worker-memory"
            self._first.set_result(wire.Facts(error=f"{why}   ({option})"))
        else:
            self._spare_failed(process, why)

    def _worker_died(self, process: Process) -> None:
        """The place takes the spare at once; then each shard hears what it has lost."""
        self._trouble_until = self.loop.time() + _TROUBLE_S
        self._deaths += 1
        seats = list(self._seats.pop(process).values())
        losses = {seat: seat.lost() for seat in seats}
        total = sum(len(loss.running) for loss in losses.values())
        stepping = any(loss.stepping is not None for loss in losses.values())
        if (place := self._places.of(process)) is not None:
            place.process = None
            if self._warm and not place.apart:
                self._settle_in(place, self._warm.popleft())
        cause = cause_of(process)
        self._say_died(process, total, cause, 1 if stepping and process.doomed is None else total)
        if seats and process.doomed not in OURS:
            seats[0].listener.worker_died(cause)
        begun = 0 if process.doomed not in BEGINNERS else sum(seat.stage == "initializing" for seat in seats)
        death = Death(self._deaths, total + begun, stepping)
        for seat, loss in losses.items():
            seat.bereaved(process, loss, death)

    def _say_died(self, process: Process, running: int, cause: str, suspects: int) -> None:
        # Because its shard was given up, or because it leaked: our doing, and nobody's trouble.
        tell = self._log.debug if process.doomed in OURS else self._log.warning
        tell(
            "worker_died",
            worker=process.name,
            cause=cause,
            signal=process.signal_name,
            exit_code=process.exit_code,
            why=process.doomed,
            state=process.state,
            running=running,
            suspects=suspects,
        )

    # -- the clock -------------------------------------------------------------------------

    def _look(self) -> None:
        if self._closing:
            return
        now = self.loop.time()
        self.liveness.look(self._living, self.watchdog.step(now), now)
        self.memory.look(self._living)
        self.nursery.look(now, ours={process.pid for process in self._living})
        for process, seats in list(self._seats.items()):
            if process.doomed is None:
                self._look_at(process, list(seats.values()))
            process.beginning = not seats or any(seat.stage == "initializing" for seat in seats.values())
        self.cells.look()
        workers = [(process, list(seats.values())) for process, seats in self._seats.items()]
        self.recycler.look(workers, spare=bool(self._warm), now=now)
        for process in list(self._warming):
            if process.awake_s > self.ready_s_max:
                process.kill("import")
        while len(self._warm) > 2 or (len(self._warm) > 1 and now > self._trouble_until and not self.cells.lacking):
            self._retire(self._warm.pop())
        self.tend()
        self._tick = self.loop.call_later(LOOK_EVERY_S, self._look)

    def _look_at(self, process: Process, seats: list[ShardSeat]) -> None:
        for seat in seats:
            seat.count()
        late = self.watchdog.look(process, seats)
        if (hooked := self.watchdog.late_hook(process, seats)) is not None:
            process.kill_with_stack("initialize" if hooked.stage == "initializing" else "hook")
        elif self.watchdog.held_out(process, late):
            process.overran = late
            show = [wire.Show(seat.number, *at) for seat, ats in late.items() for at in sorted(ats)]
            process.kill_with_stack("deadline", show[:_SHOWN_MAX])
        elif not late and self.watchdog.deaf(process, seats):
            process.kill_with_stack("deaf")

    def _retire(self, spare: Process) -> None:
        spare.kill("retired")
