"""A Kinesis for KCL's daemon, from memory and without an end: `python -m bench.canned_h2 SHARDS RECORDS SIZE`.

Over h2c and in CBOR, as the daemon speaks. It prints its address. Every GetRecords brings RECORDS
records of SIZE bytes; they are encoded once, and only their sequence numbers are written anew.
(moto takes 49 µs a record, and would be what is measured.)
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import cbor2

from streamheal.local import wire

STREAM = "bench"
_STEM = "4959033827149025660855969253836157109592157"  # and the batch, and the place in it
_BATCH_DIGITS, _PLACE_DIGITS = 8, 5
_ARRIVED_MS = 1795424770703


class Bodies:
    """GetRecords' answers: the same records again and again, further on in the shard each time."""

    def __init__(self, records: int, size: int) -> None:
        dice = random.Random(7)
        encoded = [
            cbor2.dumps(
                {
                    "SequenceNumber": f"{_STEM}{0:0{_BATCH_DIGITS}}{place:0{_PLACE_DIGITS}}",
                    "ApproximateArrivalTimestamp": _ARRIVED_MS,
                    "Data": dice.randbytes(size),
                    "PartitionKey": f"customer-{dice.randrange(1000):08d}",
                }
            )
            for place in range(records)
        ]
        (self._stride,) = {len(one) for one in encoded}
        self._records = bytearray(b"".join(encoded))
        self._digits = encoded[0].index(_STEM.encode()) + len(_STEM)
        self._number = records

    def body(self, shard: str, batch: int) -> bytes:
        for place, digit in enumerate(b"%0*d" % (_BATCH_DIGITS, batch)):
            self._records[self._digits + place :: self._stride] = bytes((digit,)) * self._number
        rest = cbor2.dumps({"NextShardIterator": f"{shard}/{batch + 1}", "MillisBehindLatest": 60_000, "Records": []})
        # An empty array is its one last byte (0x80); in its place comes the head of a long one.
        return b"".join((rest[:-1], b"\x9a", self._number.to_bytes(4, "big"), self._records))


class Canned:
    """The ASGI application."""

    def __init__(self, shards: int, records: int, size: int) -> None:
        self._bodies = Bodies(records, size)
        self._small: dict[str, dict[str, Any]] = {
            "ListShards": {"Shards": [_shard(number, shards) for number in range(shards)]},
            "DescribeStreamSummary": {
                "StreamDescriptionSummary": {
                    "StreamName": STREAM,
                    "StreamARN": f"arn:aws:kinesis:us-east-1:000000000000:stream/{STREAM}",
                    "StreamStatus": "ACTIVE",
                    "RetentionPeriodHours": 24,
                    "StreamCreationTimestamp": 0.0,
                    "EnhancedMonitoring": [],
                    "OpenShardCount": shards,
                }
            },
        }

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        request = b""
        while True:
            message = await receive()
            request += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        kind = headers.get("content-type", wire.JSON)
        body = self._answer(headers.get("x-amz-target", "").rpartition(".")[2], kind, request)
        told = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body)), (b"x-amzn-requestid", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": told})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, action: str, kind: str, request: bytes) -> bytes:
        asked = wire.read(kind, request, dict) if request else {}
        if action == "GetRecords" and not kind.startswith(wire.CBOR):
            # The host's own try, before it starts the daemon.
            return wire.write(kind, {"Records": [], "NextShardIterator": "", "MillisBehindLatest": 0})
        if action == "GetRecords":
            shard, _, batch = asked["ShardIterator"].rpartition("/")
            return self._bodies.body(shard, int(batch))
        if action == "GetShardIterator":
            return wire.write(kind, {"ShardIterator": f"{asked['ShardId']}/1"})
        return wire.write(kind, self._small.get(action, {}))


def _shard(number: int, shards: int) -> dict[str, Any]:
    width = 2**128 // shards
    return {
        "ShardId": f"shardId-{number:012}",
        "HashKeyRange": {"StartingHashKey": str(number * width), "EndingHashKey": str((number + 1) * width - 1)},
        "SequenceNumberRange": {"StartingSequenceNumber": f"{_STEM}{0:013}"},
    }


async def main(shards: int, records: int, size: int) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = Config()
    config.bind = [f"fd://{os.dup(listener.fileno())}"]
    config.errorlog = logging.getLogger(__name__)
    config.keep_alive_timeout = 3600.0
    # The end of our standard input is the end of whoever measures; nobody waits for an answer then.
    asyncio.get_running_loop().add_reader(0, os._exit, 0)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await serve(Canned(shards, records, size), config)  # type: ignore[arg-type]  # a plain callable


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
