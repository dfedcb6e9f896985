"""Under which name this host holds leases: KCL's `workerId`.

The same name after a restart has its leases back in seconds instead of after their failover time; two
living hosts of one name would both believe that a lease is theirs. So the name is that of what is
restarted as one thing, an ECS task or a machine, with a number where several hosts of an application
run there.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import os
import re
import socket
import tempfile
import urllib.request
from pathlib import Path

from streamheal.errors import UsageError

_METADATA_WITHIN_S = 2.0
_HOSTS_MAX = 1000


def place() -> str:
    """The ECS task and container, where there is one; else the machine."""
    if address := os.environ.get("ECS_CONTAINER_METADATA_URI_V4"):
        return _ecs(address)
    # Hosts are called localhost, or like the image they were made from.
    machine = hashlib.sha256(_machine_id().encode()).hexdigest()[:6]
    return f"{socket.gethostname()}-{machine}"


def _ecs(address: str) -> str:
    """Task and container, by the task metadata endpoint (Amazon ECS developer guide, version 4)."""
    try:
        container, task = _json(address), _json(f"{address}/task")
        return f"{task['TaskARN'].rsplit('/', 1)[-1]}-{container['Name']}"
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"ECS_CONTAINER_METADATA_URI_V4 is {address}, and does not tell which task this is ({error}): "
            f"expected it to answer, or --worker-id NAME, another for every host"
        ) from error


def _json(address: str) -> dict[str, str]:
    # It is the container's own: a proxy for the way out does not know it.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(address, timeout=_METADATA_WITHIN_S) as answer:
        found: dict[str, str] = json.load(answer)
        return found


def _machine_id() -> str:
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            return Path(path).read_text()
        except OSError:
            continue
    return ""


class Name:
    """A worker id that no other host on this machine has while we live."""

    def __init__(self, worker_id: str, descriptor: int) -> None:
        self.worker_id = worker_id
        self._descriptor = descriptor

    def give_up(self) -> None:
        os.close(self._descriptor)


def take_name(application: str, worker_id: str | None) -> Name:
    """The lowest number that is free: the kernel frees one when its host dies, however it dies.

    Args:
        worker_id: Said by the user, and then not numbered.

    Raises:
        UsageError: Another host here has that worker id; or nothing can be kept in the temporary folder.
    """
    folder = Path(tempfile.gettempdir()) / f"streamheal-{os.getuid()}"
    base = worker_id or place()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid != os.getuid():
            raise UsageError(f"{folder} is another user's. TMPDIR names another folder")
        for number in range(1, 2 if worker_id else _HOSTS_MAX):
            name = base if number == 1 else f"{base}-{number}"
            file = folder / f"{_file_name(application)}.{_file_name(name)}.lock"
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return Name(name, descriptor)
            except BlockingIOError:
                os.close(descriptor)
    except OSError as error:
        raise UsageError(f"cannot use the folder {folder}: {error.strerror}. TMPDIR names another") from error
    raise UsageError(f"{application} is already running here as worker {base}: give each host its own --worker-id")


def _file_name(text: str) -> str:
    """To be recognised by people, and another for every text."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', text)[:60]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
