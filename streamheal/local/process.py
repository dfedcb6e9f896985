"""The emulator in a process of its own, for tests and the demo."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from types import TracebackType
from typing import IO

from streamheal.errors import UsageError

_STOP_S = 5.0


class LocalAws:
    """Starts the emulator, and stops it; a context manager. It does not outlive this process.

    with LocalAws() as url:
        boto3.client("kinesis", endpoint_url=url)

    Attributes:
        url: Where it answers, once started.
    """

    def __init__(self, port: int = 0) -> None:
        self.url = ""
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    def start(self) -> str:
        """The address; it answers there already.

        Raises:
            UsageError: The port is taken, moto is not installed, or it died; with what it said.
        """
        assert self._process is None, "started twice"
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in stop()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "streamheal.local", "--port", str(self._port), "--with-parent"],
            # The pipe is how it knows that we live: it ends with us, however we end.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            # Ctrl-C in a terminal reaches the whole group: this process is to be stopped by us,
            # after whatever still uses it.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().decode().strip()
        if not self.url:
            said = self._what_it_said()
            self.stop()
            raise UsageError(said or "the embedded AWS did not start")
        return self.url

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def environment(self) -> dict[str, str]:
        """What makes boto3, localstack-client and the AWS CLI speak to it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "LOCALSTACK_HOST": self.url.removeprefix("http://"),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _what_it_said(self) -> str:
        assert self._process is not None
        assert self._errors is not None
        self._process.wait(_STOP_S)
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip().removeprefix("streamheal: ")
