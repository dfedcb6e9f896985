"""What an audit came to, for people."""

from __future__ import annotations

from streamheal.audit.audit import Result, ShardResult
from streamheal.audit.compare import Counts
from streamheal.people.proof import Findings, print_result
from tests.people.envelopes import console, printed


def test_eighty_columns_name_every_shard_and_cut_no_figure() -> None:
    """As wide as a pipe is taken to be. When the last record arrived is left out for that."""
    counts = Counts(records=1_252_117, done=1_246_002, filtered=6_000, quarantined=115)
    shards = [ShardResult(f"shardId-{number:012}", counts, 0, None, None) for number in (7, 11)]
    on = console(80)
    print_result(Result(tuple(shards), 0, 0), Findings(), on)
    _, first, second = printed(on).split("\n")[:3]
    assert first.split() == ["…000007", "1,252,117", "1,246,002", "6,000", "115", "0", "0", "0"]
    assert second.split()[0] == "…000011"
