"""What the daemon says on its standard output, as events of our log; and what of it is a wrong configuration.

Lines come as `logback.xml` writes them: level, logger, shard, message and exception between tabs. All
else is the JVM's own voice, or a stub's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from streamheal.engines.base import Log

_LEVELS = {"ERROR": "error", "WARN": "warning", "INFO": "info", "DEBUG": "debug", "TRACE": "debug"}
_STARTED = "Initialization complete. Starting worker loop."
_CREDENTIALS_RIGHT = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where AWS gives a role"
_METRICS = "CloudWatch"  # without which KCL reads as well
_SAID_CHARACTERS_MAX = 500

# How the AWS SDK for Java tells of an answer: `User: … is not authorized to … (Service: Kinesis, Status Code: 400,`
_ANSWER = re.compile(r"(\w+Exception): ((?:(?!Exception: )[^|])*?) \(Service: (\w+), Status Code: (\d+)")
_SKEWED = re.compile(r"RequestTimeTooSkewed|Signature (?:expired|not yet current)")
_NOT_ALLOWED = re.compile(
    r"not authorized to perform|AccessDenied|UnrecognizedClientException|security token|signature we calculated", re.I
)
_NO_CREDENTIALS = re.compile(r"Unable to load credentials from any of the providers")
# KCL 3 knows the classes of the AWS SDK 2 alone; files for amazon_kclpy 1 and 2 name those of SDK 1.
_NO_PROVIDER = re.compile(r"Unable to construct any provider with name (\S+)")
_NO_STREAM = re.compile(r"Stream \S+ under account \d+ not found")
_NO_JVM = re.compile(r"Could not (?:create the Java Virtual Machine|find or load main class)|Invalid maximum heap size")
_OTHER_TABLE = re.compile(r"The provided key element does not match the schema")

_JVM = "java"  # who speaks where no logger does
# `java.lang.IllegalArgumentException: Unknown retrieval type 'X'`: a stack and how to use the daemon follow.
_THROWN = re.compile(r'(?:Exception in thread "[^"]*" )?(?:[a-z]\w*\.)+\w*(?:Exception|Error)\b')


class Said(NamedTuple):
    """One event of the daemon's. `text` is message and exception in one line."""

    level: str
    logger: str
    shard_id: str | None
    text: str


def parse(line: str) -> Said:
    parts = line.rstrip("\r\n").split("\t", 4)
    if len(parts) < 4 or parts[0] not in _LEVELS:
        return Said("warning", _JVM, None, line.strip())
    level, logger, shard, message, *exception = parts
    text = " ".join(part.strip() for part in (message, *exception) if part.strip())
    return Said(_LEVELS[level], logger, None if shard == "-" else shard, text)


def misconfiguration(text: str) -> str | None:
    """Why trying again will not help, in plain words; None: it may, or nobody knows."""
    found = _ANSWER.search(text)
    said = f"{found[2].strip()} ({found[3]})" if found else text[:300]
    if unknown := _NO_PROVIDER.search(text):
        return (
            f"KCL knows no AwsCredentialsProvider {unknown[1]}: expected one of the AWS SDK for Java 2, such as "
            f"DefaultCredentialsProvider, which is also what is taken without that property"
        )
    if _NO_CREDENTIALS.search(text):
        return f"KCL finds no AWS credentials: {_CREDENTIALS_RIGHT}"
    if _SKEWED.search(text):
        return None  # the SDK corrects for the clock and tries again
    if _NOT_ALLOWED.search(text) and not (found and found[3] == _METRICS):
        return f"AWS does not allow what KCL needs: {said}"
    if _NO_STREAM.search(text):
        return f"the stream is not there: {said}"
    if _NO_JVM.search(text):
        return f"Java does not start: {text[:300]}"
    if _OTHER_TABLE.search(text):
        return f"a DynamoDB table of the application's name is not one of KCL's: {said}. Give another --application"
    return None


class DaemonLog:
    """Passes on what one daemon says.

    Until it has started, what is no warning goes to debug: that is its properties, one by one, and how
    its parts come up; and what the JVM says after an exception, which is where it was. `trouble` is the
    first thing it said that no second try will mend.
    """

    def __init__(self, log: Log, troubled: Callable[[], None]) -> None:
        self._log = log
        self._troubled = troubled
        self._last = ""
        self._has_thrown = False
        self.started = False
        self.trouble: str | None = None

    @property
    def said(self) -> str:
        """The exception it did not start for, else the last that was more than information; empty: nothing was."""
        return self._last

    def line(self, line: str) -> None:
        said = parse(line)
        if not said.text:
            return
        explains = self._has_thrown and said.logger == _JVM
        if said.level in ("warning", "error"):
            self._hear(said)
        self.started = self.started or _STARTED in said.text
        fields = {"logger": said.logger, "said": said.text}
        if said.shard_id is not None:
            fields["shard_id"] = said.shard_id
        level = "debug" if not self.started and (said.level == "info" or explains) else said.level
        getattr(self._log, level)("daemon_said", **fields)

    def _hear(self, said: Said) -> None:
        if self.started or not self._has_thrown:
            self._last = said.text[:_SAID_CHARACTERS_MAX]
        if not self.started and said.logger == _JVM and _THROWN.match(said.text):
            self._has_thrown = True
        if self.trouble is None and (trouble := misconfiguration(said.text)):
            self.trouble = trouble
            self._troubled()
