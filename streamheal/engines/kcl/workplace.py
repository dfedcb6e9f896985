"""The private folder of one host: the stubs' socket, what the daemon is told, and links to what has spaces.

streamheal-…/     ours alone (0700)
  stubs           the Unix socket at which the daemon's children knock
  daemon.properties
  python, stub.py only where their own paths have spaces
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

_STUB = Path(__file__).with_name("stub.py")

# Of a Unix socket's path (108 bytes on Linux, 104 on macOS), beside our own names in it.
_FOLDER_BYTES_MAX = 70


class Workplace:
    """There from the beginning, until `clear`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="streamheal-", dir=_plain_folder()))

    def stub_command(self, socket: Path) -> str:
        """What the daemon runs for each shard."""
        # The interpreter below a virtual environment: it has nothing to find, and starts the faster.
        python = self._without_spaces(Path(sys.executable).resolve(), "python")
        return f"{python} -I -S {self._without_spaces(_STUB, 'stub.py')} {socket}"

    def _without_spaces(self, path: Path, name: str) -> str:
        """The daemon splits its command at spaces, and knows no quotes."""
        if " " not in str(path):
            return str(path)
        link = self.folder / name
        link.symlink_to(path)
        return str(link)

    def write_properties(self, told: str) -> Path:
        path = self.folder / "daemon.properties"
        # As Java reads such files.
        path.write_text(told, encoding="iso-8859-1")
        return path

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _plain_folder() -> str:
    """The temporary folder; or /tmp, where its path has spaces or is too long for a socket's."""
    usual = tempfile.gettempdir()
    return "/tmp" if " " in usual or len(os.fsencode(usual)) > _FOLDER_BYTES_MAX else usual
