"""What host and worker say to each other: whole messages over a socket that keeps them whole.

    host   → worker   Take · Give · Regive · Limit · Again · Settled · Curious · Cautious · Permit · Leave · End
                      Show · Cancel · Ping · Drain · Alone · Go
    worker → host     Ready · Unready · Facts · Finished · Succeeded · Failure · Witness · Stated · Ended
                      Took · Waited · Heeded · Drained · Intends · Over · Heeds

A clean span costs one `Give` and one `Finished`, whatever its size. A message too long for
one datagram goes in parts.
"""

from __future__ import annotations

import msgspec

from streamheal.attempts import Outcome
from streamheal.records import Record

# The kernel refuses datagrams near the socket's buffer, which is 208 KiB where nobody changed
# it (net.core.wmem_default); macOS allows far less.
PART_BYTES = 32 * 1024

# No msgpack value begins with 0xC1.
_PART, _LAST_PART = b"\xc1\x00", b"\xc1\x01"


class Message(msgspec.Struct, array_like=True, tag=True):
    """One message. Its fields travel in order, after its name."""


# --- host to worker -------------------------------------------------------------------


class Take(Message):
    """Make a processor for this shard, and initialize it. `ran`: so many of its records ran when a process died."""

    seat: int
    shard_id: str
    stream: str
    lanes_max: int | None = None
    limit: int | None = None
    after: tuple[str, int] | None = None
    ran: int = 0


class Give(Message):
    """A span that lies in a slot. `taken`: the journal says what another worker left of it. `records`: how
    many another has counted in it, who has begun none; None: nobody has, or it is `taken`."""

    seat: int
    span: int
    serial: int
    slot: int
    length: int
    dialect: int
    after: tuple[str, int] | None = None
    taken: bool = False
    queued: tuple[int, ...] = ()
    hold: tuple[int, ...] = ()
    skip: tuple[int, ...] = ()
    ask: tuple[int, ...] = ()
    keyless: tuple[int, ...] = ()
    records: int | None = None


class Kept(msgspec.Struct, array_like=True):
    """One known record of a span whose slot is another's by now."""

    nth: int
    ticket: int
    held: bool
    record: Record
    keyless: bool = False
    ask: bool = False


class Regive(Message):
    """What is left of a span that another worker had reported already."""

    seat: int
    span: int
    records: tuple[Kept, ...]


class Limit(Message):
    seat: int
    starts: int | None


class Again(Message):
    """Run the blocked record again: a fresh copy, because user code may have changed the first."""

    seat: int
    span: int
    nth: int
    record: Record


class Settled(Message):
    seat: int
    span: int
    nth: int


class Curious(Message):
    seat: int
    wanted: bool


class Cautious(Message):
    """Whether to ask before anything begins."""

    seat: int
    wanted: bool


class Permit(Message):
    """What was asked for, with this record first, may begin."""

    seat: int
    span: int
    nth: int


class Leave(Message):
    seat: int


class End(Message):
    seat: int
    hook: str


class Show(Message):
    """Write where this record waits. For coroutines, which are on no thread's stack."""

    seat: int
    span: int
    nth: int


class Cancel(Message):
    """This record's coroutine is past its deadline: end it, if it lets itself be ended."""

    seat: int
    span: int
    nth: int


class Ping(Message):
    """Say that you take what you are told: nothing seems to run, or what runs is late."""

    seat: int


class Drain(Message):
    """Start no more records of this shard, whatever was said before; say so."""

    seat: int


class Alone(Message):
    """Be a cell: make and initialize a processor for this one record; wait for `Go`, then run it.

    To a cell that has `Succeeded` and can be used again: run this one too, of the same shard, in the same way.
    """

    shard_id: str
    stream: str
    record: Record
    after: tuple[str, int] | None = None


class Go(Message):
    """Run it now: everything printed until here has been read."""


ToWorker = (
    Take | Give | Regive | Limit | Again | Settled | Curious | Cautious | Permit | Leave | End | Show | Cancel | Ping
    | Drain | Alone | Go
)  # fmt: skip


# --- worker to host -------------------------------------------------------------------


