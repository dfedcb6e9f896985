"""How commands begin and end: help, version, exit codes, and what is said on wrong usage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamheal import __version__
from tests.cli.calling import call


def test_the_version_is_printed() -> None:
    assert call("--version") == (0, f"streamheal {__version__}\n", "")


def test_help_names_every_command() -> None:
    code, out, _ = call("--help")
    assert code == 0
    for command in ("run", "quarantine", "replay", "audit", "local", "demo"):
        assert f" {command} " in out


def test_streamheal_alone_shows_the_help_and_is_wrong_usage() -> None:
    code, out, err = call()
    assert (code, err) == (2, "")
    assert "Usage: streamheal" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runn"], "No such command 'runn'"),
        (["run", "shop:Orders", "--strem", "orders"], "No such option: --strem"),
        (["run", "shop:Orders", "--stream"], "Option '--stream' requires an argument"),
        (["quarantine", "show"], "Missing argument 'ID'"),
        (["quarantine", "discard", "abc"], "Missing option '--why'"),
    ],
)
def test_typers_own_complaints_come_in_our_style(arguments: list[str], message: str) -> None:
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"streamheal: {message}")
    assert err.endswith("--help)\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "no TARGET: give the processor as module:Class or module:function (or STREAMHEAL_TARGET)"),
        (["run", "shop:Orders"],
         "no stream: give --stream NAME (or STREAMHEAL_STREAM, or stream in streamheal.toml)"),
        (["run", "shop:Orders", "--stream", "orders", "--workers", "many"],
         "--workers is 'many': expected a whole number, at least 1"),
        (["run", "shop:Orders", "--stream", "orders", "--kcl-properties", "no.properties"],
         "--kcl-properties: there is no file no.properties"),
        (["replay"],
         "nothing is selected: give ids, --fingerprint, --shard, --key, --reason, --since, --until or --all"),
        (["replay", "abc", "--all"], "ids and --all are both given: expected one of them"),
        (["replay", "--all", "--rate", "fast"],
         "--rate is 'fast': expected records a second, more than 0, such as 50/s"),
        (["replay", "--all", "--rate", "0/s"],
         "--rate is '0/s': expected records a second, more than 0, such as 50/s"),
        (["replay", "--all", "--data", "new.json"],
         "--data is the payload of one record, and 0 ids are given: expected one ID"),
        (["replay", "abc", "--data", "new.json"], "--data: new.json cannot be read: No such file or directory"),
        (["replay", "abc", "--target", "shop"],
         "--target is 'shop': expected module:Class or module:function"),
        (["replay", "--reason", "crashed"],
         "--reason is 'crashed': expected exception, decode, deadline, crash, rejected or parked. Did you mean crash?"),
        (["replay", "--since", "noon"],
         "--since is 'noon': expected a time such as 2026-03-01T12:00Z, or how long ago: 90s, 20m, 2h, 3d"),
        (["local", "--port", "70000"], "--port is 70000: expected a number from 0 to 65535"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_plain_message_and_exit_code_2(arguments: list[str], message: str) -> None:
    assert call(*arguments) == (2, "", f"streamheal: {message}\n")


def test_a_variable_that_names_no_option_is_warned_of_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMHEAL_WORKER", "1")
    code, _, err = call("run", "--show-config")
    line = json.loads(err)
    assert code == 0
    assert line["level"] == "warning"
    assert line["event"] == "setting_unknown"
    assert line["detail"] == "the variable STREAMHEAL_WORKER names no option. Did you mean STREAMHEAL_WORKERS?"


def test_show_config_says_where_each_value_came_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "streamheal.toml").write_text('stream = "orders"\nopen_bytes_max = "1MiB"\n')
    monkeypatch.setenv("STREAMHEAL_WORKERS", "3")
    code, out, _ = call("run", "shop:Orders", "--deadline-s", "5", "--show-config")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}

    assert code == 0
    assert rows["target"] == ["shop:Orders", "TARGET"]
    assert rows["stream"] == ["orders", "streamheal.toml:", "stream"]
    assert rows["open_bytes_max"] == ["1MiB", "streamheal.toml:", "open_bytes_max"]
    assert rows["workers"] == ["3", "STREAMHEAL_WORKERS"]
    assert rows["deadline_s"] == ["5", "--deadline-s"]
    assert rows["attempts_max"] == ["3", "default"]
    assert rows["application"][0] == "orders"
    assert rows["state"][0] == "sqlite:.streamheal/orders.db"


def test_show_config_in_json_has_one_option_a_line() -> None:
    code, out, _ = call("run", "--from", "2026-03-01T12:00Z", "--show-config", "--json")
    rows = {row["option"]: row for row in map(json.loads, out.splitlines())}
    assert code == 0
    assert rows["from"] == {
        "option": "from", "value": "2026-03-01T12:00:00+00:00", "source": "flag", "place": "--from",
    }  # fmt: skip
    assert rows["concurrency"]["value"] is None


def test_show_config_refuses_what_run_would_refuse() -> None:
    assert call("run", "--workers", "0", "--show-config").code == 2


def test_a_reader_that_has_had_enough_is_no_error(folder: Path) -> None:
    """`streamheal … | head -1`: no traceback, whenever the pipe closes."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "streamheal", "run", "--show-config", "--json"],
        stdout=writing,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=_environment(),
        timeout=30,
        check=False,
    )
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 1


def test_help_imports_nothing_that_takes_long(folder: Path) -> None:
    """`--help` answers at once: what a run needs is imported when one runs."""
    slow = (
        "asyncio",
        "boto3",
        "botocore",
        "pydantic",
        "structlog",
        "uvicorn",
        "starlette",
        "moto",
        "prometheus_client",
    )
    script = (
        "import sys\n"
        "from streamheal.cli.main import main\n"
        "try:\n    main(['--help'])\n"
        f"except SystemExit:\n    print([name for name in {slow!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=_environment(), capture_output=True, timeout=30, check=True
    )
    assert done.stderr == b"[]\n"


def test_what_nobody_expected_is_told_in_the_log_with_its_traceback(folder: Path) -> None:
    """A bug of ours, made by breaking the standard library under it."""
    script = (
        "import tomllib, sys\n"
        "def loads(text): raise RuntimeError('broken')\n"
        "tomllib.loads = loads\n"
        "from streamheal.cli.main import main\n"
        "main(['run', '--show-config'])\n"
    )
    (folder / "streamheal.toml").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=_environment(), capture_output=True, timeout=30, check=False
    )
    line = json.loads(done.stderr)
    assert done.returncode == 1
    assert line["event"] == "failed_unexpectedly"
    assert "RuntimeError: broken" in line["exception"]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_whoever_starts_it_may_have_closed_what_every_program_has(closed: str) -> None:
    """As a daemon's starter does. What is opened next must not be taken for what a program prints to."""
    script = f'exec "$0" -m streamheal --version {closed}'
    assert subprocess.run(["sh", "-c", script, sys.executable], check=False, timeout=60).returncode == 0


def test_how_a_process_ends_is_known_where_the_starter_does_not_care() -> None:
    code = (
        "import signal, subprocess, sys; from streamheal.cli import main\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "main._begin()\n"
        "sys.exit(subprocess.call('exit 7', shell=True))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 7
