"""Asks a process of the application to disturb, and waits for what it has seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..load.frames import TEXT, FrameReader, client_frame, connect
from ..peers.process import Server


def ask(server: Server, path: str, asked: Mapping[str, Any], patience: float) -> dict[str, Any]:
    """Send what is asked for, and return the answer. `patience`: seconds. Raises RuntimeError if there is none."""
    connection, rest = connect("127.0.0.1", server.port, path, patience)
    with connection:
        connection.sendall(client_frame(TEXT, json.dumps(asked).encode(), b"\1\2\3\4"))
        opcode, payload = FrameReader(connection, rest).read()
    if opcode != TEXT:
        raise RuntimeError(f"who disturbs at {path} ended with {payload!r}")
    answer: dict[str, Any] = json.loads(payload)
    return answer
