"""One shard's records, the processor, and the real core between them, in made-up time.

Nothing is decided here: what is tried again, judged, set aside or paused is what
`core.healer.Healer` decides in production too. Waiting costs nothing: the clock jumps to the
next moment at which the core wants to be woken.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import msgspec

from streamheal.attempts import fingerprint
from streamheal.core.halving import Halving
from streamheal.core.healer import Healer
from streamheal.core.host import Host
from streamheal.core.messages import (
    At,
    CallHuman,
    Checkpoint,
    Checkpointed,
    Decision,
    Done,
    Event,
    Failed,
    Give,
    Limit,
    Named,
    Order,
    Quarantine,
    Retry,
    RunAlone,
    Settle,
    Signal,
    SpanArrived,
    SpanCounted,
    SpanDone,
    Start,
    Stored,
    Witnessed,
)
from streamheal.core.policy import Policy
from streamheal.quarantine.envelope import Envelope
from streamheal.records import Position, Record, Shard
from streamheal.runtime.casebook import Casebook
from streamheal.testing.evidence import sealed, throttled, told
from streamheal.testing.lanes import Lanes
from streamheal.testing.others import Others
from streamheal.testing.subject import Subject

_SPAN_RECORDS_MAX = 500
_TRY_S = 0.001
# So long after the last success little more comes of waiting: probes are minutes apart by then.
_GIVE_UP_S = 600.0
_GOES_ON_EVERY_S = 1.0

# Whatever else is raised is for whoever runs the test: Ctrl-C, and what pytest.fail and
# pytest.skip raise.
_FAILURES = (Exception, SystemExit, asyncio.CancelledError, BaseExceptionGroup)


class Healing:
    """Runs one shard to its end.

    Attributes:
        done, filtered: Places in `records`.
        aside: Envelopes by place.
        errors: What the last try of each place raised.
        why: What a human was called for, last.
    """

    def __init__(
        self, shard: Shard, records: Sequence[Record], subject: Subject, policy: Policy, ordering: str
    ) -> None:
        self.records = records
        self.done: set[int] = set()
        self.filtered: set[int] = set()
        self.aside: dict[int, Envelope] = {}
        self.errors: dict[int, BaseException | None] = {}
        self.why: str | None = None
        self._shard = shard
        self._subject = subject
        self._ordering = ordering
        self._healer = Healer(shard.shard_id, policy, Host(policy))
        self._casebook = Casebook()
        self._lanes = Lanes()
        self._now = 0.0
        self._events: deque[Event] = deque()
        self._handling = False
        self._brought = 0  # records
        self._spans: list[range] = []  # places in `records`
        self._unreported: deque[int] = deque()
        self._filtered_unknown: dict[int, int] = {}
        self._known: set[At] = set()
        self._keyless: set[At] = set()
        self._limit: int | None = None
        self._may_bring = True
        self._again: deque[At] = deque()
        self._alone: deque[At] = deque()
        self._witness: tuple[float, float] | None = None
        self._ended = False
        self._goes_on = False
        self._others = Others()
        self._hopeful_until = _GIVE_UP_S

    def run(self, *, goes_on: bool) -> None:
        """Until all is settled, or nothing more will come of waiting.

        Args:
            goes_on: Others of the stream are taken to succeed meanwhile (see `Others`).
        """
        self._subject.initialize(self._shard)
        self._carry_out(self._healer.begin())
        self._goes_on = goes_on
        self._until_hopeless()
        ledger = self._healer.ledger
        assert ledger.read == ledger.done + ledger.quarantined + ledger.filtered + ledger.in_flight
        assert (ledger.done, ledger.filtered) == (len(self.done), len(self.filtered))
        self._subject.hook("shard_ended" if self._healer.over else "shutdown_requested")

    def _until_hopeless(self) -> None:
        while not self._healer.over and self._now < self._hopeful_until:
            if self._act():
                continue
            others_succeed = self._goes_on and self._others.succeed(self._healer.undecided, any_done=bool(self.done))
            wakes_at = self._healer.wakes_at
            if wakes_at is None and not others_succeed:
                return
            self._wait(wakes_at, others_succeed)

    def _act(self) -> bool:
        """Do one of the things that can be done now."""
        if self._alone:
            self._try(self._alone.popleft(), alone=True)
        elif self._again:
            self._try(self._again.popleft())
        elif self._limit != 0 and self._lanes.first() is not None:
            self._start()
        elif self._may_bring and self._brought < len(self.records):
            self._bring()
        elif not self._ended and self._brought == len(self.records):
            self._ended = True
            self._tell(Signal.SHARD_ENDED)
        else:
            return False
        self._report()
        return True

    def _wait(self, wakes_at: float | None, others_succeed: bool) -> None:
        due = self._now + _GOES_ON_EVERY_S if wakes_at is None else wakes_at
        if others_succeed:
            due = min(due, self._now + _GOES_ON_EVERY_S)
            if self._healer.curious:
                self._tell(Witnessed(self._now, self._tick() + _TRY_S))
        self._now = max(self._now + _TRY_S, due)
        self._tell(Signal.TICKED)

    # -- the engine's side -------------------------------------------------------------

    def _bring(self) -> None:
        places = range(self._brought, min(len(self.records), self._brought + _SPAN_RECORDS_MAX))
        self._brought = places.stop
        self._may_bring = False
        span = len(self._spans)
        self._spans.append(places)
        self._tell(SpanArrived(span, sum(len(self.records[place].data) for place in places)))

    def _place(self, at: At) -> int:
        return self._spans[at.span][at.nth]

    def _named(self, at: At) -> Named:
        # Records are known to the core by their places: whatever a test makes of sequence
        # numbers, the stream's order is that of the list.
        place = self._place(at)
        return Named(at, Position(place), Position(place - 1) if at.nth else None, len(self.records[place].data))

    # -- the worker's side -------------------------------------------------------------

    def _line_up(self, span: int) -> None:
        self._unreported.append(span)
        self._filtered_unknown[span] = 0
        for nth, place in enumerate(self._spans[span]):
            at, record = At(span, nth), self.records[place]
            try:
                lane = self._subject.lane(record, self._ordering)
            except _FAILURES:
                self._keyless.add(at)
                lane = record.partition_key
            self._lanes.line_up(at, lane)

    def _start(self) -> None:
        """Let the lanes begin: one record, or a batch where the processor takes batches."""
        if not self._subject.batches:
            self._count_start()
            self._try(self._lanes.start())
            return
        batch: list[At] = []
        while self._limit != 0 and len(batch) < _SPAN_RECORDS_MAX and self._lanes.first() is not None:
            self._count_start()
            batch.append(self._lanes.start())
        self._try_batch(batch)

    def _count_start(self) -> None:
        if self._limit is not None:
            self._limit -= 1

    def _copy(self, at: At) -> Record:
        """The record with the number of this try. The test's own object is left as it is."""
        return msgspec.structs.replace(self.records[self._place(at)], attempt=self._casebook.tries(at) + 1)

    def _try(self, at: At, *, alone: bool = False) -> None:
        record, began = self._copy(at), self._tick()
        failed: list[int] = []
        try:
            self._tell_key(at, record)
            if self._subject.batches:
                filtered = self._unwanted(record)
                if not filtered:
                    failed = self._subject.handle_all([record])
            else:
                filtered = self._subject.handle(record)
        except _FAILURES as error:
            self._failed(at, record, error, began, alone=alone)
            return
        if failed:
            self._failed(at, record, None, began, alone=alone)
        else:
            self._succeeded(at, began, filtered=filtered, alone=alone)

    def _try_batch(self, batch: list[At]) -> None:
        """Call with all of them; where that raises, find the culprit as a worker does."""
        wanted = []
        for at in batch:
            record, began = self._copy(at), self._tick()
            try:
                self._tell_key(at, record)
                filtered = self._unwanted(record)
            except _FAILURES as error:
                self._failed(at, record, error, began)
                continue
            if filtered:
                self._succeeded(at, began, filtered=True)
            else:
                wanted.append((at, record))
        halving = Halving(0, len(wanted) - 1)
        while run := halving.next_run():
            part, began = wanted[run[0] : run[1] + 1], self._tick()
            failed, raised = self._call_batch([record for _, record in part])
            if raised is not None and throttled(raised, self._subject):
                self._fail_all(wanted[run[0] :], raised, began)
                return
            culprit = halving.ran(raised is None)
            if raised is None:
                self._batch_ran(part, failed, began)
            elif culprit is not None:
                self._failed(*wanted[culprit], raised, began)
            if failed or culprit is not None:
                # Those of a key that is blocked now must wait: the lanes know which.
                for at, _ in wanted[run[1] + 1 :]:
                    self._lanes.put_back(at)
                return

    def _call_batch(self, records: list[Record]) -> tuple[list[int], BaseException | None]:
        try:
            return self._subject.handle_all(records), None
        except _FAILURES as error:
            return [], error

    def _fail_all(self, rest: list[tuple[At, Record]], error: BaseException, began: float) -> None:
        """The world is busy: to look for a culprit would only make it busier."""
        for at, record in rest:
            if self._lanes.is_blocked(at):
                self._lanes.put_back(at)
            else:
                self._failed(at, record, error, began)

    def _batch_ran(self, part: list[tuple[At, Record]], failed: list[int], began: float) -> None:
        for nth, (at, record) in enumerate(part):
            if nth in failed:
                self._failed(at, record, None, began)
            else:
                self._succeeded(at, began)

    def _unwanted(self, record: Record) -> bool:
        return self._subject.wants is not None and not self._subject.wants(record)

    def _tell_key(self, at: At, record: Record) -> None:
        if at in self._keyless and self._subject.key is not None:
            self._subject.key(record)

    def _tick(self) -> float:
        began = self._now
        self._now += _TRY_S
        return began

    def _succeeded(self, at: At, began: float, *, filtered: bool = False, alone: bool = False) -> None:
        (self.filtered if filtered else self.done).add(self._place(at))
        known = at in self._known
        if not alone:
            self._lanes.settle(at)
        if known:
            self._tell(Done(at, filtered, alone))
        elif filtered:
            self._filtered_unknown[at.span] += 1
        if not filtered:
            self._hopeful_until = self._now + _GIVE_UP_S
            self._witness = (began, self._now)
            self._others.succeeded(began)
            if self._healer.curious and not alone:
                self._tell_witness()

    def _tell_witness(self) -> None:
        if self._witness is not None:
            witness, self._witness = self._witness, None
            self._tell(Witnessed(*witness))

    def _failed(
        self, at: At, record: Record, error: BaseException | None, began: float, *, alone: bool = False
    ) -> None:
        self._lanes.block(at)
        self._known.add(at)
        self.errors[self._place(at)] = error
        cause, retry_after_s, attempt = told(
            error, self._subject, number=record.attempt, began=began, ended=self._now, alone=alone
        )
        self._casebook.add(at, attempt, self._subject.mask(record) if self._subject.mask else None)
        self._tell_witness()
        likeness = fingerprint(attempt)
        self._others.failed(at, began, likeness)
        self._tell(Failed(self._named(at), cause, began, self._now, likeness, alone, retry_after_s))

    def _report(self) -> None:
        """Spans of which nothing can run now."""
        first = self._lanes.first()
        while self._unreported and (first is None or first.span > self._unreported[0]):
            span = self._unreported.popleft()
            places = self._spans[span]
            held = tuple(self._named(at) for at in self._lanes.held(span) if at not in self._known)
            self._known.update(record.at for record in held)
            last = Position(places[-1])
            self._tell(SpanDone(span, len(places), last, self._filtered_unknown.pop(span), held))

    # -- the core's side ----------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        """Let the core decide, and do it. An event that comes of the doing waits its turn."""
        self._events.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._events:
                self._carry_out(self._healer.handle(self._events.popleft(), self._now))
        finally:
            self._handling = False

    def _carry_out(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Start(_, limit, _):
                    self._limit = limit
                case Limit(starts):
                    self._limit = starts
                case Give(span):
                    self._line_up(span)
                    self._events.append(SpanCounted(span, len(self._spans[span])))
                case Retry(at):
                    self._again.append(at)
                case RunAlone(at):
                    self._alone.append(at)
                case Settle(at):
                    self._lanes.settle(at)
                case Quarantine(at):
                    self._set_aside(at, decision)
                    self._events.append(Stored(at))
                case Checkpoint(position):
                    self._events.append(Checkpointed(position))
                case CallHuman(why):
                    self.why = why
                case Order.ANSWER:
                    self._may_bring = True
                case _:
                    pass  # the ends of a shard: `Healer.over` says so too

    def _set_aside(self, at: At, decision: Quarantine) -> None:
        place = self._place(at)
        self._others.convicted(at)
        self.aside[place] = sealed(
            self.records[place],
            decision,
            self._subject,
            attempts=self._casebook.attempts(at),
            masked=self._casebook.masked(at),
            stream=self._shard.stream,
            now=self._now,
        )
