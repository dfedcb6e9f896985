"""One prefix of an S3 bucket: a few calls, their errors as ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from streamheal.config import aws
from streamheal.errors import StoreError, StoreUnavailable, Unavailable, UsageError

THREADS = 16
_PAGE_KEYS = 1000  # as many as S3 gives

# What S3 says to a condition that does not hold, or that another request is just deciding
# (S3 user guide, "Conditional requests"): If-None-Match, If-Match.
_CONDITION = frozenset({"412", "PreconditionFailed", "409", "ConditionalRequestConflict"})
_NOT_CONDITIONAL = frozenset({"501", "NotImplemented", "InvalidArgument"})
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})


class Found(NamedTuple):
    """What lies under a key. `key` leaves out the bucket's prefix."""

    key: str
    size: int


class Unmet(Exception):
    """The condition of a write did not hold: somebody else has written."""


class Bucket:
    """Keys here leave out the prefix. Methods block; threads may share it.

    Attributes:
        conditional: Whether the endpoint heeds If-None-Match and If-Match. AWS does since 2024;
            some that speak S3 ignore them, which `check` finds out.
    """

    def __init__(self, bucket: str, prefix: str, options: aws.AwsOptions) -> None:
        self.name = bucket
        self.url = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self.conditional = True
        self._prefix = f"{prefix}/" if prefix else ""
        self._options = options
        self._client_made: Any = None
        self._making = threading.Lock()

    def _client(self) -> Any:
        with self._making:
            if self._client_made is None:
                self._client_made = aws.client("s3", self._options, connections=2 * THREADS)
            return self._client_made

    def check(self) -> None:
        """Try to write, list and read.

        Raises:
            UsageError: No such bucket, or no permission.
            StoreUnavailable: It may answer later.
        """
        try:
            self._client().head_bucket(Bucket=self.name)
            # A name that begins with '_' is no data to Athena and its like. It stays: whoever may
            # write a quarantine often may not delete from it.
            probe = {"Bucket": self.name, "Key": f"{self._prefix}_streamheal-check", "Body": b"{}"}
            self._client().put_object(**probe)
            self._client().list_objects_v2(Bucket=self.name, Prefix=self._prefix, MaxKeys=1)
            self._client().get_object(Bucket=self.name, Key=probe["Key"])["Body"].read()
            self.conditional = self._heeds_conditions(probe)
        except (BotoCoreError, ClientError) as error:
            if aws.code(error) in ("404", "NoSuchBucket"):
                raise UsageError(
                    f"there is no bucket {self.name}. Create it with: aws s3 mb s3://{self.name}"
                ) from error
            explained = aws.explain(error, f"write to, list and read {self.url}")
            raise StoreUnavailable(str(explained)) if isinstance(explained, Unavailable) else explained from error

    def _heeds_conditions(self, probe: dict[str, Any]) -> bool:
        try:
            self._client().put_object(**probe, IfNoneMatch="*")
        except ClientError as error:
            if aws.code(error) in _NOT_CONDITIONAL:
                return False
            if aws.code(error) not in _CONDITION:
                raise
            return True
        return False

    def put(self, key: str, data: bytes, *, new: bool = False, over: str | None = None) -> None:
        """
        Args:
            new: Only if nothing is there.
            over: Only if what is there has this tag.

        Raises:
            Unmet: The condition did not hold.
            StoreUnavailable, StoreError
        """
        condition: dict[str, str] = {}
        if self.conditional and new:
            condition = {"IfNoneMatch": "*"}
        elif self.conditional and over is not None:
            condition = {"IfMatch": over}
        elif new and self._is_there(key):
            raise Unmet(key)
        try:
            self._client().put_object(
                Bucket=self.name,
                Key=self._prefix + key,
                Body=data,
                ContentType="application/json" if key.endswith(".json") else "application/octet-stream",
                **condition,
            )
        except (BotoCoreError, ClientError) as error:
            if condition and aws.code(error) in _CONDITION:
                raise Unmet(key) from error
            if condition and aws.code(error) in _NOT_CONDITIONAL:
                self.conditional = False
                return self.put(key, data, new=new, over=over)
            raise self._translated(error, "write", key) from error

    def _is_there(self, key: str) -> bool:
        try:
            self._client().head_object(Bucket=self.name, Key=self._prefix + key)
        except (BotoCoreError, ClientError) as error:
            if aws.code(error) in _MISSING:
                return False
            raise self._translated(error, "look at", key) from error
        return True

    def get(self, key: str) -> tuple[bytes, str] | None:
        """The bytes and their tag; None: nothing is there."""
        try:
            answer = self._client().get_object(Bucket=self.name, Key=self._prefix + key)
            return answer["Body"].read(), answer["ETag"]
        except (BotoCoreError, ClientError) as error:
            if aws.code(error) in _MISSING:
                return None
            raise self._translated(error, "read", key) from error

    def objects(self, within: str) -> Iterator[Found]:
        """Everything whose key begins so, in the order of keys."""
        for page in self._pages(Prefix=self._prefix + within):
            for one in page.get("Contents", ()):
                yield Found(one["Key"].removeprefix(self._prefix), one["Size"])

    def directories(self, within: str) -> list[str]:
        """The names of what would be directories in `within`, which is empty or ends with '/'."""
        pages = self._pages(Prefix=self._prefix + within, Delimiter="/")
        found = [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", ())]
        return [name.removesuffix("/").rpartition("/")[2] for name in found]

    def _pages(self, **what: Any) -> Iterator[dict[str, Any]]:
        try:
            yield from (
                self._client()
                .get_paginator("list_objects_v2")
                .paginate(Bucket=self.name, PaginationConfig={"PageSize": _PAGE_KEYS}, **what)
            )
        except (BotoCoreError, ClientError) as error:
            raise self._translated(error, "list", "") from error

    def _translated(self, error: Exception, do: str, key: str) -> StoreError | StoreUnavailable:
        where = f"{self.url}/{key}" if key else self.url
        explained = aws.explain(error, f"{do} {where}")
        return (StoreUnavailable if isinstance(explained, Unavailable) else StoreError)(str(explained))
