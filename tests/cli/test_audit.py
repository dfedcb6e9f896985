"""`streamheal audit`: a stream of the embedded AWS, beside logs in which something is wrong on purpose."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from streamheal.audit.scratch import Scratch
from streamheal.quarantine.folder import FolderStore
from streamheal.records import Position
from streamheal.state.ledgers import Checkpoints
from streamheal.state.sqlite import SqliteState
from tests.cli.calling import Called, call
from tests.conftest import Aws
from tests.people.envelopes import envelope
from tests.workers.test_decode import aggregate

APPLICATION = "shop"


class Put(NamedTuple):
    """One user record, as the stream has it."""

    shard_id: str
    sequence: str
    sub: int = 0

    @property
    def line(self) -> dict[str, Any]:
        return {"sequence_number": self.sequence, "sub_sequence_number": self.sub, "shard_id": self.shard_id}


class Site:
    """A stream, the checkpoints of one application, and its log."""

    def __init__(self, aws: Aws, stream: str, folder: Path) -> None:
        self._kinesis, self.stream, self.folder = aws.client("kinesis"), stream, folder
        self.puts: list[Put] = []

    def put(self, *keys: str, data: bytes = b"{}") -> None:
        for key in keys:
            told = self._kinesis.put_record(StreamName=self.stream, PartitionKey=key, Data=data)
            self.puts.append(Put(told["ShardId"], told["SequenceNumber"]))

    def put_aggregate(self, *keys: str) -> None:
        told = self._kinesis.put_record(
            StreamName=self.stream, PartitionKey=keys[0], Data=aggregate(*((key, b"{}", None) for key in keys))
        )
        self.puts += [Put(told["ShardId"], told["SequenceNumber"], nth) for nth in range(len(keys))]

    def checkpoint(self, upto: int | None = None, *, ended: Iterable[str] = (), began: str = "TRIM_HORIZON") -> None:
        """Each shard at the last of its records among the first `upto`."""
        state = SqliteState(self.folder / ".streamheal" / f"{APPLICATION}.db")
        rows = Checkpoints(state, APPLICATION, self.stream)
        for put in self.puts[:upto]:
            rows.begin(put.shard_id, began)
            rows.write(put.shard_id, Position(int(put.sequence), put.sub))
        for shard_id in ended:
            rows.write_ended(shard_id)
        state.close()

    def log(self, lines: Iterable[dict[str, Any]], name: str = "effects.jsonl") -> None:
        (self.folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))

    def all(self) -> list[dict[str, Any]]:
        return [put.line for put in self.puts]

    def audit(self, *arguments: str, effects: str = "effects.jsonl") -> Called:
        return call("audit", "--stream", self.stream, "--application", APPLICATION, "--effects", effects, *arguments)

    def told(self, *arguments: str, effects: str = "effects.jsonl") -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
        """The exit code, the findings, and the sum."""
        called = self.audit("--json", *arguments, effects=effects)
        assert called.err == ""
        rows = [json.loads(line) for line in called.out.splitlines()]
        assert isinstance(called.code, int)
        return called.code, [row for row in rows if "finding" in row], rows[-1]


@pytest.fixture
def site(aws: Aws, stream: Callable[..., str], folder: Path) -> Site:
    return Site(aws, stream(shards=2), folder)


def aside(site: Site, put: Put, **changes: Any) -> None:
    one = envelope(
        1, application=APPLICATION, stream=site.stream, shard_id=put.shard_id, sequence_number=put.sequence,
        sub_sequence_number=put.sub, **changes,
    )  # fmt: skip
    assert FolderStore(site.folder / "quarantine").put([one]) == [None]


def test_where_everything_was_done_it_adds_up(site: Site) -> None:
    site.put(*(f"key-{nth % 5}" for nth in range(20)))
    site.checkpoint()
    site.log(site.all())
    code, out, err = site.audit()
    assert (code, err) == (0, "")
    assert "20 records up to the checkpoints: 20 done, 0 in quarantine, 0 lost" in out


def test_a_record_that_is_nowhere_is_lost(site: Site) -> None:
    site.put(*(f"key-{nth % 5}" for nth in range(20)))
    site.checkpoint()
    site.log(site.all()[:7] + site.all()[8:])
    code, (finding,), total = site.told()
    assert code == 3
    assert (finding["finding"], finding["sequence_number"]) == ("lost", site.puts[7].sequence)
    assert (finding["partition_key"], finding["shard_id"]) == ("key-2", site.puts[7].shard_id)
    assert (total["adds_up"], total["records"], total["done"], total["lost"]) == (False, 20, 19, 1)
    shown = site.audit()
    assert shown.code == 3
    assert " 1 record lost: behind the checkpoint, no effect, not in quarantine" in shown.out
    assert f"{site.puts[7].sequence}  key key-2" in shown.out
    assert "does not add up" in shown.out


def test_what_no_checkpoint_has_passed_is_not_lost(site: Site) -> None:
    site.put(*["key-1"] * 10)
    site.checkpoint(upto=6)
    site.log(site.all()[:6])
    code, findings, total = site.told()
    assert (code, findings, total["records"]) == (0, [], 6)


def test_a_record_done_twice_is_told_of_and_is_no_fault(site: Site) -> None:
    """Delivery is at least once."""
    site.put("a", "b", "c")
    site.checkpoint()
    site.log([*site.all(), site.all()[1]])
    code, (finding,), total = site.told()
    assert code == 0
    assert (finding["finding"], finding["sequence_number"]) == ("twice", site.puts[1].sequence)
    assert finding["detail"] == "2 times"
    assert (total["done"], total["twice"], total["adds_up"]) == (3, 1, True)


def test_first_effects_of_a_key_that_are_out_of_order_are_found(site: Site) -> None:
    site.put("a", "a", "b", "a")
    site.checkpoint()
    first, second, other, third = site.all()
    site.log([first, third, second, other])
    code, (finding,), _ = site.told()
    assert code == 3
    assert (finding["finding"], finding["sequence_number"]) == ("out_of_order", third["sequence_number"])
    assert finding["detail"] == f"before {second['sequence_number']}:0"
    assert site.told("--ordering", "none")[0] == 0


def test_a_second_run_of_a_key_is_not_out_of_order(site: Site) -> None:
    """After a restart 1 and 2 run again, in order: their first effects are what counts."""
    site.put("a", "a", "a")
    site.checkpoint()
    first, second, third = site.all()
    site.log([first, second, first, second, third])
    assert site.told()[0] == 0


def test_other_keys_may_overtake_but_not_in_a_shard_that_is_strict(site: Site) -> None:
    site.put("a", *["b"] * 3)
    same = [put for put in site.puts if put.shard_id == site.puts[1].shard_id]
    site.checkpoint()
    site.log(reversed(site.all()) if len(same) == 3 else [same[-1].line, *site.all()])
    assert site.told("--ordering", "shard")[0] == 3


def test_order_across_files_is_judged_by_their_times_only(site: Site) -> None:
    """Each life of a worker writes a file of its own."""
    site.put("a", "a")
    site.checkpoint()
    first, second = site.all()
    site.log([first], "one.jsonl")
    site.log([second], "two.jsonl")
    code, _, total = site.told(effects="*.jsonl")
    assert (code, total["order_unknown"]) == (0, 1)
    site.log([first | {"at": 1795424770.5}], "one.jsonl")
    site.log([second | {"at": "2026-11-23T09:00:00Z"}], "two.jsonl")
    code, (finding,), total = site.told(effects="*.jsonl")
    assert (code, finding["finding"], total["order_unknown"]) == (3, "out_of_order", 0)


def test_what_is_in_quarantine_is_accounted_for(site: Site) -> None:
    site.put("a", "b", "c")
    aside(site, site.puts[1], status="discarded")
    site.checkpoint()
    site.log([site.all()[0], site.all()[2]])
    code, findings, total = site.told()
    assert (code, findings, total["done"], total["quarantined"]) == (0, [], 2, 1)


def test_a_record_that_is_set_aside_though_it_was_done_needs_a_human(site: Site) -> None:
    site.put("a", "b", "c")
    aside(site, site.puts[1])
    site.checkpoint()
    site.log(site.all())
    code, (finding,), total = site.told()
    assert (code, finding["finding"], total["aside_though_done"]) == (3, "aside_though_done", 1)


def test_a_record_that_a_replay_has_healed_was_to_be_done(site: Site) -> None:
    """Its effect comes after those of its key that came later: it was set aside meanwhile."""
    site.put("a", "a", "a")
    aside(site, site.puts[0], status="healed")
    site.checkpoint()
    first, second, third = site.all()
    site.log([second, third, first])
    code, findings, _ = site.told()
    assert (code, findings) == (0, [])


def test_what_was_not_wanted_is_told_by_the_log_or_may_be_missing(site: Site) -> None:
    site.put("a", "b", "c")
    site.checkpoint()
    first, second, third = site.all()
    site.log([first, second | {"filtered": True}, third])
    code, _, total = site.told()
    assert (code, total["done"], total["filtered"]) == (0, 2, 1)
    site.log([first, third])
    assert site.told()[0] == 3
    code, findings, total = site.told("--filtered-may-miss")
    assert (code, findings, total["unaccounted"], total["lost"]) == (0, [], 1, 0)


def test_each_record_of_an_aggregate_has_a_fate_of_its_own(site: Site) -> None:
    site.put("a")
    site.put_aggregate("a", "b", "a")
    site.put("a")
    aside(site, site.puts[2])
    site.checkpoint()
    site.log(site.puts[nth].line for nth in (0, 1, 4))
    code, (finding,), total = site.told()
    assert code == 3
    assert (finding["finding"], finding["sub_sequence_number"]) == ("lost", 2)
    assert (total["records"], total["done"], total["quarantined"], total["lost"]) == (5, 3, 1, 1)


def test_a_checkpoint_within_an_aggregate_passes_only_those_before_it(site: Site) -> None:
    site.put_aggregate("a", "b", "a")
    site.checkpoint(upto=2)
    site.log(site.all()[:2])
    code, _, total = site.told()
    assert (code, total["records"]) == (0, 2)


def test_a_split_is_followed_and_an_ended_parent_is_audited_to_its_end(aws: Aws, stream: Any, folder: Path) -> None:
    site = Site(aws, stream(shards=1), folder)
    site.put("a", "b", "c")
    kinesis = aws.client("kinesis")
    kinesis.split_shard(StreamName=site.stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(1 << 127))
    kinesis.get_waiter("stream_exists").wait(StreamName=site.stream, WaiterConfig={"Delay": 1})
    site.put(*(f"key-{nth}" for nth in range(8)))
    site.checkpoint(ended=["shardId-000000000000"])
    site.log(site.all()[:2] + site.all()[3:])
    code, (finding,), total = site.told()
    assert (code, finding["finding"], finding["shard_id"]) == (3, "lost", "shardId-000000000000")
    assert (total["records"], total["done"]) == (11, 10)


def test_a_range_is_read_by_positions_or_times(site: Site) -> None:
    site.put(*["a"] * 6)
    site.checkpoint()
    site.log(site.all())
    shard = site.puts[0].shard_id
    bounds = "--shard", shard, "--from", site.puts[1].sequence, "--until", site.puts[3].sequence
    code, _, total = site.told(*bounds)
    assert (code, total["records"], total["effects_not_in_range"]) == (0, 3, 3)
    assert site.told("--until", "1h")[2]["records"] == 0
    assert site.told("--from", "1h")[2]["records"] == 6


def test_what_lies_before_the_first_start_was_never_read(site: Site) -> None:
    site.put("a")
    site.checkpoint(began="2999-01-01T00:00:00+00:00")
    site.log(site.all())
    assert site.told()[2]["records"] == 0


def test_half_a_line_of_a_killed_process_is_told_of(site: Site) -> None:
    site.put("a", "b")
    site.checkpoint()
    site.log(site.all())
    with (site.folder / "effects.jsonl").open("a") as log:
        log.write('{"sequence_nu')
    code, _, total = site.told()
    assert (code, total["effects_unreadable"]) == (0, 1)
    assert "1 line of the log could not be read" in site.audit().out


def test_the_log_may_come_from_a_pipe(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("a", "b")
    site.checkpoint()
    raw = "".join(json.dumps(line) + "\n" for line in site.all()).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    assert site.told(effects="-")[2]["done"] == 2


def test_the_leases_of_kcl_tell_how_far_its_shards_are(aws: Aws, table: Callable[..., str], site: Site) -> None:
    """The parent's lease is gone, as KCL deletes it; the other's stands within an aggregate."""
    site.put_aggregate("a", "a", "a")
    name = f"{site.stream}-leases"
    put, dynamodb = site.puts[0], aws.client("dynamodb")
    dynamodb.create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
    )  # fmt: skip
    lease = {"leaseKey": {"S": put.shard_id}, "leaseCounter": {"N": "1"}, "checkpoint": {"S": put.sequence},
             "checkpointSubSequenceNumber": {"N": "1"}}  # fmt: skip
    dynamodb.put_item(TableName=name, Item=lease)
    site.log(site.all()[:1])
    called = call(
        "audit", "--engine", "kcl", "--application", name, "--stream", site.stream, "--effects", "effects.jsonl",
        "--json",
    )  # fmt: skip
    assert called.code == 3
    (lost, _, total) = (json.loads(line) for line in called.out.splitlines())
    assert (lost["finding"], lost["sub_sequence_number"], total["records"]) == ("lost", 1, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no --effects: give the log that the processor wrote (see docs/audit.md)"),
        (["--effects", "no.jsonl"], "no stream: give --stream NAME"),
        (["--effects", "no.jsonl", "--stream", "orders"],
         "no application: give --application NAME, whose checkpoints are meant"),
        (["--effects", "no.jsonl", "--stream", "orders", "--application", "shop"],
         "--effects: there is no file no.jsonl"),
        (["--effects", "-", "--stream", "orders", "--application", "shop", "--from", "49638" * 4],
         "--from is a sequence number: expected --shard with it, the one that it is of"),
        (["--effects", "-", "--stream", "orders", "--application", "shop", "--until", "noon"],
         "--until is 'noon': expected a time such as 2026-03-01T12:00Z, or how long ago: 90s, 20m, 2h, 3d"),
        (["--effects", "-", "--stream", "orders", "--application", "shop"],
         "application shop has checkpointed no shard of stream orders: looked in sqlite:.streamheal/shop.db. "
         "Expected --application, --stream and --state (or --engine kcl) as its run has them"),
    ],
)  # fmt: skip
def test_wrong_usage_is_said_in_one_message(arguments: list[str], message: str) -> None:
    assert call("audit", *arguments) == (2, "", f"streamheal: {message}\n")


def test_a_log_without_a_single_effect_is_wrong_usage(site: Site) -> None:
    site.put("a")
    site.checkpoint()
    site.log([{"position": 1}])
    code, _, err = site.audit()
    assert code == 2
    assert "none of 1 lines is an effect: expected JSON lines" in err


def test_positions_sort_as_numbers_whatever_their_length() -> None:
    with Scratch() as scratch:
        for sequence in (9, 10, 255, 256, 10**56, 10**128):
            scratch.add_aside(Position(sequence), "shard-0", "open", str(sequence))
        found = scratch.aside("shard-0", Position(10), Position(10**56))
        assert [one.id for one in found.values()] == ["10", "255", "256", str(10**56)]
