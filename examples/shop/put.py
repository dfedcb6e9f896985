"""Puts a few orders, one of them sick, into the stream `orders` of whatever AWS the environment names."""

import json

import boto3

ORDERS = [("ann", 1250), ("bob", 399), ("eve", -1), ("ann", 9900), ("dan", 12)]

if __name__ == "__main__":
    kinesis = boto3.client("kinesis")
    for customer, cents in ORDERS:
        order = {"customer": customer, "cents": cents}
        kinesis.put_record(StreamName="orders", Data=json.dumps(order).encode(), PartitionKey=customer)
    print(f"{len(ORDERS)} orders put")
