"""What KCL's daemon starts for every shard: hands its pipes to the host, then only waits.

    daemon ── stdin, stdout ──► stub ── SCM_RIGHTS ──► host
                                  └─── waits on the socket until the host is through

Run as `python -I -S stub.py SOCKET`. It has to live as long as its shard: when it ends, the JVM
closes its own ends of the pipes. Only modules that the interpreter has built in are imported, and
what waits is a shell: there is one process like this for every shard, and a shell's own memory is a
twelfth of an interpreter's (0.21 MiB against 2.7).
"""

import _signal as signal  # type: ignore[import-not-found]  # built in; typeshed does not know it
import _socket as socket
import posix
import sys

# The daemon's group gets Ctrl-C; only the host ends us. What is ignored stays so in a shell.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)

host = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
host.connect(sys.argv[1])
descriptors = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1))
host.sendmsg([b"1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])

# From here on only the host holds the pipes, and their end is the host's to make.
null = posix.open("/dev/null", posix.O_RDWR)
posix.dup2(host.fileno(), 0)
posix.dup2(null, 1)

# One line says that all ended well, and `read` is 0. The socket's end says that the host is gone, and
# `read` is 1: then the daemon must not go on as if somebody read its records.
try:
    posix.execv("/bin/sh", ["sh", "-c", "read -r _"])
except OSError:  # an image without a shell
    posix._exit(0 if host.recv(2) else 1)