class Facts(Message):
    """The processor has been imported; or, where `error` is not None, it cannot be used. `keys`: records go by a
    `key` of its own."""

    error: str | None = None
    class_name: str = ""
    mode: str = ""
    ordering: str = ""
    concurrency: int = 1
    deadline_s: float = 0.0
    attempts_max: int | None = None
    overrides: dict[str, int | float | str] = {}
    masks: bool = False
    masks_texts: bool = False
    modules: tuple[str, ...] = ()
    keys: bool = False


class Raised(msgspec.Struct, array_like=True):
    """An exception as data: see `attempts.Attempt`."""

    outcome: Outcome
    exception_type: str | None
    message: str
    traceback: str | None
    log: str | None
    frames: tuple[str, ...]
    where: str | None
    stack: str | None = None


class Ready(Message):
    seat: int


class Unready(Message):
    seat: int
    began: float
    ended: float
    raised: Raised


class Finished(Message):
    """Nothing of the span can run now. `tickets`: (place, ticket) of each record still open."""

    seat: int
    span: int
    records: int
    sequence: str | None
    sub_sequence: int
    filtered: int = 0
    tickets: tuple[tuple[int, int], ...] = ()


class Succeeded(Message):
    """A known record is done. `again`: from a cell, which could take another."""

    seat: int
    span: int
    nth: int
    filtered: bool = False
    again: bool = False


class Failure(Message):
    """A try failed; `since` and `until` bound the last success before it, as far as known.

    `cause` is the name of a `Cause`. `raised` is None for SUSPECTED.
    """

    seat: int
    span: int
    nth: int
    cause: str
    began: float
    ended: float
    retry_after_s: float = 0.0
    raised: Raised | None = None
    masked: bytes | None = None
    since: float | None = None
    until: float | None = None


class Witness(Message):
    seat: int
    since: float
    until: float


class Stated(Message):
    """How far the processor says that it is done; see `core.messages.Stated`. From a cell: nobody will say it."""

    seat: int
    sequence: str | None = None
    sub_sequence: int = 0
    owes: bool = False


class Ended(Message):
    seat: int
    began: float
    ended: float
    raised: Raised | None = None


class Took(Message):
    """How long one record took, or one call of a batch processor; told of a few."""

    seat: int
    seconds: float


class Waited(Message):
    """A blocked lane goes on: so long its records have waited behind its head, all of them together."""

    seat: int
    seconds: float


class Heeded(Message):
    """`Cancel` was taken, as an event loop does that turns; or `Ping` was."""

    seat: int


class Drained(Message):
    """What runs now is marked as running, and nothing more will start."""

    seat: int


class Intends(Message):
    """These (span, place) would begin now, together. They wait for a `Permit`."""

    seat: int
    places: tuple[tuple[int, int], ...]


class Over(Message):
    """These have ended. What became of them is said as ever."""

    seat: int
    places: tuple[tuple[int, int], ...]


class Heeds(Message):
    """From here on it asks. `running` began before."""

    seat: int
    running: tuple[tuple[int, int], ...] = ()


ToHost = (
    Facts | Ready | Unready | Finished | Succeeded | Failure | Witness | Stated | Ended | Took | Waited
    | Heeded | Drained | Intends | Over | Heeds
)  # fmt: skip

pack = msgspec.msgpack.Encoder().encode
unpack_for_worker = msgspec.msgpack.Decoder(ToWorker).decode
unpack_for_host = msgspec.msgpack.Decoder(ToHost).decode


def datagrams(message: Message) -> list[bytes]:
    raw = pack(message)
    if len(raw) <= PART_BYTES:
        return [raw]
    parts = [_PART + raw[start : start + PART_BYTES] for start in range(0, len(raw), PART_BYTES)]
    parts[-1] = _LAST_PART + parts[-1][len(_PART) :]
    return parts


class Joiner:
    """Puts parts together again. One a socket."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def whole(self, datagram: bytes) -> bytes | None:
        """The message that this datagram completes, or None: more is to come."""
        if datagram[:1] != _PART[:1]:
            return datagram
        self._parts.append(datagram[len(_PART) :])
        if datagram[: len(_PART)] != _LAST_PART:
            return None
        joined, self._parts = b"".join(self._parts), []
        return joined
