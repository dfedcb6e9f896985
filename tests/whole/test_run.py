"""The whole of it: a stream with poison in it is read to its end, whatever dies on the way."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.whole.running import Site, orders, processes_in, put, wait_until

# Of every kind among 3,000; each number says on its own what the record is.
SICK = {
    100: "raise",
    400: "reject",
    700: "zero",
    1000: "crash",
    1300: "exit",
    1600: "sysexit",
    1900: "hang",
    2200: "notjson",
}
PASSING = {150: "flaky", 450: "busy", 1950: "flaky"}
REASONS = {
    "raise": "exception",
    "reject": "rejected",
    "zero": "exception",
    "crash": "crash",
    "exit": "crash",
    "sysexit": "exception",
    "hang": "deadline",
    "notjson": "decode",
}


def how(number: int) -> str:
    return SICK.get(number) or PASSING.get(number) or "fine"


@pytest.mark.parametrize("target", ["shop:Shop", "shop:ThreadShop", "shop:AsyncShop"])
def test_every_kind_of_poison_is_set_aside_and_all_else_is_done(site_of: Any, kinesis: Any, target: str) -> None:
    """3,000 records on 4 shards, one shard split on the way; nobody innocent is set aside."""
    site: Site = site_of(shards=4)
    put(kinesis, site.stream, orders(range(1500), how))
    shard = kinesis.list_shards(StreamName=site.stream)["Shards"][0]
    low, high = (int(shard["HashKeyRange"][f"{end}HashKey"]) for end in ("Starting", "Ending"))
    kinesis.split_shard(
        StreamName=site.stream, ShardToSplit=shard["ShardId"], NewStartingHashKey=str((low + high) // 2)
    )
    wait_until(
        lambda: (
            kinesis.describe_stream_summary(StreamName=site.stream)["StreamDescriptionSummary"]["StreamStatus"]
            == "ACTIVE"
        )
    )
    put(kinesis, site.stream, orders(range(1500, 3000), how))

    done = site.heal(target)

    assert done.returncode == 0, done.stderr
    assert site.effects().keys() == set(range(3000)) - SICK.keys()
    found = site.quarantined()
    assert sorted(envelope["reason"] for envelope in found) == sorted(REASONS[kind] for kind in SICK.values())
    assert not processes_in(site.folder)


def test_neighbours_of_a_killer_run_at_most_once_more(site_of: Any, kinesis: Any) -> None:
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(300), lambda number: "crash" if number in (50, 150, 250) else "fine"))

    done = site.heal("shop:ThreadShop", SHOP_WORK_S="0.002")

    assert done.returncode == 0, done.stderr
    assert site.effects().keys() == set(range(300)) - {50, 150, 250}
    assert max(site.effects().values()) <= 2


@pytest.mark.parametrize("target", ["shop:KeyShop", "shop:KeyThreadShop"])
@pytest.mark.parametrize("do", ["keyhang", "keycrash", "keyraise"])
def test_a_record_that_must_not_be_asked_for_its_key_stops_nobody(
    site_of: Any, kinesis: Any, target: str, do: str
) -> None:
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(120), lambda number: do if number == 40 else "fine"))

    done = site.heal(target, SHOP_WORK_S="0.02")

    assert done.returncode == 0, done.stderr
    assert site.effects().keys() == set(range(120)) - {40}
    (envelope,) = site.quarantined()
    assert envelope["reason"] == {"keyhang": "deadline", "keycrash": "crash", "keyraise": "exception"}[do]


def test_records_of_a_key_take_effect_in_order(site_of: Any, kinesis: Any) -> None:
    site: Site = site_of(shards=2)
    put(kinesis, site.stream, orders(range(600), lambda number: "flaky" if number % 60 == 7 else "fine", keys=20))

    done = site.heal("shop:ThreadShop")

    assert done.returncode == 0, done.stderr
    by_key: dict[str, list[int]] = {}
    for number, key in site.effects_in_order():
        by_key.setdefault(key, []).append(number)
    assert len(by_key) == 20
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


def test_a_host_killed_at_random_moments_loses_nothing_and_blames_nobody(site_of: Any, kinesis: Any) -> None:
    """kill -9, again and again, then one run to the end. Seeded, so that a failure can be had again."""
    dice = random.Random(4711)
    site: Site = site_of(shards=2)
    put(kinesis, site.stream, orders(range(1000), lambda number: {333: "crash", 666: "raise"}.get(number, "fine")))
    for _ in range(6):
        before = sum(site.effects().values())
        host = site.start(*site.run_arguments("shop:Shop", "--checkpoint-s", "0.2"), SHOP_WORK_S="0.001")
        enough = before + dice.randrange(1, 120)
        wait_until(lambda host=host, enough=enough: sum(site.effects().values()) >= enough or host.poll() is not None)
        host.kill()
        host.wait()
        wait_until(lambda: not processes_in(site.folder))

    done = site.heal()

    assert done.returncode == 0, done.stderr
    assert site.effects().keys() == set(range(1000)) - {333, 666}
    assert len(site.quarantined()) == 2


def test_a_host_that_was_stopped_with_its_workers_kills_nobody_for_that_time(site_of: Any, kinesis: Any) -> None:
    """As a container that is paused, or a laptop that sleeps: far longer than the deadline, while records run."""
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(6)))
    host = site.start(*site.run_arguments("shop:Shop", "--until-caught-up"), SHOP_WORK_S="0.6")
    wait_until(lambda: bool(site.effects()))
    family = sorted(processes_in(site.folder))
    for pid in family:  # the host first: it would continue the others
        os.kill(pid, signal.SIGSTOP)
    again_at = time.monotonic() + 1.5
    wait_until(lambda: time.monotonic() > again_at)
    for pid in reversed(family):  # and last: it is not to see them stopped
        os.kill(pid, signal.SIGCONT)

    assert host.wait(60) == 0
    assert site.effects() == dict.fromkeys(range(6), 1), "nobody was stopped in the middle and run again"
    assert "worker_died" not in (site.folder / "log").read_text()


def test_sigterm_finishes_what_is_open_and_checkpoints_it(site_of: Any, kinesis: Any) -> None:
    """Stopped in the middle and started again: each record took effect exactly once."""
    site: Site = site_of(shards=2)
    put(kinesis, site.stream, orders(range(400)))
    host = site.start(*site.run_arguments(), SHOP_WORK_S="0.005")
    wait_until(lambda: sum(site.effects().values()) >= 50)
    host.send_signal(signal.SIGTERM)
    host.wait(40)
    assert host.returncode == 0
    assert not processes_in(site.folder)

    done = site.heal()

    assert done.returncode == 0, done.stderr
    assert site.effects() == dict.fromkeys(range(400), 1)


@pytest.mark.parametrize(("target", "repeated_max"), [("shop:Shop", 1), ("shop:ThreadShop", 40)])
def test_a_stop_in_the_middle_of_a_batch_goes_on_there(
    site_of: Any, kinesis: Any, target: str, repeated_max: int
) -> None:
    """A batch of 400 slow records outlasts `shutdown_s`. Only what ran is given again, and what it held up."""
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(400)))
    host = site.start(*site.run_arguments(target, "--shutdown-s", "1"), SHOP_WORK_S="0.02")
    wait_until(lambda: sum(site.effects().values()) >= 20)
    host.send_signal(signal.SIGTERM)
    host.wait(20)
    assert host.returncode == 0
    assert not processes_in(site.folder)
    before = site.effects()
    assert 20 < len(before) < 400, "it was stopped in the middle"

    done = site.heal(target)

    assert done.returncode == 0, done.stderr
    assert site.effects().keys() == set(range(400))
    assert sum(site.effects().values()) <= 400 + repeated_max
    assert site.quarantined() == []


def test_a_second_signal_ends_it_at_once(site_of: Any, kinesis: Any) -> None:
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(10), lambda number: "hang" if number == 5 else "fine"))
    arguments = [*site.run_arguments(), "--deadline-s", "600"]
    host = site.start(*arguments)
    wait_until(lambda: len(site.effects()) >= 5)
    host.send_signal(signal.SIGINT)
    wait_until(lambda: "stop_requested" in (site.folder / "log").read_text())
    host.send_signal(signal.SIGINT)
    host.wait(5)
    assert host.returncode == 128 + signal.SIGINT
    wait_until(lambda: not processes_in(site.folder))


def test_where_everything_fails_nobody_is_set_aside(site_of: Any, kinesis: Any) -> None:
    """A broken release: each record raises. The shard pauses, and the exit code calls a human."""
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(20), lambda number: "raise"))

    done = site.heal("shop:Shop")

    assert done.returncode == 3, done.stderr
    assert site.quarantined() == []


def test_a_lone_sick_record_is_set_aside_after_patience(site_of: Any, kinesis: Any) -> None:
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(1), lambda number: "raise"))

    done = site.heal("shop:Shop")

    assert done.returncode == 0, done.stderr
    (envelope,) = site.quarantined()
    assert envelope["reason"] == "exception"


def test_a_lone_hanging_record_is_judged_before_a_human_is_called(site_of: Any, kinesis: Any) -> None:
    """Its last try takes the whole deadline, which is longer than what a human is called after."""
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(1), lambda number: "hang"))

    done = site.heal("shop:Shop", "--deadline-s", "2", "--patience-s", "2")

    assert done.returncode == 0, done.stderr
    (envelope,) = site.quarantined()
    assert envelope["reason"] == "deadline"


def test_a_second_run_of_the_application_is_refused_with_the_first_ones_pid(site_of: Any, kinesis: Any) -> None:
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(3)))
    first = site.start(*site.run_arguments())
    wait_until(lambda: len(site.effects()) == 3)

    second = site.call(*site.run_arguments())

    first.send_signal(signal.SIGTERM)
    first.wait(30)
    assert second.returncode == 2
    assert f"pid {first.pid}" in second.stderr
    assert first.returncode == 0


def test_a_plain_function_is_a_processor_too(site_of: Any, kinesis: Any) -> None:
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(20)))
    assert site.heal("shop:handle").returncode == 0
    assert site.effects().keys() == set(range(20))


def test_the_envelope_tells_what_happened(site_of: Any, kinesis: Any) -> None:
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(200), lambda number: {50: "raise", 120: "crash"}.get(number, "fine")))
    assert site.heal(SHOP_WORK_S="0.01").returncode == 0

    found = {envelope["reason"]: envelope for envelope in site.quarantined()}
    raised, crashed = site.show(found["exception"]["id"]), site.show(found["crash"]["id"])

    assert len(raised["attempts"]) == 3
    assert raised["attempts"][-1]["exception_type"] == "KeyError"
    assert "shop.py" in raised["attempts"][-1]["traceback"]
    assert "pricing order 50" in raised["attempts"][-1]["log"]
    assert [attempt["number"] for attempt in raised["attempts"]] == [1, 2, 3]
    assert crashed["attempts"][-1]["signal"] == "SIGSEGV"
    assert "shop.py" in crashed["attempts"][-1]["stack"]
    assert raised["fingerprint"] != crashed["fingerprint"]


def test_replay_heals_with_the_fixed_code_and_does_not_try_twice(site_of: Any, kinesis: Any, tmp_path: Path) -> None:
    site: Site = site_of(shards=2)
    put(kinesis, site.stream, orders(range(200), lambda number: "reject" if number in (20, 40, 60) else "fine"))
    assert site.heal().returncode == 0
    assert len(site.quarantined()) == 3

    still_sick = site.call("replay", "--all", "--retry-s-min", "0.05")
    assert still_sick.returncode == 3, still_sick.stderr
    assert len(site.quarantined()) == 3

    healed = site.call("replay", "--all", "--retry-s-min", "0.05", SHOP_FIXED="1")
    assert healed.returncode == 0, healed.stderr
    assert site.quarantined() == []
    assert {20, 40, 60} <= site.effects().keys()
    envelope = site.quarantined("--status", "healed")[0]
    assert [one["outcome"] for one in envelope["replays"]] == ["failed", "healed"]
    assert len(envelope["attempts"]) == 1

    again = site.call("replay", "--all", SHOP_FIXED="1")
    assert again.returncode == 0, again.stderr
    assert max(site.effects().values()) == 1


def test_records_are_replayed_while_the_application_goes_on_reading(site_of: Any, kinesis: Any) -> None:
    site: Site = site_of(shards=1)
    put(kinesis, site.stream, orders(range(20), lambda number: "reject" if number == 5 else "fine"))
    host = site.start(*site.run_arguments())
    wait_until(lambda: len(site.effects()) == 19 and "record_quarantined" in (site.folder / "log").read_text())

    replayed = site.call("replay", "--all", SHOP_FIXED="1")

    assert replayed.returncode == 0, replayed.stderr
    assert host.poll() is None
    host.send_signal(signal.SIGTERM)
    assert host.wait(30) == 0
    assert site.effects() == dict.fromkeys(range(20), 1)


def test_it_can_be_stopped_while_it_still_starts(site_of: Any) -> None:
    """The processor's module takes long to import; nothing was read, and nothing is left behind."""
    site: Site = site_of(shards=1)
    slow = "import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(60)\ndef handle(record): pass\n"
    (site.folder / "slow.py").write_text(slow)
    host = site.start(*site.run_arguments("slow:handle"))
    wait_until((site.folder / "importing").exists)
    host.send_signal(signal.SIGTERM)
    assert host.wait(10) == 0
    wait_until(lambda: not processes_in(site.folder))


def test_the_stream_that_is_read_cannot_be_its_own_quarantine(site_of: Any) -> None:
    site: Site = site_of(shards=1)
    done = site.call(*site.run_arguments(), "--quarantine", f"kinesis://{site.stream}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
