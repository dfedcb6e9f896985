"""A container of an image: by docker where its engine runs, else from buildah's store by bubblewrap.

Either way it has the image's own user, environment, working folder and command, a file system that
cannot be written but for /tmp, and this machine's network, where the AWS on loopback answers.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

# Nothing is asked of the kernel by these, so that it also works inside of a container.
_BUILDAH = {**os.environ, "STORAGE_DRIVER": os.environ.get("STORAGE_DRIVER", "vfs"), "BUILDAH_ISOLATION": "chroot"}


def _has_docker() -> bool:
    try:
        return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


_DOCKER = _has_docker()


def _call(*command: str) -> str:
    done = subprocess.run(command, env=_BUILDAH, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def build(image: str, folder: Path) -> None:
    """Build the Dockerfile of a folder, quietly."""
    if _DOCKER:
        _call("docker", "build", "--quiet", "--tag", image, str(folder))
    else:
        _call("buildah", "build", "--quiet", "--format", "docker", "--tag", image, str(folder))


def size_text(image: str) -> str:
    if _DOCKER:
        return f"{int(_call('docker', 'image', 'inspect', '--format', '{{.Size}}', image)) / 1e6:.0f} MB"
    return _call("buildah", "images", "--format", "{{.Size}}", image)


class _Running(Protocol):
    def healthy(self) -> bool: ...
    def signal(self, number: int) -> None: ...
    def exit_code(self) -> int | None: ...
    def log(self) -> str: ...
    def remove(self) -> None: ...


class Container:
    """A context manager; starts at once, and is removed at the end however that comes."""

    def __init__(self, image: str, environment: dict[str, str]) -> None:
        self._running: _Running = (_InDocker if _DOCKER else _InBubblewrap)(image, environment)

    def healthy(self) -> bool:
        """What the image's HEALTHCHECK says now."""
        return self._running.healthy()

    def signal(self, number: int) -> None:
        self._running.signal(number)

    def ended(self) -> bool:
        return self.exit_code() is not None

    def exit_code(self) -> int | None:
        return self._running.exit_code()

    def log(self) -> str:
        return self._running.log()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.remove()


class _InDocker:
    def __init__(self, image: str, environment: dict[str, str]) -> None:
        variables = [f"--env={name}={value}" for name, value in environment.items()]
        closed = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        self._id = _call("docker", "run", "--detach", "--network=host", *closed, *variables, image)

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(_call("docker", "inspect", "--format", "{{json .State}}", self._id))
        return state

    def healthy(self) -> bool:
        check = json.loads(_call("docker", "inspect", "--format", "{{json .Config.Healthcheck}}", self._id))
        kind, *command = check["Test"]
        assert kind == "CMD", kind
        return subprocess.run(["docker", "exec", self._id, *command], check=False).returncode == 0

    def signal(self, number: int) -> None:
        _call("docker", "kill", f"--signal={number}", self._id)

    def exit_code(self) -> int | None:
        state = self._state()
        return None if state["Running"] else int(state["ExitCode"])

    def log(self) -> str:
        done = subprocess.run(["docker", "logs", self._id], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def remove(self) -> None:
        _call("docker", "rm", "--force", self._id)


class _InBubblewrap:
    """bubblewrap makes the user, the processes and the file system of a container, and no more."""

    def __init__(self, image: str, environment: dict[str, str]) -> None:
        self._container = _call("buildah", "from", image)
        self._config = json.loads(_call("buildah", "inspect", self._container))["Docker"]["config"]
        self._root = _call("buildah", "mount", self._container)
        self._environment = dict(pair.split("=", 1) for pair in self._config["Env"]) | environment
        self._log = tempfile.NamedTemporaryFile()  # noqa: SIM115 - closed in remove()
        told, tells = os.pipe()
        try:
            self._process = subprocess.Popen(
                self._inside(*self._config["Entrypoint"], *self._config["Cmd"], option=("--info-fd", str(tells))),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[tells],
            )
        finally:
            os.close(tells)
        with os.fdopen(told) as info:
            self._first: int = json.load(info)["child-pid"]

    def _inside(self, *command: str, option: tuple[str, ...] = ()) -> list[str]:
        user, _, group = self._config["User"].partition(":")
        variables = [word for pair in self._environment.items() for word in ("--setenv", *pair)]
        mounts = ["--ro-bind", self._root, "/", "--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev"]
        apart = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--as-pid-1", "--die-with-parent"]
        who = ["--uid", user, "--gid", group, "--hostname", self._container, "--chdir", self._config["WorkingDir"]]
        return ["bwrap", *mounts, *apart, *who, "--clearenv", *variables, *option, "--", *command]

    def healthy(self) -> bool:
        kind, *command = self._config["Healthcheck"]["Test"]
        assert kind == "CMD", kind
        return subprocess.run(self._inside(*command), stdout=subprocess.DEVNULL, check=False).returncode == 0

    def signal(self, number: int) -> None:
        os.kill(self._first, number)

    def exit_code(self) -> int | None:
        return self._process.poll()

    def log(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    def remove(self) -> None:
        if self._process.poll() is None:
            self.signal(signal.SIGKILL)  # the first of its processes: with it go all
            self._process.wait()
        self._log.close()
        _call("buildah", "rm", self._container)
