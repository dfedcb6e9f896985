"""Makes what docker/compose.yml reads from and writes to, and puts orders there, now and then a sick one.

python load.py prepare
python load.py produce [--rate ORDERS_A_SECOND] [--sick-every N] [--orders N]
"""

import argparse
import itertools
import json
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import boto3

STREAM = "orders"
BUCKET = "orders-quarantine"
SHARDS = 4
# A refund, a table for nobody, a price in words, and no order at all.
SICK: list[Any] = [{"cents": -990}, {"people": 0}, {"cents": "a lot"}, "hello"]


def prepare() -> None:
    kinesis = boto3.client("kinesis")
    try:
        kinesis.create_stream(StreamName=STREAM, ShardCount=SHARDS)
    except kinesis.exceptions.ResourceInUseException:
        pass  # from an earlier time
    kinesis.get_waiter("stream_exists").wait(StreamName=STREAM, WaiterConfig={"Delay": 1})
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    print(f"stream {STREAM} and bucket {BUCKET} are there")


def orders(sick_every: int) -> Iterator[dict[str, Any]]:
    """PutRecords entries, without an end. 0: none is sick."""
    for number in itertools.count(1):
        customer = f"cust-{number % 200}"
        order: Any = {"customer": customer, "cents": random.randint(300, 9000), "people": 1 + number % 4}
        if sick_every and number % sick_every == 0:
            sick = SICK[number // sick_every % len(SICK)]
            order = order | sick if isinstance(sick, dict) else sick
        yield {"Data": json.dumps(order).encode(), "PartitionKey": customer}


def produce(rate: float, sick_every: int, orders_max: int | None) -> None:
    kinesis = boto3.client("kinesis")
    source = itertools.islice(orders(sick_every), orders_max)
    begun, put = time.monotonic(), 0
    while entries := list(itertools.islice(source, max(1, min(500, int(rate / 5))))):
        time.sleep(max(0.0, begun + put / rate - time.monotonic()))
        answer = kinesis.put_records(StreamName=STREAM, Records=entries)
        put += len(entries) - answer["FailedRecordCount"]
    print(f"{put} orders put")


def main() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare")
    producing = commands.add_parser("produce")
    producing.add_argument("--rate", type=float, default=20)
    producing.add_argument("--sick-every", type=int, default=100)
    producing.add_argument("--orders", type=int)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if arguments.command == "prepare":
            prepare()
        else:
            produce(arguments.rate, arguments.sick_every, arguments.orders)
    except KeyboardInterrupt:
        pass  # `docker compose down`


if __name__ == "__main__":
    main()
