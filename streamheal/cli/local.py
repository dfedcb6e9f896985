"""`streamheal local`."""

from __future__ import annotations

from typing import Annotated

import typer

from streamheal.errors import UsageError


def local(
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", help="The port to listen on; 0: one the system chooses.")
    ] = 4566,
) -> None:
    """AWS on 127.0.0.1: Kinesis, DynamoDB, S3 and CloudWatch, for trying things out."""
    if not 0 <= port <= 65535:
        raise UsageError(f"--port is {port}: expected a number from 0 to 65535")
    try:
        from streamheal.local.server import serve
    except ImportError as error:
        raise UsageError(
            f"the embedded AWS is not installed ({error.name} is missing): pip install 'streamheal[local]'"
        ) from error
    from streamheal.cli import logs

    logs.configure("warning")
    serve(port, _print_address)


def _print_address(url: str) -> None:
    """The variables that boto3, KCL and streamheal read; printed once the address answers."""
    print(
        f"# AWS on {url}: kinesis, dynamodb, s3, cloudwatch. Ctrl-C ends it and forgets everything.\n"
        f"export AWS_ENDPOINT_URL={url}\n"
        "export AWS_REGION=us-east-1\n"
        "export AWS_DEFAULT_REGION=us-east-1\n"
        "export AWS_ACCESS_KEY_ID=local\n"
        "export AWS_SECRET_ACCESS_KEY=local",
        flush=True,
    )
