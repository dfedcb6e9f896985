"""Which state a URL means."""

from __future__ import annotations

from pathlib import Path

from streamheal.config.aws import AwsOptions
from streamheal.errors import UsageError
from streamheal.state.base import State
from streamheal.state.sqlite import SqliteState

_AS_BOTO3 = AwsOptions()


def open_state(url: str, *, application: str = "", aws: AwsOptions = _AS_BOTO3) -> State:
    """The state at `sqlite:PATH` or `dynamodb:TABLE`. Nothing is touched before its first use.

    Args:
        application: Names the file or table where the URL does not.

    Raises:
        UsageError: The URL is of no known form.
    """
    scheme, _, name = url.partition(":")
    match scheme:
        case "sqlite" if name or application:
            return SqliteState(Path(name or f".streamheal/{application}.db").expanduser())
        case "dynamodb" if name or application:
            # Imported where it is used: boto3 takes a third of a second, and most commands need none.
            from streamheal.state.dynamodb import DynamoState

            return DynamoState(name.strip("/") or f"{application}-streamheal", aws)
        case _:
            raise UsageError(f"--state is {url!r}: expected sqlite:PATH or dynamodb:TABLE")
