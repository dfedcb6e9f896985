"""`python -m streamheal.local`: the emulator as a process of its own; prints its address once it answers."""

from __future__ import annotations

import argparse
import sys

from streamheal.errors import UsageError
from streamheal.local.server import serve, stop_with_parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m streamheal.local", description=__doc__)
    parser.add_argument("--port", type=int, default=4566, help="0 takes a free one")
    parser.add_argument("--with-parent", action="store_true", help="stop when standard input ends")
    options = parser.parse_args()
    if options.with_parent:
        stop_with_parent()
    try:
        serve(options.port, lambda url: print(url, flush=True))
    except UsageError as error:
        print(f"streamheal: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
