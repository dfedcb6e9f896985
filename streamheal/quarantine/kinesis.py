"""A quarantine in a Kinesis stream: an envelope a record, under the original partition key.

    the stream    envelopes as they were sealed, some twice: a put is not idempotent there
    S3 (spill)    the bytes of records that have no room in one of the stream's
    the state     what became of them since

Readers take the first of several copies.
"""

from __future__ import annotations

import base64
import heapq
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import msgspec
import structlog
from botocore.exceptions import BotoCoreError, ClientError

from streamheal.config import aws
from streamheal.errors import StoreError, StoreUnavailable, Unavailable, UsageError
from streamheal.quarantine import reading, sending
from streamheal.quarantine.base import Selection
from streamheal.quarantine.became import Became, Memory
from streamheal.quarantine.bucket import Bucket
from streamheal.quarantine.envelope import Envelope, Status
from streamheal.quarantine.stream import Place, Stream

# A replay reads one by one what a scan has found a moment ago, and Kinesis allows five reads a second.
_KEPT_BYTES_MAX = 64 << 20
_ORDERED_BYTES_MAX = 32 << 20

_PROBE = b'{"streamheal": "probe"}'
_HASH_KEY_OUT_OF_RANGE = str(2**128)


class KinesisStore:
    """Implements `Store`.

    Args:
        spill: Where the bytes go that have no room in the stream; None: such records cannot be kept.
        memory: Where it is kept what became of envelopes.
    """

    def __init__(self, url: str, stream: str, spill: Bucket | None, memory: Memory, options: aws.AwsOptions) -> None:
        self.url = url
        self._stream = Stream(stream, options)
        self._spill = spill
        self._options = options
        self._sender = sending.Sender(self._stream, spill)
        self._became = Became(memory)
        self._places: dict[str, Place] = {}  # by id, of first copies
        self._read_to: dict[str, str] = {}  # by shard, as far as `_places` knows it
        self._kept: OrderedDict[Place, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._indexing = threading.Lock()

    def check(self) -> None:
        name = self._stream.name
        try:
            facts = self._stream.client().describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
            if facts["StreamStatus"] == "CREATING":
                raise StoreUnavailable(f"stream {name} is being made")
            self._stream.client().list_shards(StreamName=name, MaxResults=1)
            self._may_put()
        except (BotoCoreError, ClientError) as error:
            if aws.code(error) == "ResourceNotFoundException":
                raise UsageError(
                    f"there is no stream {name} to keep quarantined records in. Create it with: aws kinesis "
                    f"create-stream --stream-name {name} --stream-mode-details StreamMode=ON_DEMAND"
                ) from error
            explained = aws.explain(error, f"write to and read stream {name}")
            raise StoreUnavailable(str(explained)) if isinstance(explained, Unavailable) else explained from error
        self._sender.record_bytes_max = facts.get("MaxRecordSizeInKiB", 1024) * 1024
        if self._spill is not None:
            self._spill.check()
        else:
            structlog.get_logger("streamheal").warning(
                "quarantine_cannot_spill",
                stream=name,
                record_bytes_max=self._sender.record_bytes_max,
                advice=f"a larger envelope cannot be kept, and its shard waits: kinesis://{name}?spill=s3://bucket/prefix",
            )

    def _may_put(self) -> None:
        """Whether we may is decided before whether the hash key is one: nothing is written."""
        try:
            self._stream.client().put_record(
                StreamName=self._stream.name,
                Data=_PROBE,
                PartitionKey="probe",
                ExplicitHashKey=_HASH_KEY_OUT_OF_RANGE,
            )
        except ClientError as error:
            if aws.code(error) not in ("InvalidArgumentException", "ValidationException"):
                raise

    def put(self, envelopes: Sequence[Envelope]) -> list[StoreError | StoreUnavailable | None]:
        return self._sender.send(envelopes)

    # -- reading ---------------------------------------------------------------------------

    def get(self, id_prefix: str) -> Envelope:
        return self._fetched(self._became.merged(self._stored(id_prefix)))

    def _stored(self, id_prefix: str) -> Envelope:
        """As it lies in the stream."""
        with self._indexing:
            if id_prefix not in self._places:
                for _ in self._read(dict(self._read_to)):
                    pass
            ids = [id_prefix] if id_prefix in self._places else [id for id in self._places if id.startswith(id_prefix)]
            place = self._places[reading.the_one(id_prefix, ids)]
            data = self._kept.get(place) or self._reread(place)
        return reading.decode(data, f"{self._stream.name} {place}")

    def _reread(self, place: Place) -> bytes:
        found = self._stream.from_place(place)
        if not found or found[0][0] != place:
            raise StoreError(f"stream {self._stream.name} has forgotten {place}: its retention is over")
        # Whoever reads one by one will want those behind it next.
        for one, data in reversed(found):
            self._keep(one, data)
        return found[0][1]

    def _fetched(self, envelope: Envelope) -> Envelope:
        """With the bytes that spilled, as far as they are to be had."""
        if envelope.data_base64 is not None or envelope.data_ref is None:
            return envelope
        name, _, key = envelope.data_ref.removeprefix("s3://").partition("/")
        found = Bucket(name, "", self._options).get(key)
        if found is None:
            return envelope
        return msgspec.structs.replace(envelope, data_base64=base64.b64encode(found[0]).decode())

    def scan(self, selection: Selection) -> Iterator[Envelope]:
        statuses: dict[str, dict[str, Status]] = {}
        for header, data in self._in_order():
            if header.application not in statuses:
                statuses[header.application] = self._became.statuses(header.application)
            became = statuses[header.application].get(header.id)
            header.status = became or header.status
            if reading.matches(header, selection):
                envelope = reading.readable(data, self._stream.name)
                if envelope is not None:
                    yield envelope if became is None else self._became.merged(envelope)

    def _in_order(self) -> Iterator[tuple[reading.Header, bytes]]:
        """First copies, oldest first. A shard holds them nearly so, because several puts are under
        way at once: what may be held is enough to put them right."""
        waiting: list[tuple[str, int, reading.Header, bytes]] = []
        seen: set[str] = set()
        waiting_bytes = 0
        for nth, (header, data) in enumerate(self._read({})):
            if header.id in seen:
                continue
            seen.add(header.id)
            heapq.heappush(waiting, (header.quarantined_at, nth, header, data))
            waiting_bytes += len(data)
            while waiting_bytes > _ORDERED_BYTES_MAX:
                *_, oldest, its_data = heapq.heappop(waiting)
                waiting_bytes -= len(its_data)
                yield oldest, its_data
        while waiting:
            *_, oldest, its_data = heapq.heappop(waiting)
            yield oldest, its_data

    def _read(self, after: dict[str, str]) -> Iterator[tuple[reading.Header, bytes]]:
        """All copies, oldest first, remembering where the first of each lies."""
        for place, data in self._stream.merged(_quarantined_at, after):
            header = reading.header(data, place)
            if header is None:
                continue
            self._places.setdefault(header.id, place)
            self._read_to[place.shard_id] = max(
                self._read_to.get(place.shard_id, ""), place.sequence_number, key=_number
            )
            self._keep(place, data)
            yield header, data

    def _keep(self, place: Place, data: bytes) -> None:
        if place not in self._kept:
            self._kept[place] = data
            self._kept_bytes += len(data)
        while self._kept_bytes > _KEPT_BYTES_MAX and len(self._kept) > 1:
            _, gone = self._kept.popitem(last=False)
            self._kept_bytes -= len(gone)

    def amend(self, id: str, change: Callable[[Envelope], Envelope]) -> Envelope:
        return self._became.amend(self._stored(id), change)


def _number(sequence_number: str) -> int:
    return int(sequence_number or 0)


def _quarantined_at(data: bytes) -> str | None:
    """What a shard's records are merged by; None: not an envelope at all."""
    try:
        return _times.decode(data).quarantined_at
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None if data == _PROBE else ""


class _Time(msgspec.Struct):
    quarantined_at: str


_times = msgspec.json.Decoder(_Time)
