"""A round, made of its seed: what is in the stream, who reads it, and what is done to them."""

from __future__ import annotations

import hashlib
import json
import random
from typing import NamedTuple

from aws_kinesis_agg.aggregator import RecordAggregator

# How a record is sick, and the reason that its envelope must give.
REASONS = {
    "raise": "exception",
    "undecodable": "decode",
    "reject": "rejected",
    "segfault": "crash",
    "exit": "crash",
    "suicide": "crash",
    "hang": "deadline",
}
# Records that fail and then succeed: so often.
PASSING = {"flaky": 1, "busy": 2}

DEADLINE_S = 1.0
# A worker's deaths of which nobody can know the cause are answered by one record at a time from the third
# on, and by a stopped shard at the sixth (docs/judging.md): in one life a round gives fewer.
WORKERS_KILLED_MAX = 4


class Entry(NamedTuple):
    """One record of PutRecords: the kinds of the records in it. `packed`: as the KPL packs, else there is one."""

    key: str
    kinds: tuple[str, ...]
    packed: bool = False

    def data(self) -> bytes:
        if not self.packed:
            return _payload(self.kinds[0])
        packing = RecordAggregator()
        for kind in self.kinds:
            packing.add_user_record(self.key, _payload(kind))
        _, _, data = packing.clear_and_get().get_contents()
        return bytes(data)


def _payload(kind: str) -> bytes:
    return b"<order/>" if kind == "undecodable" else json.dumps({"do": kind}).encode()


class Blow(NamedTuple):
    """What is done, once so many more effects are in the book, or so much time has passed since the first record
    could run; with no effects, so much time, wherever the host is by then.

    how     kill (-9), stop (SIGSTOP, and SIGCONT after `for_s`), term (SIGTERM), trouble (of a store or the state)
    whom    host, worker, spare, cell, nursery, all; kcl: stub, daemon. Of trouble: what the AWS or disk does
    """

    how: str
    whom: str
    effects: int
    within_s: float
    for_s: float = 0.0


class Life(NamedTuple):
    """One `streamheal run`: what befalls it, and how it ends (`kill`, `term`, or `itself`)."""

    blows: tuple[Blow, ...]
    end: Blow


class Plan(NamedTuple):
    seed: int
    shards: int
    processor: str
    ordering: str
    state: str
    quarantine: str
    work_s: float
    entries: tuple[Entry, ...]
    lives: tuple[Life, ...]

    @property
    def batches(self) -> bool:
        return self.processor == "Batches"

    @property
    def concurrency(self) -> int:
        return {"Threads": 4, "Coroutines": 8, "Batches": 1_000}.get(self.processor, 1)


class KclPlan(NamedTuple):
    seed: int
    entries: tuple[Entry, ...]
    blows: tuple[Blow, ...]


def make_plan_of_fleet(block: int) -> Plan:
    """What all rounds of a fleet share. In strict order it has one shard: a sick record at the head of each of several
    is people's to look at (docs/judging.md), and would be in all rounds to come."""
    dice = random.Random(f"fleet {block}")
    shards = dice.randint(1, 3)
    processor = dice.choice(["Plain", "Threads", "Coroutines", "Batches"])
    ordering = dice.choice(["key", "key", "shard", "none"])
    return Plan(
        seed=block,
        shards=1 if ordering == "shard" else shards,
        processor=processor,
        ordering=ordering,
        state="dynamodb",
        quarantine=dice.choice(["folder", "s3"]),
        work_s=dice.choice([0.001, 0.003]),
        entries=(),
        lives=(),
    )


