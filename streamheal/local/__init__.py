"""AWS on loopback: Kinesis, DynamoDB, S3, CloudWatch and STS in one process, for development and tests.

    client ──HTTP/1.1 or h2c──► hypercorn ──► app ─┬─ Kinesis' shards and records: our own layer
                                  (server)         └─ everything else: moto

moto never ends a shard, numbers records 1, 2, 3 and loses puts after a split, so shards and
records are ours (`shards`, `kinesis`); what a stream is beside them stays moto's. moto is
imported in the emulator's own process only (`server`, started by `LocalAws`).
"""

from streamheal.local.process import LocalAws
from streamheal.local.server import serve

__all__ = ["LocalAws", "serve"]
