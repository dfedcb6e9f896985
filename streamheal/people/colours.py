"""One colour a meaning. Colour only repeats what words say, so that nothing is lost without it."""

from __future__ import annotations

GOOD = "green"
SICK = "red"
WAITS = "yellow"
QUIET = "dim"
COMMAND = "bold cyan"

REASONS = {
    "crash": "bold red",
    "deadline": "magenta",
    "exception": SICK,
    "rejected": WAITS,
    "decode": WAITS,
    "parked": "blue",
}
STATUSES = {"open": SICK, "healed": GOOD, "discarded": QUIET}
