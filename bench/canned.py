"""A Kinesis that answers GetRecords from memory: `python -m bench.canned RECORDS SIZE` prints its port.

It answers what both sides of the comparison ask, and nothing else; the bytes are made once.
"""

from __future__ import annotations

import asyncio
import json
import sys

from bench.lines import get_records_body

_DISTINCT = 8


class Canned:
    def __init__(self, records: int, size: int) -> None:
        self._bodies = [
            get_records_body(records, size, first=number * records, iterator=f"iterator-{number + 1}")
            for number in range(_DISTINCT)
        ]
        self._given = 0

    def answer(self, action: str) -> bytes:
        if action == "GetRecords":
            self._given += 1
            return self._bodies[self._given % _DISTINCT]
        return json.dumps(_SMALL[action]).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                await reader.readexactly(int(fields.get("content-length", 0)))
                action = fields["x-amz-target"].rpartition(".")[2]
                body = self.answer(_NAMES[action])
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\n"
                    b"x-amzn-RequestId: 0\r\nContent-Length: %d\r\n\r\n" % len(body)
                )
                writer.write(body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


_SHARD = {
    "ShardId": "shardId-000000000000",
    "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": str(2**128 - 1)},
    "SequenceNumberRange": {"StartingSequenceNumber": "1"},
}
_SMALL: dict[str, object] = {
    "ListShards": {"Shards": [_SHARD]},
    "GetShardIterator": {"ShardIterator": "iterator-0"},
    "DescribeStreamSummary": {
        "StreamDescriptionSummary": {
            "StreamName": "bench",
            "StreamARN": "arn:aws:kinesis:eu-west-1:000000000000:stream/bench",
            "StreamStatus": "ACTIVE",
            "RetentionPeriodHours": 24,
            "StreamCreationTimestamp": 0,
            "EnhancedMonitoring": [],
            "OpenShardCount": 1,
        }
    },
}
_NAMES = {name.lower(): name for name in ("GetRecords", *_SMALL)}


async def main() -> None:
    canned = Canned(int(sys.argv[1]), int(sys.argv[2]))
    server = await asyncio.start_server(canned.serve, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The end of our standard input is the end of whoever measures.
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(0, ended.set)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
