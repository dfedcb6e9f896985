"""Runs the shop's image as its user would, and looks at what it does: `docker/smoke`.

200 orders, four of them sick, are read from an AWS on loopback. All must be accounted for, the
sick ones in the quarantine in S3; a SIGTERM must end it with exit code 0 within 30 s. The user is
not root, and of the file system only /tmp can be written.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import boto3
from containers import Container, build, size_text
from prometheus_client.parser import text_string_to_metric_families

from streamheal.local import LocalAws

ROOT = Path(__file__).parents[1]
IMAGE = "localhost/streamheal-shop"
READ_WITHIN_S = 240
STOPPED_WITHIN_S = 30


def main() -> int:
    arguments = argparse.ArgumentParser(prog="docker/smoke")
    arguments.add_argument("--engine", choices=("kcl", "poll"), default="kcl")
    engine = arguments.parse_args().engine

    build(IMAGE, ROOT / "examples" / "shop")
    say("the image", size_text(IMAGE))
    aws = LocalAws()
    aws.start()
    try:
        os.environ.update(aws.environment())
        boto3.client("s3").create_bucket(Bucket="orders-quarantine")
        started = time.monotonic()
        subprocess.run([sys.executable, "put.py", "2000"], cwd=ROOT / "examples" / "shop", check=True)
        with Container(IMAGE, environment(aws, engine, port := free_port())) as container:
            try:
                watch(container, port, started)
            except BaseException:
                print(container.log(), file=sys.stderr)
                raise
        look_at_quarantine()
    finally:
        aws.stop()
    return 0


def environment(aws: LocalAws, engine: str, port: int) -> dict[str, str]:
    state = {"STREAMHEAL_ENGINE": "poll", "STREAMHEAL_STATE": "dynamodb:orders-streamheal"}
    return {
        **aws.environment(),
        **(state if engine == "poll" else {}),
        "STREAMHEAL_HTTP": f"0.0.0.0:{port}",
        "STREAMHEAL_QUARANTINE": "s3://orders-quarantine/shop",
        "STREAMHEAL_PATIENCE_S": "5",
        "STREAMHEAL_RETRY_S_MIN": "0.1",
    }


def watch(container: Container, port: int, started: float) -> None:
    settled = {"read": 200, "done": 196, "quarantined": 4, "in_flight": 0}
    until(lambda: container.ended() or records(port) == settled, READ_WITHIN_S, lambda: str(records(port)))
    assert not container.ended(), "it ended by itself"
    say("records", f"{settled} {time.monotonic() - started:.1f} s after its start")
    assert container.healthy(), "the image's HEALTHCHECK finds it sick"
    say("healthcheck", "healthy")

    stopping = time.monotonic()
    container.signal(signal.SIGTERM)
    until(container.ended, STOPPED_WITHIN_S, lambda: "it still runs")
    code = container.exit_code()
    say("SIGTERM", f"exit code {code} after {time.monotonic() - stopping:.1f} s")
    assert code == 0


def records(port: int) -> dict[str, int]:
    """What /metrics counts, over all shards; nothing yet where it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    except OSError:
        return {}
    finally:
        connection.close()
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] += int(sample.value)
    names = {"read": "read_total", "done": "done_total", "quarantined": "quarantined_total", "in_flight": "in_flight"}
    return {short: found[f"streamheal_records_{name}"] for short, name in names.items()}


def look_at_quarantine() -> None:
    s3 = boto3.client("s3")
    reasons = Counter(
        json.loads(s3.get_object(Bucket="orders-quarantine", Key=one["Key"])["Body"].read())["reason"]
        for one in s3.list_objects_v2(Bucket="orders-quarantine", Prefix="shop/application=")["Contents"]
    )
    say("quarantine", dict(reasons))
    assert reasons == {"rejected": 1, "exception": 2, "decode": 1}


def until(condition: Callable[[], bool], within_s: float, state: Callable[[], str]) -> None:
    give_up_at = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_at, f"not within {within_s} s: {state()}"
        time.sleep(0.1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def say(what: str, told: object) -> None:
    print(f"{what:12} {told}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
