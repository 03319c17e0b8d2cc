"""A client that sends and never reads, and comes back when it is closed, until this process's standard input ends."""

from __future__ import annotations

import os
import select
import sys
from typing import Any

from .frames import client_frame, connect

BINARY = 0x2


def run(host: str, port: int, path: str, size: int, rate: float) -> dict[str, Any]:
    """Send `rate` messages per second. `closed` is how often the server has ended the connection."""
    frame = client_frame(BINARY, os.urandom(size), os.urandom(4))
    messages = closed = 0
    connection, _ = connect(host, port, path)
    print("measuring", flush=True)
    try:
        while not select.select([sys.stdin], [], [], 1 / rate)[0]:
            try:
                connection.sendall(frame)
                messages += 1
            except OSError:
                closed += 1
                connection.close()
                connection, _ = connect(host, port, path)
    finally:
        connection.close()
    return {"messages": messages, "seconds": 0.0, "closed": closed}
