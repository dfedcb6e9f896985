"""Writes `docs/configuration.md` from the settings: `python -m streamheal.config.reference > docs/configuration.md`."""

from __future__ import annotations

from itertools import groupby

from streamheal.config.kinds import Seconds, Whole
from streamheal.config.settings import Setting, default_text, every_setting

_HEAD = """\
# Configuration

<!-- Written by `python -m streamheal.config.reference`; change `streamheal/config/settings.py` instead. -->

Every option can be given in several ways. The first one that says something wins:

1. a flag: `streamheal run shop.orders:Orders --workers 2`
2. a variable: `STREAMHEAL_WORKERS=2` (set to nothing, it is as good as not set)
3. a key of `streamheal.toml` in the working folder or, where there is no such file, of
   `[tool.streamheal]` in `pyproject.toml`: `workers = 2`
4. with `--kcl-properties FILE`: stream, application, start, region and worker id, as [that file](kcl.md#options)
   has them
5. the default.

(`streamheal run` takes TARGET without its flag.)

`streamheal run … --show-config` prints each value and where it came from (`--json`: as JSON lines).
A class attribute of the processor (`ordering`, `concurrency`, `deadline_s`, `attempts_max`) wins over all of
them, for this processor.

Units are in the names: `_s` is seconds, `_bytes` is bytes (`64MiB`, `64MB` and `67108864` are all understood).
A value that is wrong, and a key of the file that is no option, end the command with exit code 2 before a record is
read; the message names the place. A variable `STREAMHEAL_…` that is no option is only warned of.
"""

_TAIL = """
## AWS credentials and endpoints

AWS is configured as boto3 is: `AWS_REGION`, `AWS_PROFILE`, `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_KINESIS`,
`AWS_ACCESS_KEY_ID`, container and instance credentials. The options above only say it once more, for one command.
"""


def reference() -> str:
    parts = [_HEAD]
    for group, settings in groupby(every_setting(), key=lambda one: one.option.group):
        parts.append(f"\n## {group}\n\n| option | default | what it is for |\n|---|---|---|\n")
        parts.extend(_row(setting) for setting in settings)
    parts.append(_TAIL)
    return "".join(parts)


def _row(setting: Setting) -> str:
    cells = (_names(setting), default_text(setting) or "–", f"{setting.option.help}{_numbers(setting)}")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _names(setting: Setting) -> str:
    metavar = setting.option.kind.metavar
    return f"`{setting.flag}{' ' + metavar if metavar else ''}`<br>`{setting.variable}`<br>`{setting.key}`"


def _numbers(setting: Setting) -> str:
    kind = setting.option.kind
    return f" {kind.right.capitalize()}." if isinstance(kind, (Whole, Seconds)) else ""


if __name__ == "__main__":
    print(reference(), end="")
