"""What is written to the terminal while a live view stands on it: kept, and printed above the view."""

from __future__ import annotations

import io
from collections import deque
from typing import TextIO

# A terminal scrolls no faster than people read. Whoever wants every line sends them to a file:
# then there is no view, and nothing is left out.
_LINES_MAX = 30


class Above(io.TextIOBase):
    """Stands in for standard output or error. Costs its writer an append, whatever the rate."""

    def __init__(self, terminal: TextIO) -> None:
        self.terminal = terminal
        # Whom rich writes to, where its console is told to write to `sys.stderr`.
        self.rich_proxied_file = terminal
        self._written: deque[str] = deque()

    def write(self, text: str) -> int:
        self._written.append(text)
        return len(text)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.terminal.isatty()

    def fileno(self) -> int:
        return self.terminal.fileno()

    def take(self) -> list[str]:
        """The whole lines written since the last call; of many, the last ones."""
        text = "".join(self._written.popleft() for _ in range(len(self._written)))
        whole, newline, rest = text.rpartition("\n")
        if rest:
            self._written.appendleft(rest)
        lines = whole.split("\n") if newline else []
        if len(lines) <= _LINES_MAX:
            return lines
        return [f"… {len(lines) - _LINES_MAX + 1:,} lines not shown …", *lines[1 - _LINES_MAX :]]

    def give_back(self) -> None:
        """Write the rest, whole line or not, where it was meant to go."""
        for text in (*(f"{line}\n" for line in self.take()), *self._written):
            self.terminal.write(text)
        self._written.clear()
