"""Whether the runtime serves: exit status 0 or 1. For a container's HEALTHCHECK; needs nothing but Python.

`WSRELAY_HEALTH` is `http://ADDRESS/PATH`, which has to answer 200, or `HOST:PORT`, which has to take a connection.
"""

from __future__ import annotations

import os
import socket
import sys
import urllib.request

TIMEOUT = 4.0
"""Seconds."""


def check(target: str) -> None:
    """Raise OSError, or ValueError for a target that is none, unless the runtime serves."""
    if target.startswith("http://"):
        with urllib.request.urlopen(target, timeout=TIMEOUT):  # any other answer raises
            return
    host, _, port = target.rpartition(":")
    socket.create_connection((host, int(port)), TIMEOUT).close()


def main() -> int:
    target = os.environ.get("WSRELAY_HEALTH", "127.0.0.1:8080")
    try:
        check(target)
    except (OSError, ValueError) as problem:
        print(f"{target}: {problem}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
