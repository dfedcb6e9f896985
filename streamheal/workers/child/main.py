"""Where a worker process begins: it imports the user's module, says what it found, and waits.

Until it is told what to be it is a warm spare; then a worker of some shards, or a cell.
Imports are kept few: a process must be cheap (`python -X importtime` shows what is not).
"""

from __future__ import annotations

import faulthandler
import gc
import os
import resource
import signal
import sys
from typing import NoReturn

import msgspec

from streamheal import platform
from streamheal.errors import TargetError
from streamheal.workers import wire
from streamheal.workers.arena import map_arena
from streamheal.workers.child import tee
from streamheal.workers.child.birth import Birth
from streamheal.workers.child.link import Link
from streamheal.workers.child.target import Options, load
from streamheal.workers.child.worker import Site, Worker
from streamheal.workers.journal import Journal

_OOM_SCORE = 500


def main(argument: str) -> NoReturn:
    birth = msgspec.json.decode(argument, type=Birth)
    # Before anything else can open files: user code that closes descriptors begins with the low ones.
    link = Link(platform.high_descriptor(birth.sock))
    platform.die_with(birth.parent, link.wait_for_end)
    if birth.group is not None:
        from streamheal.workers.cgroups import enter

        enter(birth.group)
    dump = platform.high_descriptor(birth.dump)
    _settle_in(dump)
    arena = map_arena(platform.high_descriptor(birth.arena))
    journal = Journal(platform.high_descriptor(birth.journal))
    os.register_at_fork(after_in_child=journal.release)
    tee.install()
    sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        target = load(birth.target, Options(birth.ordering, birth.concurrency, birth.deadline_s))
    except TargetError as error:
        link.check_not_forked()
        link.send(wire.Facts(error=str(error)))
        link.gone()
    # What the import made stays for good: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    link.check_not_forked()
    link.send(target.facts)
    _live(Site(link, arena, journal, target, dump))


def _settle_in(dump: int) -> None:
    """Be a process that dies alone, quickly, and says where it was."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump delays the news of a death by seconds
    platform.be_killed_first(_OOM_SCORE)
    faulthandler.enable(file=dump, all_threads=True)
    # `chain`: after the dump comes the signal's default action, death. A record whose system call
    # the signal interrupted would else go on as if nothing had happened.
    signal.signal(platform.DUMP_SIGNAL, signal.SIG_DFL)
    faulthandler.register(platform.DUMP_SIGNAL, file=dump, all_threads=True, chain=True)
    # Only the host ends workers. Handlers rather than SIG_IGN, which user code's own
    # processes would inherit.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)


def _live(site: Site) -> NoReturn:
    first = None
    while first is None:
        first = site.link.receive(wait=True)
    if isinstance(first, wire.Alone):
        from streamheal.workers.child.alone import Alone

        Alone(site).run(first)
    else:
        assert isinstance(first, wire.Take)
        _worker(site).run(first)
    os._exit(0)


def _worker(site: Site) -> Worker:
    """The runner for this kind of processor; only that one is imported."""
    facts = site.target.facts
    if facts.mode == "async":
        from streamheal.workers.child.coroutines import Coroutines

        return Coroutines(site)
    if facts.mode == "batch":
        from streamheal.workers.child.batches import Batches

        return Batches(site)
    if facts.concurrency > 1:
        from streamheal.workers.child.threads import Threads

        return Threads(site)
    from streamheal.workers.child.sequential import Sequential

    return Sequential(site)
