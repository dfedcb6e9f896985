"""The `.properties` file of an amazon_kclpy application: some of its keys are settings of ours.

    streamName, streamArn             stream
    applicationName                   application
    initialPositionInStream[Extended] from
    regionName                        region
    workerId                          worker_id

`executableName` and `processingLanguage` are ours to say, and so are passed over. Every other key is
handed on to KCL as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import javaproperties

from streamheal.errors import UsageError

# Said by the engine itself, whatever the file says.
_OURS = frozenset({"executableName", "processingLanguage", "callProcessRecordsEvenForEmptyRecordList"})
_SETTINGS = frozenset(
    {
        "streamName",
        "streamArn",
        "applicationName",
        "initialPositionInStream",
        "initialPositionInStreamExtended",
        "regionName",
        "workerId",
    }
)


class KclProperties(NamedTuple):
    """Attributes:
    settings: By setting, its raw value and the key it came from.
    handed_on: What is KCL's own, as it stands in the file.
    """

    settings: dict[str, tuple[object, str]]
    handed_on: dict[str, str]


def read(path: Path) -> KclProperties:
    """
    Raises:
        UsageError: The file cannot be read, or a value that is ours cannot be right.
    """
    try:
        # Java reads such files as Latin-1, with \\u escapes for the rest.
        with path.open(encoding="iso-8859-1") as file:
            found: dict[str, str] = javaproperties.load(file)
    except FileNotFoundError as error:
        raise UsageError(f"--kcl-properties: there is no file {path}") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"--kcl-properties: {path} cannot be read: {error}") from error
    found = {key: value.strip() for key, value in found.items() if value.strip()}
    handed_on = {key: value for key, value in found.items() if key not in _OURS | _SETTINGS}
    return KclProperties(_settings(found, path), handed_on)


def _settings(found: Mapping[str, str], path: Path) -> dict[str, tuple[object, str]]:
    named: dict[str, tuple[object, str]] = {}
    for key, setting in (
        ("streamName", "stream"),
        ("applicationName", "application"),
        ("regionName", "region"),
        ("workerId", "worker_id"),
        ("initialPositionInStream", "start"),
    ):
        if key in found:
            named[setting] = (found[key], key)
    if "stream" not in named and "streamArn" in found:
        named["stream"] = (found["streamArn"].rsplit("/", 1)[-1], "streamArn")
    if "start" in named:
        named["start"] = (found["initialPositionInStream"].upper(), "initialPositionInStream")
    else:
        # Without a word, KCL begins at the tip; whoever brings its file has so far had that.
        named["start"] = ("LATEST", "initialPositionInStream, which it does not say: LATEST, as KCL")
    if "initialPositionInStreamExtended" in found:
        named["start"] = (_moment(found["initialPositionInStreamExtended"], path), "initialPositionInStreamExtended")
    return named


def _moment(text: str, path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f"{path.name}: initialPositionInStreamExtended is {text!r}: expected seconds since 1970-01-01 (UTC)"
        ) from error
