"""How much of a container's memory is the workers'."""

from __future__ import annotations

from streamheal import platform
from streamheal.config.settings import Settings

# The host itself (60 to 100 MiB with boto3), the batches that lie in shared memory, and what the kernel
# counts beside: page tables, sockets, files.
_HOST_BYTES, _HOST_SHARE = 96 << 20, 0.1
# The usual heap of KCL's JVM is at most so much of the container.
_JVM_SHARE = 0.5


def together_bytes(settings: Settings, container_bytes: int | None = None) -> int | None:
    """What all worker processes may use together; None: nobody limits it, or it was switched off."""
    container = platform.container_memory_bytes() if container_bytes is None else container_bytes
    if container is None or settings.worker_memory == 0:
        return None
    left = container - _HOST_BYTES - int(container * _HOST_SHARE)
    if settings.engine == "kcl":
        left -= settings.kcl_heap or int(container * _JVM_SHARE)
    # Where nothing is left the container is too small anyway, and to kill workers would not help.
    return left if left > 0 else None
