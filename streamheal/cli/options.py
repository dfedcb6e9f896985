"""Settings as options of a command: made from the settings class, so that they are written once."""

from __future__ import annotations

import functools
import inspect
import shlex
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from streamheal.config.kinds import Switch
from streamheal.config.settings import AWS, KEEPING, Setting, default_text, every_setting

Command = Callable[..., Any]

# They mean the same in every command.
EVERYWHERE = frozenset(
    one.name
    for one in every_setting()
    if one.option.group in (KEEPING, AWS) or one.name in ("application", "log_level")
)
# A replay has no stream to read: it says nothing of where to start and when it has caught up.
RUN = frozenset(one.name for one in every_setting()) - {"target"}
_OF_STREAMS = {"engine", "start", "until_caught_up", "worker_id", "kcl_properties", "kcl_heap"}
REPLAY = RUN - _OF_STREAMS | {"target"}


def takes(names: frozenset[str], more: Sequence[inspect.Parameter] = ()) -> Callable[[Command], Command]:
    """Give a command these settings (and `more` parameters) as options; it gets them as `**flags`.

    Values are taken as text, whatever their kind: `config.load` reads them, and says in the
    same words what is wrong with a flag, a variable or a key of the file.
    """
    added = [*more, *(_parameter(setting) for setting in every_setting() if setting.name in names)]

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        *own, flags = signature.parameters.values()
        assert flags.kind is inspect.Parameter.VAR_KEYWORD, f"{command.__name__} does not end with **flags"

        @functools.wraps(command)
        def called(**given: Any) -> Any:
            return command(**given)

        seen = [*own, *added]
        called.__signature__ = signature.replace(parameters=seen)  # type: ignore[attr-defined]  # typer reads it
        called.__annotations__ = {one.name: one.annotation for one in seen}
        return called

    return decorate


def given(flags: dict[str, Any]) -> str:
    """The flags that say where things are, to be said again in a command that people may type next."""
    again = [(one.flag, flags.get(one.name)) for one in every_setting() if one.name in EVERYWHERE]
    return " ".join(f"{flag} {shlex.quote(str(value))}" for flag, value in again if value is not None)


def _parameter(setting: Setting) -> inspect.Parameter:
    option = setting.option
    switch = isinstance(option.kind, Switch)
    info = typer.Option(
        setting.flag,
        metavar=None if switch else option.kind.metavar,
        help=f"{option.help}{_default(setting)}",
        show_default=False,
        rich_help_panel=option.group,
    )
    annotation = Annotated[bool | None if switch else str | None, info]  # type: ignore[valid-type]  # made at run time
    return inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _default(setting: Setting) -> str:
    text = default_text(setting)
    return f" (default: {text})" if text else ""
