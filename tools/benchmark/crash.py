"""Crash: from SIGKILL of a worker to the close frame at its client."""

from __future__ import annotations

import os
import signal
import statistics
import time
from typing import Any

from . import servers
from .frames import CLOSE, TEXT, FrameReader, connect
from .report import Table

WARM_UP = 5
EXPECTED_CODE = 1011


def kill_one(port: int, path: str) -> float:
    """Connect, kill the process that answers, and return the seconds until its client has the close frame."""
    connection, rest = connect("127.0.0.1", port, path)
    with connection:
        reader = FrameReader(connection, rest)
        opcode, payload = reader.read()
        if opcode != TEXT:
            raise RuntimeError(f"expected the worker's number, got a frame with opcode {opcode}")
        os_pid = int(payload)
        start = time.perf_counter()
        os.kill(os_pid, signal.SIGKILL)
        opcode, payload = reader.read()
        elapsed = time.perf_counter() - start
    code = int.from_bytes(payload[:2], "big")
    if (opcode, code) != (CLOSE, EXPECTED_CODE):
        raise RuntimeError(f"expected close code {EXPECTED_CODE}, got opcode {opcode} with {payload!r}")
    return elapsed


def run(count: int) -> dict[str, Any]:
    """Kill `count` workers, one after the other. Returns all times, in seconds."""
    with servers.wsrelay("/ws/victim") as server:
        for _ in range(WARM_UP):
            kill_one(server.port, server.path)
        return {"kills": count, "seconds": [kill_one(server.port, server.path) for _ in range(count)]}


def table(result: dict[str, Any]) -> str:
    """The result as people read it."""
    times = sorted(seconds * 1000 for seconds in result["seconds"])
    p99 = times[min(len(times) - 1, round(0.99 * (len(times) - 1)))]
    made = Table(["", "median ms", "p99 ms", "largest ms"])
    made.add("wsrelay", f"{statistics.median(times):.2f}", f"{p99:.2f}", f"{times[-1]:.2f}")
    return f"SIGKILL of a worker → close frame {EXPECTED_CODE} at its client, {result['kills']} times\n\n{made}"
