#!/opt/streamheal/bin/python
"""Whether the host in this container answers: exit code 0 or 1. `streamheal-healthy [/readyz | /healthz]`.

It asks where STREAMHEAL_HTTP says that the host listens, from inside.
"""

import http.client
import os
import sys


def main(path: str) -> int:
    host, _, port = os.environ["STREAMHEAL_HTTP"].rpartition(":")
    inside = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))
    connection = http.client.HTTPConnection(inside, int(port), timeout=4)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        print(answer.status, answer.read().decode(errors="replace").strip())
        return 0 if answer.status == 200 else 1
    except OSError as error:
        print(error)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "/readyz"))
