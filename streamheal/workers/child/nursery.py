"""The process that workers are forked from: it has imported our own code, and never runs anybody else's.

    host ── Birth, descriptors ──► nursery ── forks ──► another ── forks ──► worker
      ◄───────── its pid ──────────── once that has ended: its child is the host's now

A fork takes a few milliseconds where a new interpreter takes a hundred. The worker is nobody's grandchild: the
host, which has made itself the reaper of what its descendants leave behind, becomes its parent.
"""

from __future__ import annotations

import gc
import inspect
import mmap
import os
import signal
import socket
import sys
from contextlib import suppress

import msgspec

from streamheal import platform
from streamheal.workers.child.birth import BORN, READY, Birth, Given

_NAME = "nursery"
_REQUEST_BYTES = 64 * 1024
_PID_BYTES = 8


def nurse(sock_fd: str, host: str) -> str:
    """Bear workers until the host is gone. Returns in each worker, with what it is to begin with.

    It returns rather than calls, so that a worker's stack says nothing of how it was born.
    """
    # The host alone ends us. A terminal's signals do not come here: the session is our own.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sock = socket.socket(fileno=int(sock_fd))
    platform.die_with(int(host), lambda: None)
    called = platform.call_process(_NAME)
    born = mmap.mmap(-1, _PID_BYTES)  # shared with what we fork
    gc.collect()
    gc.freeze()
    sock.send(READY)
    prepared = False
    while True:
        text, descriptors, _, _ = socket.recv_fds(sock, _REQUEST_BYTES, len(Given._fields), socket.MSG_CMSG_CLOEXEC)
        if not text:
            os._exit(0)
        if _fork(born):
            sock.close()
            born.close()
            platform.call_process(called)
            return _begin(text, Given(*descriptors))
        for fd in descriptors:
            os.close(fd)
        sock.send(born[:])
        if not prepared:  # the first of all was not to wait for it
            _import_runners()
            prepared = True


def _fork(born: mmap.mmap) -> bool:
    """Whether this is the new process. In the nursery its pid is in `born`, or 0."""
    born[:] = bytes(_PID_BYTES)
    try:
        # What a `sitecustomize` starts, as agents of monitoring do, would be missing in a fork, and the locks that
        # it holds would never be released there.
        if len(os.listdir("/proc/self/task")) > 1:
            return False
        between = os.fork()
    except OSError:
        return False  # too many processes or files, or no memory
    if between:
        with suppress(ChildProcessError):  # where SIGCHLD is ignored there is nothing to be had, but it was waited for
            os.waitpid(between, 0)
        return False
    try:
        pid = os.fork()
    except OSError:
        os._exit(1)
    if pid:
        born[:] = pid.to_bytes(_PID_BYTES, sys.byteorder)
        os._exit(0)
    return True


def _begin(text: bytes, given: Given) -> str:
    """Be as a process that was just executed."""
    os.setsid()
    for fd, low in ((given.stdout, 1), (given.stderr, 2)):
        os.dup2(fd, low)
        os.close(fd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # The host has heard who we are, and is our parent. If it gave us up it has closed its end.
    try:
        heard = os.read(given.sock, len(BORN))
    except OSError:
        heard = b""
    if not heard:
        os._exit(1)
    birth = msgspec.structs.replace(msgspec.json.decode(text, type=Birth), **given.kept)
    argument = msgspec.json.encode(birth).decode()
    sys.argv[2:] = [argument]
    return argument


class _Plain: ...


def _import_runners() -> None:
    """What workers would import once they know their processor.

    In a folder with a module that has the name of one of Python's, theirs might be that one: then it is left to them.
    """
    try:
        names = os.listdir()
    except OSError:
        return  # the folder is gone
    if not sys.stdlib_module_names.isdisjoint(name.removesuffix(".py") for name in names):
        return
    import asyncio

    from streamheal.workers import cgroups
    from streamheal.workers.child import alone, batches, coroutines, sequential, threads

    del asyncio, cgroups, alone, batches, coroutines, sequential, threads
    # The first signature of a class that has no `__init__` compiles Python's own tokenizer, for milliseconds.
    inspect.signature(_Plain)
    gc.collect()
    gc.freeze()
