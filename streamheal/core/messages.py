"""The whole conversation with the core: events in, decisions out. Plain values, nothing else.

A clean span costs `SpanArrived`, `SpanDone` and what they answer. A record gets an event of
its own only in trouble; it is then named by `At`: its span, and its place in it.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from streamheal.records import Position


class At(NamedTuple):
    """Which record: its span's number in this shard, and its place in that span from 0."""

    span: int
    nth: int


class Cause(Enum):
    """How one try of a record failed."""

    RAISED = auto()  # an exception: try again
    POISON = auto()  # Poison, DecodeError or a class in `poison`: the processor has said it
    THROTTLED = auto()  # the world is busy; not an attempt
    OVERRAN = auto()  # still running at its deadline: cancelled, or alone and its process killed for it
    CRASHED = auto()  # the process died while this ran in it, alone
    SUSPECTED = auto()  # not run: it came to the head of its lane, and `Give.ask` named it


class Verdict(Enum):
    """On what grounds a record is set aside."""

    SAID_SO = auto()  # the processor said so: Poison. No witness needed
    WITNESSED = auto()  # failed alone; others succeeded just before and just after
    THINLY = auto()  # failed alone several times; others succeeded in between
    NOBODY_ELSE = auto()  # failed alone for `patience_s`; there was nobody to ask
    LEFT_OVER = auto()  # failed the same way every time, while a later one succeeded
    STAYS = auto()  # failed its tries in a replay: it stays where it is
    KILLED_HOSTS = auto()  # hosts died while it ran in them alone; others have succeeded since


class Named(NamedTuple):
    """A record that the core must know by itself.

    `before` is the position just before it in its span, None for the span's first record.
    """

    at: At
    position: Position
    before: Position | None
    size: int = 0


# --- events ---------------------------------------------------------------------------


class SpanArrived(NamedTuple):
    """The engine brought a batch. How many records it holds, only the worker will know.

    `size` counts bytes as they came. `suspects` ran when a host died (durable marks of
    cautious mode); indexes in the span. `hosts_killed` says of each how many hosts have died
    while it ran in them alone; where it is shorter, none.
    """

    span: int
    size: int
    suspects: tuple[int, ...] = ()
    hosts_killed: tuple[int, ...] = ()


class SpanCounted(NamedTuple):
    """The worker has decoded the span. Comes before anything else that names one of its records."""

    span: int
    records: int


class SpanDone(NamedTuple):
    """No record of the span can run now.

    All are settled but those known already and those `held`: queued in the worker behind a
    blocked record of their key. `last` is None where the span holds no record at all.
    Counts the span too, where `SpanCounted` has not come before. `filtered` counts only
    records that were never known by themselves. `unmarked`: so many of those that are settled by
    this report are not by the worker's marks.
    """

    span: int
    records: int
    last: Position | None
    filtered: int = 0
    held: tuple[Named, ...] = ()
    unmarked: int = 0


class Done(NamedTuple):
    """A known record succeeded, in its lane or (alone) in a cell."""

    at: At
    filtered: bool = False
    alone: bool = False


class Failed(NamedTuple):
    """A try failed. The lane of the record's key is blocked from before this was sent.

    `began` and `ended` are the try's own times, on the clock of `now`. `likeness` is the
    failure's fingerprint: equal for failures of one kind. `used`: alone, but others had run
    before in that process, and what one of them left behind may have done it.
    """

    record: Named
    cause: Cause
    began: float
    ended: float
    likeness: str = ""
    alone: bool = False
    retry_after_s: float = 0.0
    used: bool = False


class RunsAgain(NamedTuple):
    """A span made of records that were done, but that their processor had yet to say so of: open again.

    It comes before all others, and `records` is counted already.
    """

    span: int
    records: int
    size: int


class WorkerDied(NamedTuple):
    """What it said before is already handled; the rest is read from its marks.

    Attributes:
        death: One number for all shards of the process.
        running: Records of this shard that were running.
        done: Known records marked done (True: filtered) but not reported.
        overran: Past their deadline: why we killed it. Empty when it died by itself, and when
            a batch overran, because nobody can say which of its records it was.
        running_total: Records running in the whole process, and shards whose processor was being initialized
            there: they may have ended it as well.
        by_us: Ended for no record's sake (a shard in it was given up, a hook overran, it leaked, it was
            stopped again and again): nobody is suspect.
        kept: Whatever its processor owed runs again: `again`, and what is marked open again.
        stood: Of the running, those that waited while another coroutine of the process was being
            resumed. What a thread did that one of them waits for, this cannot tell.
        held: The process stood still when they were late: whichever of the running held it, the others could not
            but be late as well.
    """

    death: int
    running: tuple[Named, ...]
    done: tuple[tuple[At, bool], ...] = ()
    overran: tuple[At, ...] = ()
    running_total: int = 0
    by_us: bool = False
    kept: bool = False
    again: RunsAgain | None = None
    stood: tuple[At, ...] = ()
    held: bool = False


