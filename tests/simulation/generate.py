"""What a seed stands for: records and what is wrong with them, outages, faults, a policy."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from streamheal.core.policy import Policy

# What a record is like. The first line are innocents, whatever happens to them.
INNOCENT = {"fine", "filtered", "throttle"}
# Those that kill the whole host: from a lane; from a cell, raising in a lane; from anywhere.
HOST_KILLERS = ("host_lane", "host_cell", "host", "host")
GUILTY = {"flaky", "bad", "poison", "hang", "freeze", "crash", "company", "perhaps", *HOST_KILLERS}
# Each time it runs alone, a cell is taken for a whole deadline, or dies.
_LONG = {"hang", "freeze", "crash", "company", "perhaps", *HOST_KILLERS}

_SICK = (
    "flaky",  # raises `times` times, then is fine
    "bad", "bad", "bad",  # raises
    "poison",  # raises Poison
    "hang",  # waits for ever
    "freeze",  # keeps the whole process from running
    "crash", "crash",  # kills its process
    "company",  # kills its process, but never alone
    "perhaps",  # one or the other, by chance
    "throttle",  # is throttled `times` times, then is fine
    "filtered",  # the processor does not want it
)  # fmt: skip


@dataclass(frozen=True)
class Rec:
    key: str
    kind: str = "fine"
    times: int = 0
    like: str = ""  # the fingerprint of what it raises
    arrives: float = 0.0


@dataclass(frozen=True)
class Down:
    """Everything of a shard fails for a while; or only some keys, or only now and then.

    Attributes:
        shard: None: of all shards.
        runup_s: So long before, one try in three fails already.
        some: Of each try whether it is hit turns on its key: nobody can tell that from poison.
    """

    shard: int | None
    since: float
    until: float
    how: str  # raise, hang or throttle
    like: str
    runup_s: float = 0.0
    some: bool = False

    def hits(self, shard: int, key: str, now: float) -> bool:
        return self.shard in (None, shard) and self.since <= now < self.until and not (self.some and key[-1] in "02468")

    def begins(self, shard: int, now: float) -> bool:
        return self.shard in (None, shard) and self.since - self.runup_s <= now < self.since


@dataclass(frozen=True)
class Fault:
    step: int
    # kill (a process), recycle (one, between its records), oom (a cell), host, deploy, lease, shutdown,
    # broken (all processes die from then on); and scrape, which is none: people look at the figures.
    what: str
    which: int


@dataclass(frozen=True)
class Spec:
    """What a seed stands for; shrinking drops parts of it."""

    seed: int
    policy: Policy
    ordering: str
    concurrency: int
    shards: tuple[tuple[Rec, ...], ...]
    shared: bool = False  # one process for all shards
    outages: tuple[Down, ...] = ()
    store_down: tuple[float, float] = (0.0, 0.0)
    faults: tuple[Fault, ...] = ()
    trickle_s: float = 0.0  # a fine record of a new key every so often, while anything is open
    pace_s: float = 0.003  # how long one step takes, at most
    run_s: float = 0.0  # how long a record runs in a lane besides, at most
    batch_max: int = 1  # records in one call of the processor
    states: bool = False  # the processor says by itself how far it is done, and forgets the rest when its process dies
    empty: bool = True  # now and then a batch holds nothing
    children: bool = False  # the first shard was split: the others begin once it is complete
    fails: float = 0.05  # how often state, quarantine or a checkpoint do not answer
    unready: float = 0.0  # how often `initialize` fails, a few times in all
    leftovers: float = 0.0  # how often who succeeds alone leaves a thread behind
    coroutines: bool = False  # what hangs is cancelled; in cautious mode a dead process tells who was at it
    restless: bool = False  # the host may die just after a record was convicted with nobody to ask
    ends: str = "stop"  # told to stop once all is complete; `returns`: the engine does; `caught up`: at the tip

    @property
    def life_s_max(self) -> float:
        """How long a host may take for all that can be settled: who hangs or kills takes cells for some deadlines."""
        sick = sum(record.kind in _LONG for records in self.shards for record in records)
        return 4_000 + 240 * sick / self.policy.cells_max


def make(seed: int) -> Spec:
    dice = random.Random(seed)
    shards = _shards(dice)
    batch_max = dice.choice([1, 1, 1, 1, 3, 20])
    policy = Policy(
        attempts_max=dice.choice([1, 2, 3, 3, 5]),
        open_records_max=dice.choice([5, 20, 10_000]),
        cells_max=dice.choice([1, 2, 4]),
        patience_s=dice.choice([10.0, 60.0, 60.0]),
        replaying=dice.random() < 0.1,
        batches=batch_max > 1,
    )
    spec = Spec(
        seed=seed,
        policy=policy,
        ordering=dice.choice(["key", "key", "key", "none", "shard"]),
        concurrency=dice.choice([1, 3, 10]),
        shards=shards,
        shared=dice.random() < 0.3,
        outages=_outages(dice, len(shards)),
        store_down=(dice.random() * 5, dice.random() * 200) if dice.random() < 0.2 else (0.0, 0.0),
        faults=_faults(dice),
        trickle_s=dice.choice([0.3, 3, 20, 0, 0]),
        pace_s=dice.choice([0.0001, 0.003, 0.1]),
        batch_max=batch_max,
        children=len(shards) > 1 and dice.random() < 0.3,
        fails=dice.choice([0.0, 0.05, 0.05, 0.3]),
        unready=dice.choice([0.0, 0.0, 0.1, 0.5]),
        restless=dice.random() < 0.3,
        ends=dice.choice(["stop", "stop", "returns", "caught up"]),
    )
    policy = replace(policy, shutdown_s=dice.choice([0.01, 0.5, 20.0]))
    coroutines = batch_max == 1 and dice.random() < 0.3
    if not policy.replaying and dice.random() < 0.15:
        shards = _with_host_killers(dice, shards)
    spec = replace(spec, policy=policy, coroutines=coroutines, shards=shards)
    spec = _crowded(dice, spec) if dice.random() < 0.15 else spec
    return _stating(spec) if batch_max > 1 and not policy.replaying and dice.random() < 0.5 else spec


def _stating(spec: Spec) -> Spec:
    """One call at a time; it takes all that comes."""
    shards = tuple(
        tuple(replace(record, kind="fine") if record.kind == "filtered" else record for record in records)
        for records in spec.shards
    )
    return replace(spec, states=True, shards=shards, concurrency=1)


def _crowded(dice: random.Random, spec: Spec) -> Spec:
    """Many run at once, and some end their process or hold it: cells are used again and again."""
    kinds = ("crash", "crash", "hang", "freeze", "company", "perhaps", "bad", "throttle")
    sick = dice.choice([0.03, 0.1])
    records = []
    for nth in range(dice.choice([20, 40])):
        kind = dice.choice(kinds) if dice.random() < sick else "fine"
        records.append(Rec(f"k{nth}", kind, int(kind == "throttle"), dice.choice("abc")))
    records.insert(dice.randrange(len(records)), Rec("killer", "crash"))
    policy = replace(spec.policy, cells_max=dice.choice([1, 2, 4]), open_records_max=10_000)
    leftovers = dice.choice([0.0, 0.1, 1.0])
    shards = (tuple(records), *spec.shards[1:])
    outages = spec.outages if dice.random() < 0.3 else ()
    spec = replace(spec, policy=policy, shards=shards, outages=outages, ordering="key", leftovers=leftovers)
    return replace(spec, concurrency=32, run_s=dice.choice([0.5, 5.0]))


def _with_host_killers(dice: random.Random, shards: tuple[tuple[Rec, ...], ...]) -> tuple[tuple[Rec, ...], ...]:
    found = [list(records) for records in shards]
    for _ in range(dice.choice([1, 1, 2])):
        records = dice.choice(found)
        nth = dice.randrange(len(records))
        records[nth] = replace(records[nth], kind=dice.choice(HOST_KILLERS))
    return tuple(tuple(records) for records in found)


def _shards(dice: random.Random) -> tuple[tuple[Rec, ...], ...]:
    sick = dice.choice([0.02, 0.1, 0.1, 0.3, 0.6])
    kinds = dice.sample(_SICK, dice.randint(1, 5))
    shards = []
    for _ in range(dice.choice([1, 1, 2, 3])):
        keys, at, records = dice.randint(1, 8), 0.0, []
        for _ in range(dice.choice([1, 3, 7, 15, 24, 39])):
            kind = dice.choice(kinds) if dice.random() < sick else "fine"
            times = dice.randint(1, 4) if kind in ("flaky", "throttle") else 0
            at += dice.choice([0, 0, 0, 0.1, 5]) if dice.random() < 0.3 else 0
            records.append(Rec(f"k{dice.randrange(keys)}", kind, times, dice.choice("abc"), at))
        shards.append(tuple(records))
    return tuple(shards)


def _outages(dice: random.Random, shards: int) -> tuple[Down, ...]:
    """One after the other; never so short that a bracket has no chance to notice."""
    found, at = [], dice.random() * 10
    for nth in range(dice.choice([0, 0, 0, 1, 1, 2, 4])):
        until = at + dice.choice([5.5, 7, 20, 100, 400])
        shard = dice.choice([None, *range(shards)])
        like = dice.choice(["down", f"down{nth}"])
        how = dice.choice(["raise", "raise", "hang", "throttle"])
        runup_s = dice.choice([0.0, 0.0, 2.0, 20.0])
        found.append(Down(shard, at, until, how, like, runup_s, some=dice.random() < 0.1))
        at = until + dice.random() * dice.choice([1, 30])
    return tuple(found)


def _faults(dice: random.Random) -> tuple[Fault, ...]:
    whats = ["kill", "kill", "kill", "kill", "recycle", "oom", "host", "host", "deploy", "lease", "shutdown"]
    many, within = dice.choice([0, 0, 1, 2, 4, 9]), dice.choice([300, 1500])
    found = [Fault(dice.randrange(within), dice.choice(whats), dice.randrange(9)) for _ in range(many)]
    if dice.random() < 0.03:
        found.append(Fault(dice.randrange(within), "broken", 0))
    found += [Fault(dice.randrange(within), "scrape", 0) for _ in range(5)]
    return tuple(sorted(found, key=lambda fault: fault.step))
