"""Which stack frames are the application's own, in tracebacks and in faulthandler's dumps alike."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The demo's shop is an application, though it ships with us.
_DEMO = os.path.join(_OURS, "demo") + os.sep
_STDLIB = os.path.dirname(os.path.abspath(os.__file__))
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]")
_DUMPED = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)$')


class Frame(NamedTuple):
    file: str
    line: int
    name: str

    @property
    def ours(self) -> bool:
        return self.file.startswith(_OURS + os.sep) and not self.file.startswith(_DEMO)

    @property
    def own(self) -> bool:
        """The application's: not the standard library's, not an installed package's, not streamheal's."""
        return self.file.startswith(_DEMO) or not (
            self.ours or self.file.startswith((_STDLIB + os.sep, "<frozen")) or _INSTALLED.search(self.file) is not None
        )

    @property
    def short_file(self) -> str:
        """Relative to the working folder, so that a failure looks the same on every machine."""
        here = os.getcwd() + os.sep
        return self.file[len(here) :] if self.file.startswith(here) else os.path.basename(self.file)


def told(stack: Iterable[Frame]) -> tuple[tuple[str, ...], str | None]:
    """The application's frames, outermost first, and the innermost with its line, for people.

    Where none is the application's, the innermost frame of all.
    """
    frames = [frame for frame in stack if not frame.ours]
    frames = [frame for frame in frames if frame.own] or frames[-1:]
    if not frames:
        return (), None
    last = frames[-1]
    return (
        tuple(f"{frame.short_file}:{frame.name}" for frame in frames),
        f"{last.short_file}:{last.line} in {last.name}",
    )


def task_title(seat: int, span: int, nth: int) -> str:
    """Above the stack of the coroutine that runs this record."""
    return f"Task 0x0 of {seat}.{span}.{nth}"


def dumped(text: str, *, crashed: bool, title: str | None = None) -> list[Frame]:
    """The stack that tells most in what faulthandler wrote, outermost first.

    Where the record's own task was written (`title`), that. After a crash, that of the thread
    that crashed. Otherwise the main thread's, which faulthandler writes last, unless exactly
    one other thread runs the application's code.
    """
    threads: list[tuple[str, list[Frame]]] = []
    for line in text.splitlines():
        if line.startswith(("Thread 0x", "Current thread 0x", "Task 0x")):
            threads.append((line, []))
        elif threads and (found := _DUMPED.match(line)):
            threads[-1][1].insert(0, Frame(found["file"], int(found["line"]), found["name"]))
    for _, frames in threads:
        if frames and frames[0].file == "<string>":
            del frames[0]  # the line that started the process
    for head, frames in threads:
        if (title is not None and head.startswith(f"{title} ")) or (crashed and head.startswith("Current")):
            return frames
    busy = [frames for _, frames in threads if any(frame.own for frame in frames)]
    if len(busy) == 1:
        return busy[0]
    return threads[-1][1] if threads else []