class Witnessed(NamedTuple):
    """A record of this shard, begun at or after `since`, had succeeded by `until`.

    Comes exactly while the core is `curious`; besides, with every `Failed`, whatever the
    worker knows of the last success before it.
    """

    since: float
    until: float


class Stated(NamedTuple):
    """How far the processor says that it is done, where that is its own to say (`amazon_kclpy`).

    Comes before the core can hear that a record it is about is settled.

    Attributes:
        position: It answers for everything up to here; None: for what is settled by now.
        owes: It has returned from records beyond that, and has not said that they are done.
        gone: And never will: whoever owes that was alone with the record, and is gone.
    """

    position: Position | None
    owes: bool
    gone: bool = False


class Stored(NamedTuple):
    """The quarantine has acknowledged the write."""

    at: At


class StoreFailed(NamedTuple):
    at: At


class Checkpointed(NamedTuple):
    """The engine has kept the checkpoint; None: it failed."""

    position: Position | None


class Halted(NamedTuple):
    """Nothing of this shard runs any more, as `Order.HALT` asked for; this is what was left.

    Of the spans that were not reported, in stream order: those that marks say are over (as `SpanDone`
    has it), and behind them the first open record, if it is not the first of its span. Records that
    are the core's to decide about are not looked at.
    """

    done: tuple[SpanDone, ...] = ()
    first_open: Named | None = None


class Signal(Enum):
    TICKED = auto()
    LEASE_LOST = auto()
    SHUTDOWN_REQUESTED = auto()
    SHARD_ENDED = auto()  # no batch will come any more
    HEARD_OUT = auto()  # the hook of `HearOut` is over
    AT_TIP = auto()  # there was nothing more to read


Event = (
    SpanArrived | SpanCounted | SpanDone | Done | Failed | WorkerDied | Witnessed
    | Stated | Stored | StoreFailed | Checkpointed | Halted | Signal
)  # fmt: skip


# --- decisions ------------------------------------------------------------------------


class Start(NamedTuple):
    """Take a place in a worker, after `delay_s`. What follows is read there in order.

    `lanes_max` 1: one record at a time. `limit` 0: lanes start nothing by themselves yet.
    """

    lanes_max: int | None
    limit: int | None
    delay_s: float


class Give(NamedTuple):
    """A span, or what is left of it, in stream order. Clean spans name no record.

    Attributes:
        rest: Run every record marked open that is not named here.
        queued: Known records to run in their turn.
        hold: Ours: they block their keys until `Retry` or `Settle`.
        skip: Settled: as if they were not there.
        ask: Do not run: block the key and send `Failed` with `Cause.SUSPECTED`.
    """

    span: int
    rest: bool = True
    queued: tuple[int, ...] = ()
    hold: tuple[int, ...] = ()
    skip: tuple[int, ...] = ()
    ask: tuple[int, ...] = ()


class Limit(NamedTuple):
    """How many more records the lanes may start by themselves; None: as many as there are."""

    starts: int | None


class Retry(NamedTuple):
    """Run the blocked record again, in its lane."""

    at: At


class Settle(NamedTuple):
    """The blocked record is settled: its lane goes on with the next."""

    at: At


class RunAlone(NamedTuple):
    """Run the record in a process with nothing else in it. `solitary`: nor anywhere in the host.

    `fresh`: nothing has ever run in it. Else it may be one that others have run in, alone and well.
    """

    at: At
    solitary: bool = False
    fresh: bool = True


class Quarantine(NamedTuple):
    """Set the record aside. `since` and `until` bound the successes that were its witnesses."""

    at: At
    verdict: Verdict
    since: float | None = None
    until: float | None = None


class Checkpoint(NamedTuple):
    position: Position


class HearOut(NamedTuple):
    """Nothing more will run here: call the processor's last hook now, in which it may say that it is done."""

    shard_ended: bool


class LedgerBroken(NamedTuple):
    """The books do not add up, so that `checkpoint` is not made (see `balance.py`): let go of what runs.

    `open_counted`: how many records are open, by looking at each.
    """

    why: str
    checkpoint: Position
    read: int
    done: int
    quarantined: int
    filtered: int
    in_flight: int
    open_counted: int


class CallHuman(NamedTuple):
    """Nothing here can decide any more; `why` is a sentence."""

    why: str


class Order(Enum):
    ANSWER = auto()  # the engine may bring the next batch
    HALT = auto()  # kill what runs, and say what of it was done: `Halted`
    ABANDON = auto()  # kill what runs, forget the shard
    SHARD_COMPLETE = auto()  # ended, all settled, all checkpointed
    SHUTDOWN_COMPLETE = auto()  # stopped as asked
    STOP_SHARD = auto()  # it cannot go on without a human


Decision = (
    Start | Give | Limit | Retry | Settle | RunAlone | Quarantine | Checkpoint | HearOut | LedgerBroken | CallHuman
    | Order
)  # fmt: skip
