"""Every option of streamheal, once: its name, kind, default and what it is for.

The command line, the variables, the keys of `streamheal.toml` and `docs/configuration.md`
are all made from this class. How the sources are put together is in `load.py`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

from streamheal.config.kinds import (
    Address,
    Choice,
    Kind,
    Seconds,
    Size,
    SizeOrOff,
    Start,
    Switch,
    Text,
    Whole,
    size_text,
)

READING = "What to read"
KEEPING = "Where things are kept"
RUNNING = "How records are run"
JUDGING = "How failures are judged"
PACING = "Limits and pauses"
SEEING = "What can be seen"
AWS = "AWS"


class Option(NamedTuple):
    """What is known of one setting besides its type.

    Attributes:
        default: The default in words, where it depends on something.
        key: Its name outside, where Python does not allow it as a field's.
        shapes: It changes how records are handled, and so counts for `config_hash`.
    """

    group: str
    kind: Kind
    help: str
    default: str = ""
    key: str = ""
    shapes: bool = False


def _cpus() -> int:
    # A container may be given fewer than the machine has.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _workers() -> int:
    return min(4, _cpus())


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run was told to do. Times are seconds, sizes are bytes.

    `application` and `state` are empty where a command can do without them and nothing said
    them; `for_application` fills them in.
    """

    target: Annotated[
        str | None,
        Option(
            READING,
            Text("TARGET", "module:Class or module:function", r"[\w.]+:[\w.]+"),
            "The processor, as module:Class or module:function. A replay can do without: the envelopes name it.",
        ),
    ] = None
    stream: Annotated[
        str | None,
        Option(READING, Text("NAME", "a stream's name", r"[a-zA-Z0-9_.-]{1,128}"), "The Kinesis stream to read."),
    ] = None
    engine: Annotated[
        Literal["poll", "kcl"],
        Option(
            READING,
            Choice(("poll", "kcl")),
            "poll: embedded, one process, no Java. kcl: any number of containers, by Amazon's KCL; needs Java.",
        ),
    ] = "poll"
    application: Annotated[
        str,
        Option(
            READING,
            Text("NAME", "letters, digits, '-', '_' and '.'", r"[a-zA-Z0-9_.-]{1,255}"),
            "The application's name: what its checkpoints and quarantined records are kept under.",
            default="TARGET's class in kebab case",
        ),
    ] = ""
    start: Annotated[
        Literal["TRIM_HORIZON", "LATEST"] | datetime,
        Option(
            READING,
            Start(),
            "Where a shard without a checkpoint starts. A time without a zone is in UTC.",
            key="from",
        ),
    ] = "TRIM_HORIZON"
    worker_id: Annotated[
        str | None,
        Option(
            READING,
            Text("NAME", "a name of 1 to 255 characters without spaces", r"\S{1,255}"),
            "Engine kcl: the name under which this host holds leases, another for every host.",
            default="the ECS task, or the host's name",
        ),
    ] = None
    kcl_properties: Annotated[
        str | None,
        Option(
            READING,
            Text("FILE", "the path of a .properties file"),
            "Engine kcl: the properties file of an amazon_kclpy application; what is KCL's in it is handed on.",
        ),
    ] = None
    kcl_heap: Annotated[
        int | None,
        Option(
            READING,
            Size(64 << 20),
            "Engine kcl: the most memory of KCL's JVM for its heap.",
            default="256MiB and 16MiB a shard, at most half of the container's",
        ),
    ] = None
    until_caught_up: Annotated[
        bool,
        Option(READING, Switch(), "Exit once every shard is read to its tip and nothing is open."),
    ] = False

    quarantine: Annotated[
        str,
        Option(
            KEEPING,
            Text("URL", "s3://bucket/prefix, kinesis://stream?spill=s3://bucket/prefix, or a folder"),
            "Where records are set aside: s3://bucket/prefix, kinesis://stream?spill=s3://…, or a folder.",
        ),
    ] = "./quarantine"
    state: Annotated[
        str,
        Option(
            KEEPING,
            Text("URL", "sqlite:PATH or dynamodb:TABLE", r"(sqlite|dynamodb):.*"),
            "Where checkpoints (with kcl: KCL has them), what is known of hosts that died, and replay ledgers live: "
            "sqlite:PATH or dynamodb:TABLE.",
            default="sqlite:.streamheal/APPLICATION.db; with kcl dynamodb:APPLICATION-streamheal",
        ),
    ] = ""

    workers: Annotated[
        int,
        Option(RUNNING, Whole(), "Worker processes that shards are dealt out to.", default="the CPUs, at most 4"),
    ] = field(default_factory=_workers)
    concurrency: Annotated[
        int | None,
        Option(
            RUNNING,
            Whole(),
            "Records at once per shard.",
            default="1 for plain functions, 100 for coroutine functions",
            shapes=True,
        ),
    ] = None
    ordering: Annotated[
        Literal["shard", "key", "none"],
        Option(
            RUNNING,
            Choice(("shard", "key", "none")),
            "shard: strictly one after another. key: in order per partition key. none: in any order.",
            shapes=True,
        ),
    ] = "key"
    deadline_s: Annotated[
        float,
        Option(RUNNING, Seconds(positive=True), "How long one record (a batch processor: one call) may take.",
               shapes=True),
    ] = 30.0  # fmt: skip

    worker_memory: Annotated[
        int | None,
        Option(
            RUNNING,
            SizeOrOff(16 << 20),
            "What one worker process may grow to before it is ended: 512MiB, 1GiB. off: as much as there is.",
            default="what a container's limit leaves to all of them together; elsewhere off",
        ),
    ] = None

    on_poison: Annotated[
        Literal["skip", "park"],
        Option(
            JUDGING,
            Choice(("skip", "park")),
            "What becomes of a key when a record of it is set aside. skip: it goes on. "
            "park: later records follow (not part of this version yet).",
            shapes=True,
        ),
    ] = "skip"
    attempts_max: Annotated[int, Option(JUDGING, Whole(), "Tries before a record can be set aside.", shapes=True)] = 3
    retry_s_min: Annotated[
        float, Option(JUDGING, Seconds(), "Wait before the second try; it doubles from try to try.", shapes=True)
    ] = 0.5
    retry_s_max: Annotated[float, Option(JUDGING, Seconds(), "The longest wait between two tries.", shapes=True)] = 30.0
    patience_s: Annotated[
        float,
        Option(
            JUDGING,
            Seconds(),
            "How long a failing record waits for others to clear the world's name before it is judged without them.",
            shapes=True,
        ),
    ] = 60.0

    checkpoint_s: Annotated[
        float, Option(PACING, Seconds(positive=True), "How often each shard is checkpointed, at most.")
    ] = 5.0
    shutdown_s: Annotated[
        float, Option(PACING, Seconds(), "How long open records may take to finish once asked to stop.")
    ] = 20.0
    open_records_max: Annotated[
        int, Option(PACING, Whole(), "Records a shard may have open before it stops reading.")
    ] = 10_000
    open_bytes_max: Annotated[
        int, Option(PACING, Size(), "Bytes a shard may have open before it stops reading: 64MiB, 67108864.")
    ] = 64 << 20

    http: Annotated[str, Option(SEEING, Address(), "Where /metrics, /healthz and /readyz answer; off: nowhere.")] = (
        "127.0.0.1:9464"
    )
    emf: Annotated[
        bool,
        Option(SEEING, Switch(), "Write figures for CloudWatch to stdout every minute, in its embedded metric format."),
    ] = False
    blocked_s: Annotated[
        float,
        Option(SEEING, Seconds(), "A record that holds its shard up for so long is told of, once; 0: never."),
    ] = 60.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Option(SEEING, Choice(("debug", "info", "warning", "error")), "The least important log lines to write."),
    ] = "info"

    region: Annotated[
        str | None,
        Option(AWS, Text("NAME", "a region such as eu-west-1", r"[a-z0-9-]+"), "The AWS region.", default="as boto3"),
    ] = None
    profile: Annotated[
        str | None,
        Option(AWS, Text("NAME", "a profile's name"), "The profile of ~/.aws/config to use.", default="as boto3"),
    ] = None
    endpoint_url: Annotated[
        str | None,
        Option(
            AWS,
            Text("URL", "a URL such as http://127.0.0.1:4566", r"https?://.+"),
            "Where AWS answers, for every service.",
            default="as boto3",
        ),
    ] = None

    @property
    def http_address(self) -> tuple[str, int] | None:
        """Host and port, or None: off."""
        if self.http == "off":
            return None
        host, _, port = self.http.rpartition(":")
        return host.strip("[]"), int(port)


