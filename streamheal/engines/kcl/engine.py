"""Records from KCL: the engine for any number of containers.

    Lives ──► Daemon (a JVM) ──► a stub a shard ──► Doorway ──► a Pipe a shard ──► the runtime

KCL owns leases, balancing, reshards and checkpoints. What is done here is to start it, to hear its
log, to speak for its children, and to be quicker than it about what only we can know: that our own
daemon is dead.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from streamheal import platform
from streamheal.config import aws
from streamheal.config.aws import AwsOptions
from streamheal.engines.asking import Asking
from streamheal.engines.base import Batch, Log, Sink, Slot
from streamheal.engines.kcl.doorway import Doorway
from streamheal.engines.kcl.heap import refuse_more_than_there_is, usual_heap_bytes
from streamheal.engines.kcl.identity import take_name
from streamheal.engines.kcl.jars import find_jars, find_java
from streamheal.engines.kcl.lives import Body, Lives
from streamheal.engines.kcl.pipe import Pipe
from streamheal.engines.kcl.properties import TIMEOUT_S, Endpoints, daemon_properties
from streamheal.engines.kcl.readers import Readers
from streamheal.engines.kcl.tables import Lease, Tables
from streamheal.engines.kcl.workplace import Workplace
from streamheal.engines.poll_calls import Calls
from streamheal.engines.poll_shards import StartAt
from streamheal.engines.threads import Threads
from streamheal.errors import StreamhealError, Unavailable
from streamheal.records import Dialect, Position, Shard

_START_PATIENCE_S = 10.0
_CALLS_AT_ONCE = 4
_FAULTS = (ClientError, BotoCoreError)

_KEEP_ALIVE_S = 30.0
_LOOK_S = 1.0
_FAILOVER_MS = 10_000  # KCL's own default of failoverTimeMillis
# KCL deals shards out anew every second failover time, and moves some to a new host in two such rounds or
# three. Who has none by then, while others read them all, has come for nothing.
_NOTHING_FOR_US_FAILOVERS = 6
_CHECKPOINT_WITHIN_S = 60.0


class KclEngine:
    """Implements `engines.base.Engine`.

    Args:
        stream: Its name.
        worker_id: KCL's name for this host; None: made from where it runs. Taken at once, and ours until
            `close`.
        start_at: Where a shard that has no lease yet starts.
        heap_bytes: The JVM's; None: by the number of shards and the container's memory.
        handed_on: The user's own properties for KCL; None: no file of theirs says anything.
        until_caught_up: Find out whether any lease is left that nobody reads.
    """

    def __init__(
        self,
        stream: str,
        *,
        application: str,
        worker_id: str | None = None,
        start_at: StartAt = "TRIM_HORIZON",
        shutdown_s: float = 20.0,
        heap_bytes: int | None = None,
        handed_on: Mapping[str, str] | None = None,
        until_caught_up: bool = False,
        aws: AwsOptions | None = None,
        log: Log | None = None,
        patience_s: float = _START_PATIENCE_S,
    ) -> None:
        self._stream, self._application = stream, application
        self._start_at, self._shutdown_s = start_at, shutdown_s
        self._heap_bytes, self._brought = heap_bytes, handed_on
        self._handed_on = dict(handed_on or {})
        self._until_caught_up = until_caught_up
        self._options = aws or AwsOptions()
        self._log: Log = structlog.get_logger() if log is None else log
        self._patience_s = patience_s
        self._worker_name = take_name(application, worker_id)
        self._threads = Threads(_CALLS_AT_ONCE, "kcl")
        self._pipes: dict[str, Pipe] = {}  # by shard
        self._every_pipe: set[Pipe] = set()
        self._calls: Calls | None = None
        self._tables: Tables | None = None
        self._doorway: Doorway | None = None
        self._workplace: Workplace | None = None
        self._lives: Lives | None = None
        self._retention_s: float | None = None
        self._sink: Sink
        self._ends: list[Pipe] = []  # of shards that are said to have ended
        self._said_to_end = asyncio.Event()
        self._handed_out_again = asyncio.Event()
        self._stopping = self._ever_read = self._is_gone = False
        self._has_brought_all = False
        self._departures = 0  # of pipes, which make what was seen of the leases old

    @property
    def retention_s(self) -> float | None:
        """How long the stream keeps a record; known after `open`."""
        return self._retention_s

    @property
    def worker_id(self) -> str:
        return self._worker_name.worker_id

    @property
    def has_brought_all(self) -> bool:
        return self._has_brought_all

    # -- before a record is read -------------------------------------------------------------

    async def open(self) -> None:
        platform.allow_many_descriptors()  # a shard has three
        java = await asyncio.to_thread(find_java)
        jars = await asyncio.to_thread(find_jars)
        calls = self._calls = await self._threads.call(lambda: Calls(self._stream, self._options))
        tables = self._tables = await self._threads.call(
            lambda: Tables(self._application, self._options, self._handed_on)
        )
        asking = Asking(self._stream, calls, self._threads, self._patience_s)
        summary = await asking.summary()
        self._retention_s = summary["RetentionPeriodHours"] * 3600.0
        shards, _ = await asking.patiently(calls.shards)
        await asking.try_to_read(shards, {})
        await asking.patiently(tables.check, f"look at KCL's tables of {self._application} in DynamoDB")
        place = self._workplace = Workplace()
        self._doorway = Doorway(place.folder, self._stub_arrived, self._log)
        self._doorway.open()
        told = self._told(calls, tables, place.stub_command(self._doorway.path))
        properties = place.write_properties(told)
        heap_bytes = self._heap_bytes or usual_heap_bytes(summary["OpenShardCount"])
        refuse_more_than_there_is(heap_bytes)
        self._lives = Lives(
            Body(java, jars, heap_bytes, properties, self.worker_id),
            tables,
            self._threads,
            self._log,
            died=self._lose_all,
            has_read=lambda: self._ever_read,
            still_there=self._still_there,
        )

    def _told(self, calls: Calls, tables: Tables, command: str) -> str:
        """What the daemon is told, as the text of its properties file."""
        return daemon_properties(
            executable=command,
            stream=self._stream,
            application=self._application,
            worker_id=self.worker_id,
            start=self._start_at,
            region=tables.region,
            endpoints=Endpoints.of(calls.endpoint, tables.endpoint, self._options.endpoint_url),
            shutdown_s=self._shutdown_s,
            handed_on=self._brought,
        )

    # -- what runs meanwhile ------------------------------------------------------------------

    async def run(self, sink: Sink) -> None:
        assert self._lives is not None, "not open"
        self._sink = sink
        work = [self._lives.live(), self._keep_alive(), self._look_at_ends()]
        if self._until_caught_up:
            work.append(self._until_nothing_for_us())
        beside = [asyncio.ensure_future(one) for one in work]
        try:
            done, _ = await asyncio.wait(beside, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            # What is open is still finished and checkpointed; that is why the pipes stay.
            self._stopping = True
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            if not self._is_gone:
                self._believe_ends()
            for pipe in list(self._every_pipe):
                pipe.drain()
            self._lives.ask_to_end()

    async def _still_there(self) -> bool:
        """False: nobody knows, because Kinesis does not answer.

        Raises:
            StreamhealError: The stream was deleted while it was read.
        """
        assert self._calls is not None
        try:
            summary = await self._threads.call(self._calls.summary)
            self._is_gone = summary["StreamStatus"] == "DELETING"
        except _FAULTS as error:
            self._is_gone = aws.code(error) == "ResourceNotFoundException"
            if not self._is_gone:
                return False
        if self._is_gone:
            raise StreamhealError(f"stream {self._stream} was deleted while read")
        return True

    async def _look_at_ends(self) -> None:
        """KCL takes a stream that is gone for the end of each of its shards (KCL 3.1.3, KinesisDataFetcher).

        Until the stream has been asked for, nothing is checkpointed: of the last record it stores SHARD_END, too
        (ShardRecordProcessorCheckpointer), and a stream of that name that is made anew would never be read.
        """
        while True:
            await self._said_to_end.wait()
            while not await self._still_there():  # noqa: ASYNC110 - Kinesis is asked, nobody tells us
                await asyncio.sleep(_LOOK_S)
            self._believe_ends()

    async def _keep_alive(self) -> None:
        seconds = self._handed_on.get("timeoutInSeconds", "")
        timeout_s = int(seconds) if seconds.isdecimal() and int(seconds) else TIMEOUT_S
        while True:
            await asyncio.sleep(min(_KEEP_ALIVE_S, timeout_s / 4))
            for pipe in list(self._every_pipe):
                pipe.keep_alive()

    async def _until_nothing_for_us(self) -> None:
        """Keeps `has_brought_all`; returns once others have read every shard for so long that none will be ours."""
        told = self._handed_on.get("failoverTimeMillis", "")
        failover_s = (int(told) if told.isdecimal() else _FAILOVER_MS) / 1000
        loop = asyncio.get_running_loop()
        readers = Readers(self.worker_id, failover_s)
        ours_or_open_at = loop.time()
        while True:
            await asyncio.sleep(_LOOK_S)
            with contextlib.suppress(*_FAULTS, Unavailable):
                departures = self._departures
                leases, open_shards = await self._threads.call(self._looked)
                all_read = readers.read_all(leases, open_shards, self._pipes, loop.time())
                self._has_brought_all = all_read and departures == self._departures
            if self._pipes or self._ever_read or not self._has_brought_all:
                ours_or_open_at = loop.time()
            elif loop.time() - ours_or_open_at >= failover_s * _NOTHING_FOR_US_FAILOVERS:
                self._log.info("nothing_to_read", stream=self._stream, why="other hosts read every shard")
                return

    def _looked(self) -> tuple[list[Lease], list[str]]:
        assert self._calls is not None
        assert self._tables is not None
        shards, _ = self._calls.shards()
        return list(self._tables.leases()), [shard.shard_id for shard in shards if shard.is_open]

    # -- pipes (kcl.pipe.Host) ------------------------------------------------------------------

    def _stub_arrived(self, peer: object, lines_in: int, lines_out: int) -> None:
        self._every_pipe.add(Pipe(self, peer, lines_in, lines_out))  # type: ignore[arg-type]  # a socket

    def take_slot(self) -> Slot | None:
        return self._sink.take_slot()

    def give_back(self, slot: Slot) -> None:
        self._sink.give_back(slot)

    def initialized(self, pipe: Pipe, after: Position | None) -> None:
        if self._stopping:
            # KCL 3.1.3, asked to end soon after a reshard, gives the same shards out once more.
            pipe.leave()
            self._handed_out_again.set()
            return
        if before := self._pipes.get(pipe.shard_id):
            before.close()  # the runtime hears that it is lost, if it has not left it
        self._pipes[pipe.shard_id] = pipe
        self._sink.shard_started(Shard(shard_id=pipe.shard_id, stream=self._stream), after)

    def brought(self, pipe: Pipe, slot: Slot, length: int) -> None:
        self._ever_read = True
        self._sink.batch_arrived(pipe.shard_id, Batch(slot, length, Dialect.DAEMON))

    def measured(self, pipe: Pipe, lag_s: float) -> None:
        self._ever_read = True
        self._sink.lag_measured(pipe.shard_id, lag_s, at_tip=lag_s == 0)

    def _departs(self) -> None:
        """A shard ends, or is not ours any more: whether somebody reads all has to be looked at anew."""
        self._departures += 1
        self._has_brought_all = False

    def ended(self, pipe: Pipe) -> None:
        self._departs()
        pipe.pause()
        self._ends.append(pipe)
        if self._stopping and not self._is_gone:
            self._believe_ends()
        else:
            self._said_to_end.set()

    def _believe_ends(self) -> None:
        self._said_to_end.clear()
        ends, self._ends = self._ends, []
        for pipe in ends:
            if self._pipes.get(pipe.shard_id) is pipe:
                self._sink.shard_ended(pipe.shard_id)
            pipe.resume()

    def lost(self, pipe: Pipe) -> None:
        if self._pipes.get(pipe.shard_id) is pipe:
            self._departs()
            del self._pipes[pipe.shard_id]
            self._log.info("lease_lost", stream=self._stream, shard_id=pipe.shard_id)
            self._sink.lease_lost(pipe.shard_id)

    def asked_to_leave(self, pipe: Pipe) -> None:
        self._sink.shutdown_requested(pipe.shard_id)

    def closed(self, pipe: Pipe, why: str | None) -> None:
        self._every_pipe.discard(pipe)
        if self._pipes.get(pipe.shard_id) is pipe:
            self._departs()
            del self._pipes[pipe.shard_id]
        if why is not None and self._lives is not None:
            self._lives.pipe_broke(pipe.shard_id, why)

    def _lose_all(self) -> None:
        for pipe in list(self._every_pipe):
            pipe.close("the daemon has ended")

    # -- what the runtime says --------------------------------------------------------------------

    def answer(self, shard_id: str) -> None:
        if pipe := self._pipes.get(shard_id):
            pipe.may_bring()

    async def checkpoint(self, shard_id: str, position: Position) -> None:
        pipe = self._pipes.get(shard_id)
        if pipe is None:
            raise Unavailable(f"{shard_id} is not ours any more: its next owner checkpoints")
        await self._within(pipe.checkpoint(position), shard_id)

    async def shard_complete(self, shard_id: str) -> None:
        """Its end is stored when this returns, so that its children may start; or it is another's to store."""
        pipe = self._pipes.get(shard_id)
        if pipe is None:
            return
        try:
            await self._within(pipe.checkpoint(None), shard_id)
        except Unavailable:
            if self._pipes.get(shard_id) is pipe:
                raise

    async def _within(self, checkpoint: object, shard_id: str) -> None:
        try:
            await asyncio.wait_for(checkpoint, _CHECKPOINT_WITHIN_S)  # type: ignore[arg-type]  # a coroutine
        except TimeoutError as error:
            raise Unavailable(
                f"the daemon took no checkpoint of {shard_id} within {_CHECKPOINT_WITHIN_S:g} s"
            ) from error

    def shard_left(self, shard_id: str) -> None:
        if pipe := self._pipes.get(shard_id):
            pipe.leave()

    # -- the end ------------------------------------------------------------------------------------

    async def close(self) -> None:
        for pipe in list(self._every_pipe):
            pipe.leave()
        if self._lives is not None:
            await self._lives.end(self._handed_out_again)
        self._lose_all()
        if self._doorway is not None:
            self._doorway.close()
        if self._workplace is not None:
            await asyncio.to_thread(self._workplace.clear)
        self._threads.close()
        for client in (self._calls, self._tables):
            if client is not None:
                client.close()
        self._worker_name.give_up()