def make_kcl(seed: int, fleet: Plan) -> KclPlan:
    dice = random.Random(seed)
    blows = []
    for _ in range(dice.choice([1, 1, 2, 3])):
        match dice.choice(["kill", "kill", "kill", "stop", "trouble"]):
            case "kill":
                whom = dice.choice(["host", "daemon", "daemon", "stub", "stub", "worker", "cell", "spare", "nursery"])
                blows.append(Blow("kill", whom, *_when(dice)))
            case "stop":
                whom = dice.choice(["worker", "host", "daemon", "all"])
                blows.append(Blow("stop", whom, *_when(dice), for_s=dice.choice([0.05, 0.2, 0.4])))
            case _:
                where = dice.choice(["dynamodb", fleet.quarantine])
                blows.append(Blow("trouble", where, *_when(dice), for_s=dice.uniform(0.2, 1.5)))
    return KclPlan(
        seed, tuple(records(dice, _count(dice, fleet.processor) // 2, fleet.shards, fleet.ordering)), tuple(blows)
    )


def make(seed: int) -> Plan:
    dice = random.Random(seed)
    shards = dice.randint(1, 4)
    processor = dice.choice(["Plain", "Plain", "Threads", "Threads", "Coroutines", "Batches"])
    work_s = dice.choice([0.001, 0.003, 0.008])
    ordering = dice.choice(["key", "key", "key", "shard", "none"])
    state = dice.choice(["sqlite", "sqlite", "dynamodb"])
    quarantine = dice.choice(["folder", "s3", "s3", "kinesis"])
    places = [*(["dynamodb"] if state == "dynamodb" else ["sqlite"]), quarantine, "source"]
    lives = [_life(dice, places, last=False) for _ in range(dice.choice([1, 1, 2, 2, 3]))]
    return Plan(
        seed=seed,
        shards=shards,
        processor=processor,
        ordering=ordering,
        state=state,
        quarantine=quarantine,
        work_s=work_s,
        entries=tuple(records(dice, _count(dice, processor), shards, ordering)),
        lives=(*lives, _life(dice, places, last=True)),
    )


def _count(dice: random.Random, processor: str) -> int:
    """A death in a batch is followed by a cell for each of its records: few, or a round takes minutes."""
    return dice.randint(50, 100) if processor == "Batches" else dice.randint(120, 400)


def records(dice: random.Random, count: int, shards: int, ordering: str) -> list[Entry]:
    """About so many, a few of them sick. Each shard has healthy ones at its end: by them the sick are judged."""
    keys = [f"key-{number}" for number in range(dice.choice([3, 10, 40]))]
    kinds = ["fine"] * count
    for number in dice.sample(range(count), dice.randint(2, 6)):
        kinds[number] = dice.choice([*REASONS])
    for number in dice.sample(range(count), dice.randint(0, 12)):
        if kinds[number] == "fine":
            kinds[number] = dice.choice([*PASSING, "filtered", "filtered"])
    entries = []
    while kinds:
        packed = dice.random() < 0.04
        taken = dice.randint(2, 30) if packed else 1
        entries.append(Entry(dice.choice(keys), tuple(kinds[:taken]), packed))
        del kinds[:taken]
    if ordering == "shard":
        entries = _apart(dice, entries, shards)
    return [*entries, *tail(dice, shards)]


def _apart(dice: random.Random, entries: list[Entry], shards: int) -> list[Entry]:
    """Where each waits for the one before, a sick record whose only company is another is never judged."""
    found = []
    for entry in entries:
        sick = [nth for nth, kind in enumerate(entry.kinds) if kind in REASONS]
        kinds = tuple("fine" if nth in sick[1:] else kind for nth, kind in enumerate(entry.kinds))
        found += [entry._replace(kinds=kinds), *(tail(dice, shards, each=1) if sick else ())]
    return found


def tail(dice: random.Random, shards: int, each: int = 8) -> list[Entry]:
    """Healthy records for every shard, of keys of their own."""
    found: list[Entry] = []
    left = dict.fromkeys(range(shards), each)
    while any(left.values()):
        key = f"tail-{dice.randrange(1 << 30)}"
        # Kinesis' own rule, for a stream whose shards were made even and never split.
        shard = int(hashlib.md5(key.encode()).hexdigest(), 16) * shards >> 128
        if left[shard]:
            left[shard] -= 1
            found.append(Entry(key, ("fine",)))
    return found


def _life(dice: random.Random, places: list[str], *, last: bool) -> Life:
    blows: list[Blow] = []
    for _ in range(dice.choice([0, 1, 1, 2, 3])):
        blows += _blows(dice, places)
    workers = [blow for blow in blows if blow.how == "kill" and blow.whom == "worker"]
    blows = [blow for blow in blows if blow not in workers[WORKERS_KILLED_MAX:]]
    end = Blow("itself", "host", 0, 0.0)
    if not last:
        end = Blow(dice.choice(["kill", "kill", "kill", "term"]), "host", *_when(dice))
    return Life(tuple(blows), end)


def _blows(dice: random.Random, places: list[str]) -> list[Blow]:
    match dice.choice(["kill", "kill", "kill", "stop", "trouble", "trouble"]):
        case "kill":
            whom = dice.choice(["worker", "worker", "cell", "cell", "spare", "nursery"])
            # Several in a row, sometimes.
            again = [Blow("kill", whom, 0, 0.02) for _ in range(dice.choice([0, 0, 0, 1]))]
            if whom == "worker" and dice.random() < 0.6:
                # Those who stood beside run alone now.
                again += [Blow("kill", "cell", 0, 0.02) for _ in range(dice.choice([1, 2]))]
            return [Blow("kill", whom, *_when(dice)), *again]
        case "stop":
            whom = dice.choice(["worker", "spare", "cell", "nursery", "host", "all"])
            return [Blow("stop", whom, *_when(dice), for_s=dice.choice([0.05, 0.2, 0.4, 1.6]))]
        case _:
            return [Blow("trouble", dice.choice(places), *_when(dice), for_s=dice.uniform(0.2, 1.5))]


def _when(dice: random.Random) -> tuple[int, float]:
    return dice.choice([0, dice.randint(1, 30), dice.randint(1, 60), dice.randint(1, 200)]), dice.uniform(0.05, 1.2)
