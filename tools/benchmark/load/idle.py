"""Connections that do nothing, until this process's standard input ends."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from .frames import CLOSE, TEXT, FrameReader, client_frame, connect

PAYLOAD = b"the only message of this connection, which is idle from then on."
KEY = b"\x12\x34\x56\x78"


def run(host: str, port: int, path: str, connections: int) -> dict[str, Any]:
    """Open `connections` and hold them; one echo on each shows that it works."""
    with contextlib.ExitStack() as stack:
        readers = []
        for _ in range(connections):
            connection, rest = connect(host, port, path)
            readers.append(FrameReader(stack.enter_context(connection), rest))
        for reader in readers:
            reader.connection.sendall(client_frame(TEXT, PAYLOAD, KEY))
            if (found := reader.read()) != (TEXT, PAYLOAD):
                raise ValueError(f"a wrong echo: {found}")
        print("measuring", flush=True)
        sys.stdin.read()
        for reader in readers:
            reader.connection.sendall(client_frame(CLOSE, b"\x03\xe8", KEY))
        return {"messages": connections, "seconds": 0.0}
