"""Where settings come from: flag, else environment, else file, else KCL's properties, else default.

The file is `streamheal.toml` in the working folder or, where there is none, the table
`[tool.streamheal]` of `pyproject.toml`. KCL's properties are a file that one of those names. Whatever
is wrong is said in one plain message that names the place: the flag, the variable, or the file and its
key.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from streamheal.config import kcl_properties
from streamheal.config.settings import PREFIX, Setting, Settings, every_setting, for_application, kebab
from streamheal.errors import UsageError

OriginKind = Literal["flag", "environment", "file", "default"]

# What other parts read from the environment by themselves.
_OTHER_VARIABLES: tuple[str, ...] = ("STREAMHEAL_RELEASE",)


class Origin(NamedTuple):
    """Which source a value came from, and its name there."""

    kind: OriginKind
    place: str

    def __str__(self) -> str:
        return self.place


class Loaded(NamedTuple):
    """Settings and where each came from, by field. `warnings` are for the log.

    `kcl`: what a `.properties` file says that is KCL's own; None: there is no such file.
    """

    settings: Settings
    origins: dict[str, Origin]
    warnings: tuple[str, ...] = ()
    kcl: Mapping[str, str] | None = None


class _Sources(NamedTuple):
    """What each source says; `file` names the file, and the table in it, for messages.

    `kcl`: by setting, a value of the `.properties` file and its place there.
    """

    flags: Mapping[str, Any]
    environ: Mapping[str, str]
    table: Mapping[str, Any]
    file: str
    kcl: Mapping[str, tuple[object, str]] = MappingProxyType({})


def load(
    flags: Mapping[str, Any],
    *,
    command: str,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Loaded:
    """Put the settings of one command together.

    Args:
        flags: Values given on the command line by field; None: not given.
        command: `run` and `replay` are asked for more than commands that only look.

    Raises:
        UsageError: Naming the first thing that is wrong, where it stands and what would be right.
    """
    environ = os.environ if environ is None else environ
    sources = _Sources(flags, environ, *_file_table(folder or Path.cwd()))
    _refuse_unknown_keys(sources)
    handed_on: Mapping[str, str] | None = None
    warnings = _unknown_variables(environ)
    if command != "replay" and (path := _kcl_properties_path(sources)):
        properties = kcl_properties.read(path)
        handed_on, sources = properties.handed_on, sources._replace(kcl=_placed(properties.settings, path))
        warnings += properties.warnings

    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for setting in every_setting():
        flag = "TARGET" if setting.name == "target" and command != "replay" else setting.flag
        raw, origin = _find(setting, flag, sources)
        origins[setting.name] = origin
        if origin.kind != "default":
            values[setting.name] = _read(setting, raw, origin)
    settings = Settings(**values)

    _refuse_contradictions(settings, origins)
    if command in ("run", "replay"):
        _refuse_what_is_not_there_yet(settings, origins)
    if command == "run":
        _require(settings)
    return Loaded(_with_names(settings, origins, command), origins, warnings, handed_on)


def _kcl_properties_path(sources: _Sources) -> Path | None:
    setting = next(one for one in every_setting() if one.name == "kcl_properties")
    raw, origin = _find(setting, setting.flag, sources)
    return None if origin.kind == "default" else Path(_read(setting, raw, origin))


def _placed(named: Mapping[str, tuple[object, str]], path: Path) -> dict[str, tuple[object, str]]:
    """Who brings such a file means the engine that reads it."""
    found = {setting: (value, f"{path.name}: {key}") for setting, (value, key) in named.items()}
    return {"engine": ("kcl", "--kcl-properties"), **found}


def _find(setting: Setting, flag: str, sources: _Sources) -> tuple[Any, Origin]:
    if sources.flags.get(setting.name) is not None:
        return sources.flags[setting.name], Origin("flag", flag)
    # Containers pass variables on that are set to nothing: that is as good as not set.
    if sources.environ.get(setting.variable):
        return sources.environ[setting.variable], Origin("environment", setting.variable)
    if setting.key in sources.table:
        return sources.table[setting.key], Origin("file", f"{sources.file}: {setting.key}")
    if setting.name in sources.kcl:
        value, place = sources.kcl[setting.name]
        return value, Origin("file", place)
    return None, Origin("default", "default")


def _read(setting: Setting, raw: Any, origin: Origin) -> Any:
    kind = setting.option.kind
    try:
        return kind.read(raw)
    except (ValueError, TypeError) as error:
        close = difflib.get_close_matches(str(raw).lower(), getattr(kind, "choices", ()), n=1)
        hint = f". Did you mean {close[0]}?" if close else ""
        raise UsageError(f"{origin} is {raw!r}: expected {kind.right}{hint}") from error


def _file_table(folder: Path) -> tuple[dict[str, Any], str]:
    """What the file in this folder says, and how to name that place in a message."""
    own = folder / "streamheal.toml"
    if (table := _toml(own)) is not None:
        return table, own.name
    project = _toml(folder / "pyproject.toml") or {}
    tool = project.get("tool", {})
    table = tool.get("streamheal", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise UsageError(f"pyproject.toml: tool.streamheal is {table!r}: expected a table, [tool.streamheal]")
    return table, "pyproject.toml [tool.streamheal]"


def _toml(path: Path) -> dict[str, Any] | None:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path.name} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path.name} is not TOML: {error}") from error


def _refuse_unknown_keys(sources: _Sources) -> None:
    known = [setting.key for setting in every_setting()]
    for key in sources.table:
        if key not in known:
            hint = _did_you_mean(key.replace("-", "_"), known)
            raise UsageError(f"{sources.file}: there is no option {key!r}{hint}")


def _unknown_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    known = [setting.variable for setting in every_setting()]
    return tuple(
        f"the variable {name} names no option{_did_you_mean(name, known)}"
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in known and name not in _OTHER_VARIABLES
    )


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f". Did you mean {close[0]}?" if close else ""


def _refuse_contradictions(settings: Settings, origins: Mapping[str, Origin]) -> None:
    if settings.retry_s_min > settings.retry_s_max:
        raise UsageError(
            f"retry_s_min is {settings.retry_s_min:g} ({origins['retry_s_min']}), more than retry_s_max, "
            f"{settings.retry_s_max:g} ({origins['retry_s_max']}): expected at most that"
        )
    for name in ("kcl_properties", "kcl_heap", "worker_id"):
        if settings.engine != "kcl" and getattr(settings, name) is not None:
            raise UsageError(
                f"{origins[name]} is for the engine kcl, and the engine is {settings.engine} ({origins['engine']})"
            )


def _refuse_what_is_not_there_yet(settings: Settings, origins: Mapping[str, Origin]) -> None:
    if settings.on_poison == "park":
        raise UsageError(f"parking keys is not part of this version yet ({origins['on_poison']}): use skip")


def _require(settings: Settings) -> None:
    if settings.target is None:
        raise UsageError("no TARGET: give the processor as module:Class or module:function (or STREAMHEAL_TARGET)")
    if settings.stream is None:
        kcl = f", or streamName in {Path(settings.kcl_properties).name}" if settings.kcl_properties else ""
        raise UsageError(f"no stream: give --stream NAME (or STREAMHEAL_STREAM, or stream in streamheal.toml{kcl})")


def _with_names(settings: Settings, origins: dict[str, Origin], command: str) -> Settings:
    """The application's name and its state, made from the target where nothing else says them."""
    name = settings.application
    # A replay's --target is who is to handle the records, not whose they are.
    if not name and settings.target and not (command == "replay" and origins["target"].kind == "flag"):
        name = kebab(settings.target)
    return for_application(settings, name) if name else settings
