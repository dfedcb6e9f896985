"""Puts 200 orders, four of them sick, into the stream `orders` of the AWS that the environment names.

python put.py [ORDERS A SECOND]
"""

import json
import sys
import time
from typing import Any

import boto3

SICK: dict[int, dict[str, Any]] = {40: {"cents": -990}, 80: {"people": 0}, 90: {"people": 0}, 120: {"cents": "a lot"}}


def main(a_second: float) -> None:
    kinesis = boto3.client("kinesis")
    try:
        kinesis.create_stream(StreamName="orders", ShardCount=2)
    except kinesis.exceptions.ResourceInUseException:
        pass  # it is there already
    kinesis.get_waiter("stream_exists").wait(StreamName="orders", WaiterConfig={"Delay": 1})
    for number in range(200):
        customer = f"cust-{number % 50}"
        order: dict[str, Any] = {"customer": customer, "cents": 1250 + number, "people": 1 + number % 4}
        order |= SICK.get(number, {})
        kinesis.put_record(StreamName="orders", Data=json.dumps(order).encode(), PartitionKey=customer)
        time.sleep(1 / a_second)
    print("200 orders put")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20)
