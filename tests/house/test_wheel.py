"""What users install: the built wheel, alone in an environment of its own.

Only streamheal is installed there; what it needs is lent by the environment of the tests, so
that nothing is fetched.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROCESSOR = """
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamheal import DecodeError, Poison, Record, RecordProcessor, Retry, Shard, Throttled
from streamheal.testing import heal


@dataclass
class Order:
    number: int
    price: float


class Orders(RecordProcessor):
    ordering = "key"
    deadline_s = 5.0
    poison = (LookupError,)

    def initialize(self, shard: Shard) -> None:
        self.total = 0.0

    def process_record(self, record: Record) -> None:
        order = record.json(Order)
        if order.price < 0:
            raise Poison("a price below nought")
        self.total += order.price

    def wants(self, record: Record) -> bool:
        return record.partition_key != "test"

    def mask(self, record: Record) -> bytes:
        return b"..."


class Bulk(RecordProcessor):
    def process_records(self, records: Sequence[Record]) -> Sequence[Record] | None:
        if not records:
            raise Throttled(retry_after_s=1.0)
        return [record for record in records if record.attempt > 1]


async def handle(record: Record) -> None:
    if record.sub_sequence_number:
        raise Retry("later")
    if record.explicit_hash_key:
        raise DecodeError("not ours")


records = [Record(data=b'{"number": 1, "price": 2.5}'), Record(data=b"<order/>")]
report = heal(Orders, records)
print(len(report.done), len(report.quarantined))
"""


class Installed:
    def __init__(self, wheel: Path, folder: Path) -> None:
        self.wheel = wheel
        self.folder = folder
        self.bin = folder / "venv" / "bin"

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(build, capture_output=True, text=True, timeout=120, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = folder.glob("*.whl")

    found = Installed(wheel, folder)
    made = found.run(sys.executable, "-m", "venv", folder / "venv")
    assert made.returncode == 0, made.stderr
    pip = (found.bin / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    done = found.run(*pip)
    assert done.returncode == 0, done.stderr
    (site,) = (folder / "venv").glob("lib/python3.*/site-packages")
    # A path in a .pth is searched, but the .pth files there (of the tree under test) are not.
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return found


def test_the_command_runs_from_there(installed: Installed) -> None:
    done = installed.run(installed.bin / "streamheal", "--version")
    assert done.stdout.startswith("streamheal "), done.stderr
    where = installed.run(installed.bin / "python", "-c", "import streamheal; print(streamheal.__file__)")
    assert where.stdout.startswith(str(installed.folder))


def test_a_processor_is_tested_from_there(installed: Installed) -> None:
    (installed.folder / "shop.py").write_text(PROCESSOR)
    done = installed.run(installed.bin / "python", "shop.py")
    assert (done.returncode, done.stdout) == (0, "1 1\n"), done.stderr


def test_it_ships_its_types_and_its_licence_and_nothing_of_the_tests(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    assert "streamheal/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"streamheal"}


def test_a_users_processors_pass_mypy_strict(installed: Installed) -> None:
    """As in a user's project: the installed package, its py.typed, and mypy's own settings."""
    (installed.folder / "shop.py").write_text(PROCESSOR)
    examples = sorted(path for path in (ROOT / "examples").rglob("*.py") if "from streamheal" in path.read_text())
    done = installed.run(
        sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={installed.folder / 'mypy'}",
        "--python-executable", installed.bin / "python", "shop.py", *examples,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
