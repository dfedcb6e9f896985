"""Which store a URL means."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from streamheal.config.aws import AwsOptions
from streamheal.errors import UsageError
from streamheal.quarantine.base import Store
from streamheal.quarantine.became import Memory
from streamheal.quarantine.folder import FolderStore

_AS_BOTO3 = AwsOptions()
_FORMS = "expected s3://bucket/prefix, kinesis://stream?spill=s3://bucket/prefix, or a folder"


def open_store(url: str, *, state: Memory | None = None, aws: AwsOptions = _AS_BOTO3) -> Store:
    """The store at a URL. Nothing is touched before its first use.

    Args:
        state: Where a Kinesis store keeps what became of its records; the others need none.

    Raises:
        UsageError: The URL is of no known form.
    """
    # A Windows path's drive is no scheme, and neither is what a folder's name may hold.
    found = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]+)://", url)
    match found[1].lower() if found else "":
        case "":
            if not url:
                raise UsageError(f"--quarantine is empty: {_FORMS}")
            return FolderStore(Path(url).expanduser())
        case "file":
            return FolderStore(Path(unquote(urlsplit(url).path)))
        case "s3":
            # Imported where they are used: boto3 takes a third of a second, and folders need none.
            from streamheal.quarantine.s3 import S3Store

            bucket, prefix = _bucket(url, "--quarantine")
            return S3Store(bucket, prefix, aws)
        case "kinesis":
            return _kinesis(url, state, aws)
        case scheme:
            raise UsageError(f"--quarantine is {url!r}, and {scheme}:// is not known: {_FORMS}")


def _bucket(url: str, option: str) -> tuple[str, str]:
    # By hand: a key may hold '?' and '#', which mean something else to urlsplit.
    bucket, _, prefix = url[len("s3://") :].partition("/")
    if not bucket:
        raise UsageError(f"{option} is {url!r}, which names no bucket: expected s3://bucket/prefix")
    return bucket, prefix.strip("/")


def _kinesis(url: str, state: Memory | None, aws: AwsOptions) -> Store:
    from streamheal.quarantine.bucket import Bucket
    from streamheal.quarantine.kinesis import KinesisStore

    parts = urlsplit(url)
    options = parse_qs(parts.query, keep_blank_values=True)
    spill = options.pop("spill", [""])[-1]
    if not parts.netloc or parts.path.strip("/") or options:
        raise UsageError(f"--quarantine is {url!r}: expected kinesis://stream?spill=s3://bucket/prefix")
    if spill and not spill.startswith("s3://"):
        raise UsageError(f"--quarantine spills to {spill!r}: expected kinesis://stream?spill=s3://bucket/prefix")
    if state is None:
        raise UsageError(f"--quarantine {url} keeps what became of its records in the state: give --state too")
    return KinesisStore(url, parts.netloc, Bucket(*_bucket(spill, "spill"), aws) if spill else None, state, aws)
