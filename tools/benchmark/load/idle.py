"""Connections that do nothing, until this process's standard input ends."""

from __future__ import annotations

import sys
from typing import Any

from .closed import connected


def run(host: str, port: int, path: str, connections: int) -> dict[str, Any]:
    """Open `connections` and hold them; one echo on each shows that it works."""
    with connected(host, port, path, 64, connections, 1) as (clients, _):
        for client in clients.values():
            client.connection.settimeout(20)
            client.send(1)
            while not client.receive():
                pass
        print("measuring", flush=True)
        sys.stdin.read()
        return {"messages": connections, "seconds": 0.0}
