"""`streamheal demo`, as it is typed after installation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.whole.running import processes_in


def test_the_demo_heals_its_stream_and_says_so(tmp_path: Path) -> None:
    """Its exit code is 0 only if each order is done, or set aside for what it is sick with."""
    done = subprocess.run(
        [sys.executable, "-m", "streamheal", "demo", "--picture", "end.svg"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4,987 done, 13 set aside, 0 lost." in done.stdout
    assert "SIGSEGV in ctypes.string_at, orders.py:42 in price" in done.stdout
    assert "KeyError: 'customer', orders.py:31 in process_record" in done.stdout
    assert (tmp_path / "end.svg").read_text().startswith("<svg")
    assert not processes_in(tmp_path)
