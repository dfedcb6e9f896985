"""Asking AWS before a record is read: an endpoint that refuses is tried for a while, anything else is usage."""

from __future__ import annotations

import asyncio
import difflib
import random
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, TypeVar

from streamheal.config import aws
from streamheal.engines.pace import Backoff
from streamheal.engines.poll_calls import Calls
from streamheal.engines.poll_reader import FAULTS
from streamheal.engines.poll_shards import Listed
from streamheal.engines.threads import Threads
from streamheal.errors import Unavailable, UsageError

T = TypeVar("T")

_NAMES_LOOKED_AT = 1000


class Asking:
    """One stream, asked patiently.

    Args:
        name: The stream's, for people.
        patience_s: How long an endpoint that does not answer is tried.
    """

    def __init__(self, name: str, calls: Calls, threads: Threads, patience_s: float) -> None:
        self._name, self._calls, self._threads, self._patience_s = name, calls, threads, patience_s

    async def patiently(self, call: Callable[[], T], what: str | None = None) -> T:
        """
        Args:
            what: What is tried, after "cannot"; reading the stream, if not said.

        Raises:
            UsageError: It will not answer, or not in time.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._patience_s
        backoff = Backoff(s_max=1.0)
        while True:
            try:
                return await self._threads.call(call)
            except (*FAULTS, Unavailable) as error:
                if what is None and aws.code(error) == "ResourceNotFoundException":
                    raise UsageError(await self._threads.call(self._no_such_stream)) from error
                told = error if isinstance(error, Unavailable) else self._explained(error, what)
                if isinstance(told, UsageError):
                    raise told from error
                if loop.time() >= give_up_at:
                    raise UsageError(f"{told} (tried for {self._patience_s:g} s)") from error
                await asyncio.sleep(backoff.wait_s(random.random()))

    def _explained(self, error: Exception, what: str | None) -> UsageError | Unavailable:
        return aws.explain(error, what or f"read stream {self._name}")

    async def summary(self) -> dict[str, Any]:
        """What DescribeStreamSummary says of a stream that can be read."""
        return await self.patiently(self._summary)

    def _summary(self) -> dict[str, Any]:
        summary = self._calls.summary()
        if summary["StreamStatus"] == "CREATING":
            raise Unavailable(f"stream {self._name} in {self.where} is still being created")
        if summary["StreamStatus"] == "DELETING":
            raise UsageError(f"stream {self._name} in {self.where} is being deleted")
        return summary

    async def try_to_read(self, shards: list[Listed], iterators: Mapping[str, str]) -> None:
        """A permission that is missing shall be known before the first record is read.

        Args:
            iterators: By shard, those that there are already.
        """
        shard_id = next((shard.shard_id for shard in shards if shard.is_open), shards[0].shard_id)
        iterator = iterators.get(shard_id) or await self.latest_of(shard_id)
        await self.patiently(lambda: self._calls.records(iterator, 1))

    async def latest_of(self, shard_id: str) -> str:
        """An iterator to the shard's tip."""
        return await self.patiently(lambda: self._calls.iterator(shard_id, "LATEST"))

    def _no_such_stream(self) -> str:
        told = f"no stream {self._name} in {self.where}."
        try:
            names = list(islice(self._calls.stream_names(), _NAMES_LOOKED_AT))
        except FAULTS:
            return f"{told} Expected the name or ARN of a stream"
        if near := difflib.get_close_matches(self._name, names, 3):
            return f"{told} Did you mean {' or '.join(near)}?"
        if not names:
            return f"{told} There is no stream at all"
        return f"{told} There {'is' if len(names) == 1 else 'are'} {', '.join(names[:10])}{' …' if names[10:] else ''}"

    @property
    def where(self) -> str:
        own = f".{self._calls.region}.amazonaws.com" in self._calls.endpoint
        return self._calls.region if own else f"{self._calls.region} at {self._calls.endpoint}"
