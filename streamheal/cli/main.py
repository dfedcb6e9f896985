"""The command line: every command, and how each of them ends.

    0    done, or stopped as asked
    1    something unexpected, with its traceback in the log
    2    wrong usage or configuration: one plain message, nothing was read
    3    finished, but something needs a human

Commands import what they need when they run, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from streamheal import __version__
from streamheal.cli import audit, demo, local, quarantine, replay, run
from streamheal.errors import StreamhealError, Unavailable, UsageError

DONE, UNEXPECTED, USAGE = 0, 1, 2

# typer's own errors of use (no such option, a missing argument). Older typers have click's
# class there, newer ones a copy of it; the base of this public one is right for both.
_TyperUsageError: type[Exception] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="streamheal",
    help="A self-healing Kinesis consumer: it finds the record that is to blame, sets it aside, "
    "and keeps the rest flowing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.add_typer(quarantine.app, name="quarantine")
app.command("replay")(replay.replay)
app.command("audit")(audit.audit)
app.command("local")(local.local)
app.command("demo")(demo.demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"streamheal {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What all commands have in common: nothing but `--version`."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    _begin()
    try:
        code = _run(arguments)
        # Written here, where a reader that has gone away can still be told from a bug.
        sys.stdout.flush()
    except BrokenPipeError:
        # `streamheal quarantine list | head`: the reader has had enough. Python flushes once
        # more at exit, and must not find the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = UNEXPECTED
    sys.exit(code)


def _begin() -> None:
    """Have what every program has, whatever whoever started us has closed or ignores: both are inherited."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            # Else the next file that is opened would have this number: what goes to a worker, or a connection.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, open(fd, "w" if fd else "r", closefd=False))  # noqa: SIM115
    # Where it is ignored nobody learns how a process ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        answer: Any = typer.main.get_command(app).main(
            args=None if arguments is None else list(arguments), prog_name="streamheal", standalone_mode=False
        )
    except UsageError as error:
        return _complain(str(error))
    except _TyperUsageError as error:
        return _complain(_sentence(error)) if str(error) else USAGE
    except typer.Abort:
        return _complain("stopped", code=UNEXPECTED)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        raise
    except StreamhealError as error:
        # The world's fault, already told in plain words: a traceback would say nothing more.
        again = " (nothing was changed; safe to try again)" if isinstance(error, Unavailable) else ""
        return _complain(f"{error}{again}", code=UNEXPECTED)
    except Exception:
        import structlog

        from streamheal.cli import logs

        logs.configure()
        structlog.get_logger("streamheal").exception("failed_unexpectedly")
        return UNEXPECTED
    return int(answer or DONE)


def _sentence(error: Exception) -> str:
    """typer's message in our style, with the way to the right usage."""
    message: str = getattr(error, "format_message", error.__str__)()
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "streamheal"
    message = message.strip().removesuffix(".")
    return f"{message}   (see {path} --help)"


def _complain(message: str, *, code: int = USAGE) -> int:
    print(f"streamheal: {message}", file=sys.stderr)
    return code
