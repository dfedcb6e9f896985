"""What Prometheus and an orchestrator see, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamheal.errors import UsageError
from streamheal.runtime.figures import ShardFigures
from streamheal.runtime.times import Times
from streamheal.web.server import serving


class Writes:
    def __init__(self) -> None:
        self.writes = Counter(stored=12, unavailable=1)


class Host:
    """What the server asks of a running host, with figures that tests set."""

    def __init__(self) -> None:
        self.deaths = Counter(signal=2, deadline=1)
        self.keeper = Writes()
        self.times = Times()
        self.shards: list[ShardFigures] = []

    def figures(self) -> list[ShardFigures]:
        return self.shards


FIRST = ShardFigures(
    stream="orders",
    shard_id="shardId-000000000000",
    read=100,
    done=80,
    quarantined=12,
    quarantined_by_reason={"exception": 9, "crash": 3},
    filtered=5,
    in_flight=3,
    lag_s=1.5,
    retention_left_s=86_000.0,
    oldest_open_s=0.25,
    paused=True,
    attempts_by_outcome={"exception": 27, "crash": 2},
    checkpoints=4,
)
SECOND = ShardFigures(
    stream="orders",
    shard_id="shardId-000000000001",
    read=7,
    done=7,
    quarantined=0,
    attempts_by_outcome={"exception": 1},
    checkpoints=2,
)


@contextlib.asynccontextmanager
async def served(host: Host) -> AsyncIterator[Callable[..., tuple[int, str]]]:
    async with serving(("127.0.0.1", 0), host) as address:
        assert address is not None
        yield lambda path, **headers: _get(address, path, headers)


def _get(address: tuple[str, int], path: str, headers: dict[str, str]) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*address, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def run(host: Host, path: str, **headers: str) -> tuple[int, str]:
    async def ask() -> tuple[int, str]:
        async with served(host) as get:
            return await asyncio.to_thread(get, path, **headers)

    return asyncio.run(ask())


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_figure_is_there_under_the_name_that_is_promised() -> None:
    host = Host()
    host.shards = [FIRST, SECOND]
    status, text = run(host, "/metrics")
    found = samples(text)
    first = (("shard", "shardId-000000000000"), ("stream", "orders"))

    assert status == 200
    assert found["streamheal_records_read_total", first] == 100
    assert found["streamheal_records_done_total", first] == 80
    assert found["streamheal_records_filtered_total", first] == 5
    assert found["streamheal_records_in_flight", first] == 3
    assert found["streamheal_records_quarantined_total", (("reason", "exception"), *first)] == 9
    assert found["streamheal_records_quarantined_total", (("reason", "crash"), *first)] == 3
    assert found["streamheal_shard_lag_seconds", first] == 1.5
    assert found["streamheal_retention_left_seconds", first] == 86_000
    assert found["streamheal_oldest_open_seconds", first] == 0.25
    assert found["streamheal_paused", first] == 1
    assert found["streamheal_attempts_total", (("outcome", "exception"),)] == 28
    assert found["streamheal_attempts_total", (("outcome", "crash"),)] == 2
    assert found["streamheal_worker_deaths_total", (("cause", "signal"),)] == 2
    assert found["streamheal_quarantine_writes_total", (("outcome", "stored"),)] == 12
    assert found["streamheal_checkpoints_total", ()] == 6


def test_how_long_records_took_and_waited_is_told() -> None:
    host = Host()
    for seconds in (0.00005, 0.002, 0.003, 45.0):
        host.times.add("took", seconds)
    host.times.add("waited", 1.5)
    host.times.add("waited", 1.0)
    found = samples(run(host, "/metrics")[1])
    by_bound = [found["streamheal_process_seconds_bucket", (("le", le),)] for le in ("0.0001", "0.003", "30.0", "+Inf")]
    assert by_bound == [1, 3, 3, 4]
    assert found["streamheal_process_seconds_count", ()] == 4
    assert found["streamheal_collateral_delay_seconds_total", ()] == 2.5
    assert found["streamheal_process_seconds_sum", ()] == pytest.approx(45.00505)


def test_what_is_not_known_of_a_shard_is_left_out_and_not_said_to_be_nought() -> None:
    host = Host()
    host.shards = [SECOND]
    found = samples(run(host, "/metrics")[1])
    assert "streamheal_shard_lag_seconds" not in {name for name, _ in found}
    assert "streamheal_retention_left_seconds" not in {name for name, _ in found}


def test_a_scraper_that_asks_for_openmetrics_gets_it() -> None:
    status, text = run(Host(), "/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert status == 200
    assert text.endswith("# EOF\n")


def test_the_records_add_up_in_every_scrape_while_they_move() -> None:
    """The host moves records on between turns of its loop, and scrapes run at the same time."""
    host = Host()

    async def move(stop: asyncio.Event) -> None:
        done = read = 0
        while not stop.is_set():
            read += 3
            host.shards = [ShardFigures("orders", "shardId-000000000000", read, done, 0, {}, 0, read - done)]
            await asyncio.sleep(0)
            done += 2
            host.shards = [ShardFigures("orders", "shardId-000000000000", read, done, 0, {}, 0, read - done)]
            await asyncio.sleep(0)

    async def scrape() -> None:
        stop = asyncio.Event()
        moving = asyncio.create_task(move(stop))
        async with served(host) as get:
            for _ in range(30):
                _, text = await asyncio.to_thread(get, "/metrics")
                values: Counter[str] = Counter()
                for (name, _), value in samples(text).items():
                    values[name] += int(value)
                assert values["streamheal_records_read_total"] == (
                    values["streamheal_records_done_total"] + values["streamheal_records_in_flight"]
                )
        stop.set()
        await moving

    asyncio.run(scrape())


def test_a_host_is_healthy_from_the_start_and_ready_once_a_shard_is_read() -> None:
    host = Host()

    async def ask() -> None:
        async with served(host) as get:
            assert await asyncio.to_thread(get, "/healthz") == (200, "ok\n")
            assert await asyncio.to_thread(get, "/readyz") == (503, "no shard is read yet\n")
            host.shards = [ShardFigures("orders", "shardId-000000000000", 0, 0, 0)]
            assert await asyncio.to_thread(get, "/readyz") == (503, "no answer from the stream yet\n")
            host.shards = [ShardFigures("orders", "shardId-000000000000", 0, 0, 0, lag_s=0.0)]
            assert await asyncio.to_thread(get, "/readyz") == (200, "ok\n")

    asyncio.run(ask())


def test_a_port_that_is_taken_is_wrong_usage() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} on 127.0.0.1 is taken"):
            asyncio.run(_serve_at(("127.0.0.1", port)))


def test_a_host_name_that_does_not_exist_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match=r"there is no host 'no\.such\.host\.invalid'"):
        asyncio.run(_serve_at(("no.such.host.invalid", 0)))


def test_off_listens_nowhere() -> None:
    asyncio.run(_serve_at(None))


async def _serve_at(address: tuple[str, int] | None) -> None:
    async with serving(address, Host()) as at:
        assert at is None


def test_signals_stay_with_the_host() -> None:
    """uvicorn takes SIGINT and SIGTERM over when it is let."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    async def look() -> tuple[object, object]:
        async with serving(("127.0.0.1", 0), Host()):
            return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    with_loop = asyncio.run(look())
    assert with_loop[1] == before[1]
    assert "uvicorn" not in repr(with_loop)


def test_a_connection_held_open_does_not_hold_up_the_end() -> None:
    async def hold() -> bytes:
        async with serving(("127.0.0.1", 0), Host()) as address:
            assert address is not None
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readline()
        assert await reader.read() is not None
        writer.close()
        return head

    assert asyncio.run(asyncio.wait_for(hold(), 10)) == b"HTTP/1.1 200 OK\r\n"