class Setting(NamedTuple):
    """One field of `Settings`, as the outside sees it."""

    name: str
    option: Option
    default: Any

    @property
    def key(self) -> str:
        return self.option.key or self.name

    @property
    def flag(self) -> str:
        return "--" + self.key.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.key.upper()


PREFIX = "STREAMHEAL_"


def every_setting() -> Iterator[Setting]:
    hints = get_type_hints(Settings, include_extras=True)
    for one in dataclasses.fields(Settings):
        (option,) = hints[one.name].__metadata__
        default = one.default if one.default is not dataclasses.MISSING else None
        yield Setting(one.name, option, default)


def default_text(setting: Setting) -> str:
    """The default for people; empty where there is none."""
    if setting.option.default:
        return setting.option.default
    if setting.default is None or setting.default is False:
        return ""
    return value_text(setting, setting.default)


def value_text(setting: Setting, value: Any) -> str:
    """A value as people would write it."""
    if isinstance(setting.option.kind, SizeOrOff) and value == 0:
        return "off"
    if isinstance(setting.option.kind, Size | SizeOrOff):
        return size_text(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def config_hash(settings: Settings) -> str:
    """The same for settings under which records are handled the same: 12 characters of a-f and 0-9."""
    shaping = {one.name: getattr(settings, one.name) for one in every_setting() if one.option.shapes}
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:12]


def for_application(settings: Settings, application: str) -> Settings:
    """The settings with the application's name, and the state that goes with it, filled in where they are empty."""
    name = settings.application or application
    usual = f"dynamodb:{name}-streamheal" if settings.engine == "kcl" else f"sqlite:.streamheal/{name}.db"
    return dataclasses.replace(settings, application=name, state=settings.state or usual)


def kebab(target: str) -> str:
    """`shop.orders:HTTPOrders` → `http-orders`."""
    name = re.split(r"[:.]", target)[-1]
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name)
    return name.strip("_").replace("_", "-").lower()
