"""What TARGET may name, and the one plain message where it names something else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from streamheal.errors import TargetError

from .stand import line, standing

GOOD = """
import functools
class Plain(RecordProcessor):
    ordering, concurrency, deadline_s, attempts_max = "shard", 3, 7.5, 5
    def process_record(self, record): pass
class Async(RecordProcessor):
    async def process_record(self, record): pass
class Batch:
    def process_records(self, records): pass
class Duck:
    def process_record(self, record): pass
    def mask(self, record): return b""
class Outer:
    class Inner(Plain): pass
def handle(record): effect(record.json())
async def ahandle(record): effect(record.json())
class Callable_:
    async def __call__(self, record): effect(record.json())
called = Callable_()
"""


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Plain", ("plain", "shard", 3, 7.5)),
        ("Outer.Inner", ("plain", "shard", 3, 7.5)),
        ("Async", ("async", "key", 100, 30.0)),
        ("Batch", ("batch", "key", 1, 30.0)),
        ("Duck", ("plain", "key", 1, 30.0)),
        ("handle", ("plain", "key", 1, 30.0)),
        ("ahandle", ("async", "key", 100, 30.0)),
        ("called", ("async", "key", 100, 30.0)),
    ],
)
async def test_what_a_processor_is_is_found_out(tmp_path: Path, name: str, found: tuple[object, ...]) -> None:
    async with standing(tmp_path, GOOD, f"app:{name}") as stand:
        facts = stand.facts
        assert (facts.mode, facts.ordering, facts.concurrency, facts.deadline_s) == found
        assert facts.name == f"app:{name}"
        assert facts.class_name == name.rpartition(".")[2]
        if facts.ordering == "shard":
            overrides = {"ordering": "shard", "concurrency": 3, "deadline_s": 7.5, "attempts_max": 5}
            assert (facts.attempts_max, facts.overrides) == (5, overrides)
        assert facts.masks == (name == "Duck")
        assert {"streamheal", "msgspec"} <= set(facts.packages)


@pytest.mark.parametrize("name", ["handle", "ahandle", "called"])
async def test_a_function_of_one_record_is_a_processor(tmp_path: Path, name: str) -> None:
    async with standing(tmp_path, GOOD, f"app:{name}") as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([1, 2]))
        await ear.span_done(1)
        assert sorted(stand.effects()) == ["1", "2"]


async def test_configuration_counts_where_the_processor_says_nothing(tmp_path: Path) -> None:
    options = {"ordering": "none", "concurrency": 9, "deadline_s": 1.5}
    async with standing(tmp_path, GOOD, "app:Duck", **options) as stand:
        facts = stand.facts
        assert (facts.ordering, facts.concurrency, facts.deadline_s, facts.overrides) == ("none", 9, 1.5, {})


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("app:Order", "app has no Order. Did you mean Orders?   (TARGET, as module:Class)"),
        ("app:Zzz", "app has no Zzz.   (TARGET, as module:Class)"),
        ("app:prcess", "app has no prcess. Did you mean process?   (TARGET, as module:function)"),
        ("apq:Orders", "there is no module apq here"),
        ("app.deep:Orders", "app cannot be imported"),
        ("app", "'app' is not of the form module:Class or module:function"),
        ("app:", "is not of the form"),
        ("app.py:Orders", "not in the working folder, not installed. Leave .py out: app:…   (TARGET"),
        ("app:number", "app:number is an int, not a processor"),
        ("app:os", "app:os is a module, not a processor"),
        ("app:Empty", "app:Empty has neither process_record nor process_records: it is not a processor"),
        ("app:Bare", "app:Bare overrides neither process_record nor process_records"),
        ("app:orders", "app:orders is an instance: name its class Orders instead"),
        ("app:Picky", "app:Picky is made without arguments here, but: missing a required argument: 'url'"),
        ("app:none", "app:none is called with one record, but: too many positional arguments"),
        ("app:Wrong", "app:Wrong.ordering is 'partition'; it should be 'shard', 'key' or 'none'"),
        ("app:Slow", "app:Slow.deadline_s is 0; it should be seconds, more than 0"),
        ("app:Single", "app:Single.poison is <class 'ValueError'>; it should be a tuple of exception classes"),
        ("app:Waits", "app:Waits.wants is a coroutine function; it should be a plain one"),
    ],
)
async def test_a_wrong_target_is_one_plain_message(tmp_path: Path, target: str, says: str) -> None:
    code = """
number = 3
class Waits(RecordProcessor):
    async def wants(self, record): return False
    async def process_record(self, record): pass
class Orders(RecordProcessor):
    def process_record(self, record): pass
orders = Orders()
class Empty: pass
class Bare(RecordProcessor): pass
class Picky(Orders):
    def __init__(self, url): pass
class Wrong(Orders): ordering = "partition"
class Slow(Orders): deadline_s = 0
class Single(Orders): poison = ValueError
def process(record): pass
def none(): pass
"""
    if target.startswith("app.deep"):
        says = "there is no module app.deep here"
    with pytest.raises(TargetError) as raised:
        async with standing(tmp_path, code, target):
            pass
    assert str(raised.value).startswith(says) or says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise ValueError('no DATABASE_URL')", "app cannot be imported: ValueError: no DATABASE_URL, "),
        ("import nowhere_to_be_found", "app cannot be imported: ModuleNotFoundError: No module named 'nowhere_to"),
        ("def broken(:", "app cannot be imported: SyntaxError"),
        ("sys.exit('configure me')", "app cannot be imported: SystemExit: configure me"),
        ("die('segv')", "app ends the process while it is imported: the process died of SIGSEGV"),
        ("print('no license'); die('exit')", "ends the process while it is imported: the process exited with code 7"),
    ],
)
async def test_a_module_that_cannot_be_imported_says_why(tmp_path: Path, code: str, says: str) -> None:
    with pytest.raises(TargetError) as raised:
        async with standing(tmp_path, code):
            pass
    assert says in str(raised.value)
    if "license" in code:
        assert "(no license)" in str(raised.value)


async def test_an_import_that_hangs_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="importing app takes longer than 1 s"):
        async with standing(tmp_path, "die('hang')", ready_s_max=0.7):
            pass


async def test_the_release_comes_from_the_environment_else_from_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_COMMIT", "abc123")
    async with standing(tmp_path, "def handle(record): pass", "app:handle") as stand:
        assert stand.facts.version == "abc123"
    monkeypatch.delenv("GIT_COMMIT")
    _commit(tmp_path)
    async with standing(tmp_path, "def handle(record): pass", "app:handle") as stand:
        assert stand.facts.version is not None
        assert len(stand.facts.version) >= 7


def _commit(folder: Path) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(["git", *who, "commit", "-q", "--allow-empty", "-m", "first"], cwd=folder, check=True)


async def test_a_plain_function_that_returns_a_coroutine_has_failed(tmp_path: Path) -> None:
    """Nobody would ever await it, and the record would count as done."""
    code = "async def work(r): pass\ndef handle(record): return work(record)"
    async with standing(tmp_path, code, "app:handle") as stand:
        ear = await stand.ear().start()
        ear.bring(1, line([1]))
        await ear.span_done(1)
        (attempt,) = next(iter(ear.attempts.values()))
        assert "define it with `async def`" in (attempt.message or "")
