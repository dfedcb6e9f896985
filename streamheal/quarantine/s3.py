"""A quarantine in S3: one object an envelope, laid out as in a folder."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from streamheal.config.aws import AwsOptions
from streamheal.errors import StoreError, StoreUnavailable
from streamheal.quarantine import layout, reading
from streamheal.quarantine.base import Selection
from streamheal.quarantine.bucket import THREADS, Bucket, Found, Unmet
from streamheal.quarantine.envelope import Envelope
from streamheal.quarantine.layout import Partition

# Bodies fetched at once; a body has at most 14 MiB (10 MiB in base64, and its tries).
_FETCHED_BYTES_MAX = 32 << 20
_FETCHED_MAX = 4 * THREADS

# A replay reads one by one what a scan has found a moment ago.
_KEYS_REMEMBERED = 100_000


class S3Store:
    """Implements `Store`."""

    def __init__(self, bucket: str, prefix: str, options: AwsOptions) -> None:
        self._bucket = Bucket(bucket, prefix, options)
        self.url = self._bucket.url
        self._earlier = _Earlier(self._bucket)
        self._keys: OrderedDict[str, str] = OrderedDict()  # by id
        self._partitions_seen: list[Partition] = []
        self._remembering = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    def check(self) -> None:
        self._bucket.check()

    def _pool(self) -> ThreadPoolExecutor:
        with self._remembering:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="s3")
            return self._threads

    def put(self, envelopes: Sequence[Envelope]) -> list[StoreError | StoreUnavailable | None]:
        try:
            there = self._earlier.among(envelopes)
        except (StoreError, StoreUnavailable) as error:
            return [error] * len(envelopes)

        def put(envelope: Envelope) -> StoreError | StoreUnavailable | None:
            if envelope.id in there:
                return None
            try:
                self._bucket.put(_key(envelope), reading.encode(envelope), new=True)
            except Unmet:
                return None  # stored before, earlier today
            except (StoreError, StoreUnavailable) as error:
                return error
            return None

        return list(self._pool().map(put, envelopes))

    def get(self, id_prefix: str) -> Envelope:
        envelope, _, _ = self._get(id_prefix)
        return envelope

    def _get(self, id_prefix: str) -> tuple[Envelope, str, str]:
        """The envelope, its key and its tag."""
        key = self._keys.get(id_prefix) or self._key_of(id_prefix)
        found = self._bucket.get(key)
        if found is None:
            with self._remembering:
                self._keys.pop(id_prefix, None)
            raise StoreError(f"{self.url}/{key} was removed while it was read")
        return reading.decode(found[0], f"{self.url}/{key}"), key, found[1]

    def _key_of(self, id_prefix: str) -> str:
        """Asks every partition at once for what begins so, which no listing of all could beat."""
        keys: dict[str, str] = {}
        if len(id_prefix) == layout.ID_CHARS:
            # A replay asks for many whole ids; what partitions there are need not be asked each time.
            keys = self._beginning_with(id_prefix, self._partitions_seen)
        if not keys:
            self._partitions_seen = self._partitions()
            keys = self._beginning_with(id_prefix, self._partitions_seen)
        return keys[reading.the_one(id_prefix, list(keys))]

    def _beginning_with(self, id_prefix: str, partitions: Iterable[Partition]) -> dict[str, str]:
        prefixes = [f"{partition.path}/{id_prefix}" for partition in partitions]
        listed = self._pool().map(lambda prefix: [one.key for one in self._bucket.objects(prefix)], prefixes)
        return {id: key for some in listed for key in some if (id := layout.id_of(key)) is not None}

    def scan(self, selection: Selection) -> Iterator[Envelope]:
        meant = sorted((one for one in self._partitions() if one.may_hold(selection)), key=lambda one: one.date)
        for _, of_one_day in itertools.groupby(meant, key=lambda one: one.date):
            yield from reading.selected(self._found(list(of_one_day), selection), selection, self._fetch)

    def _found(self, partitions: Iterable[Partition], selection: Selection) -> Iterator[tuple[str, bytes]]:
        """Keys and bodies, fetched many at once, as many as may be held."""
        window: list[Found] = []
        for partition in partitions:
            for found in self._listed(partition, selection):
                full = sum(one.size for one in window) + found.size > _FETCHED_BYTES_MAX
                if window and (full or len(window) >= _FETCHED_MAX):
                    yield from self._fetched(window)
                    window = []
                window.append(found)
        yield from self._fetched(window)

    def _listed(self, partition: Partition, selection: Selection) -> Iterator[Found]:
        seen: set[str] = set()
        for prefix in sorted(set(selection.ids)) or [""]:
            for found in self._bucket.objects(f"{partition.path}/{prefix}"):
                id = layout.id_of(found.key)
                if id is None or id in seen:
                    continue
                if selection.ids:
                    seen.add(id)
                self._remember(id, found.key)
                yield found

    def _remember(self, id: str, key: str) -> None:
        with self._remembering:
            self._keys[id] = key
            if len(self._keys) > _KEYS_REMEMBERED:
                self._keys.popitem(last=False)

    def _fetched(self, window: list[Found]) -> Iterator[tuple[str, bytes]]:
        keys = [found.key for found in window]
        for key, raw in zip(keys, self._pool().map(self._fetch, keys), strict=True):
            if raw is not None:
                yield key, raw

    def _fetch(self, key: str) -> bytes | None:
        found = self._bucket.get(key)
        return None if found is None else found[0]

    def amend(self, id: str, change: Callable[[Envelope], Envelope]) -> Envelope:
        while True:
            envelope, key, tag = self._get(id)
            amended = change(envelope)
            try:
                self._bucket.put(key, reading.encode(amended), over=tag)
            except Unmet:
                continue  # somebody else amended it in between: once more, on top of theirs
            return amended

    def _partitions(self) -> list[Partition]:
        streams = [
            (application, stream, f"{first}/{second}/")
            for first in self._bucket.directories("")
            if (application := layout.value_of("application", first)) is not None
            for second in self._bucket.directories(f"{first}/")
            if (stream := layout.value_of("stream", second)) is not None
        ]
        return [
            Partition(application, stream, day)
            for application, stream, within in streams
            for day in layout.dates(self._bucket.directories(within))
        ]


class _Earlier:
    """Which records were stored on a day before today's.

    If-None-Match sees today's. Earlier days are listed once, when the first record comes that
    may be on them, which is at a start; they do not change while we run, but that today
    becomes one of them.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._today = ""
        self._days: dict[tuple[str, str], list[str]] = {}
        self._ids: dict[Partition, frozenset[str]] = {}
        self._listing = threading.Lock()

    def among(self, envelopes: Sequence[Envelope]) -> frozenset[str]:
        with self._listing:
            return frozenset(one.id for one in envelopes if self._is_there(one))

    def _is_there(self, envelope: Envelope) -> bool:
        today = envelope.quarantined_at[:10]
        if today > self._today:
            self._today, self._days, self._ids = today, {}, {}
        name = (envelope.application, envelope.stream)
        if name not in self._days:
            within = Partition(*name, today).path.rpartition("/")[0] + "/"
            self._days[name] = layout.dates(self._bucket.directories(within))
        days = layout.earlier_dates(envelope, self._days[name])
        return any(envelope.id in self._on(Partition(*name, day)) for day in days)

    def _on(self, partition: Partition) -> frozenset[str]:
        if partition not in self._ids:
            found = (layout.id_of(one.key) for one in self._bucket.objects(f"{partition.path}/"))
            self._ids[partition] = frozenset(id for id in found if id is not None)
        return self._ids[partition]


def _key(envelope: Envelope) -> str:
    return f"{Partition.of(envelope).path}/{envelope.id}{layout.SUFFIX}"
