"""Processes: what it takes to start one, to hold one, to send to one, and to see one die."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from ..load.frames import CLOSE, TEXT, FrameReader, client_frame, connect
from ..load.latency import summary
from ..peers.process import Server
from .model import Case, Mark, Measure, Settings

CRASH_CODE = 1011
TASK_TIMEOUT = 120.0
MIB = 1 << 20


class Laboratory:
    """A worker of the runtime that does what it is told over a WebSocket connection."""

    def __init__(self, server: Server) -> None:
        self._connection, rest = connect("127.0.0.1", server.port, server.path("lab"), TASK_TIMEOUT)
        self._reader = FrameReader(self._connection, rest)

    def __enter__(self) -> Laboratory:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def do(self, task: str, **arguments: Any) -> Any:
        """Have it do a task and return its answer. Raises RuntimeError if the laboratory ends instead."""
        asked = json.dumps({"do": task, **arguments}).encode()
        self._connection.sendall(client_frame(TEXT, asked, b"\1\2\3\4"))
        opcode, payload = self._reader.read()
        if opcode != TEXT:
            raise RuntimeError(f"the laboratory ended with {payload[:2].hex()}: {payload[2:].decode(errors='replace')}")
        return json.loads(payload)


def spawn(server: Server, settings: Settings) -> dict[str, Any]:
    """From `spawn` to the first message handled."""
    with Laboratory(server) as laboratory:
        laboratory.do("spawn", count=5)
        times = laboratory.do("spawn", count=settings.scaled(100, 20))
    return _in_milliseconds(times)


def memory(entry: str) -> Callable[[Server, Settings], dict[str, Any]]:
    """What an idle worker adds to the memory of the whole tree."""

    def measure(server: Server, settings: Settings) -> dict[str, Any]:
        count = settings.scaled(50, 10)
        with Laboratory(server) as laboratory:
            laboratory.do("idle", entry=entry, count=1)
            before = server.memory()
            laboratory.do("idle", entry=entry, count=count)
            return {"memory": (server.memory() - before) / count / MIB}

    return measure


def signals(server: Server, settings: Settings) -> dict[str, Any]:
    """Messages from worker to worker through the supervisor."""
    count = settings.scaled(100_000, 10_000)
    with Laboratory(server) as laboratory:
        laboratory.do("send", count=2_000, size=64)
        before = server.cpu_seconds()
        seconds = laboratory.do("send", count=count, size=64)
        return {"rate": count / seconds, "cpu": (server.cpu_seconds() - before) / count * 1e6}


def crash(server: Server, settings: Settings) -> dict[str, Any]:
    """From SIGKILL of a worker to the close frame at its client."""
    for _ in range(3):
        kill_one(server)
    return _in_milliseconds([kill_one(server) for _ in range(settings.scaled(100, 10))])


def kill_one(server: Server) -> float:
    """Connect, kill the process that answers, and return the seconds until its client has the close frame."""
    connection, rest = connect("127.0.0.1", server.port, server.path("victim"))
    with connection:
        reader = FrameReader(connection, rest)
        os_pid = int(_text(reader, connection))
        start = time.perf_counter()
        os.kill(os_pid, signal.SIGKILL)
        opcode, payload = reader.read()
        elapsed = time.perf_counter() - start
    code = int.from_bytes(payload[:2], "big")
    if (opcode, code) != (CLOSE, CRASH_CODE):
        raise RuntimeError(f"expected close code {CRASH_CODE}, got opcode {opcode} with {payload!r}")
    return elapsed


def _in_milliseconds(times: list[float]) -> dict[str, Any]:
    """The summary of these seconds, and its percentiles in the table's unit."""
    found = summary(times)
    return found | {"p50 ms": found["p50"] / 1000, "p99 ms": found["p99"] / 1000}


def _text(reader: FrameReader, connection: socket.socket) -> bytes:
    opcode, payload = reader.read()
    if opcode != TEXT:
        raise RuntimeError(f"expected the worker's number, got a frame with opcode {opcode}")
    return payload


MILLISECONDS = (Measure("p50 ms", "p50 ms", 2), Measure("p99 ms", "p99 ms", 2))
MEMORY = (Measure("memory", "MiB/worker", 2),)
OURS = ("wsrelay",)

CASES = (
    Case(
        "spawn",
        "spawn → first message handled",
        OURS,
        spawn,
        MILLISECONDS,
        (Mark("p50 ms", 4, at_least=False, unit="ms"),),
        explanation="A worker spawns another and sends to it at once; the new one says when it has the message in hand.",
    ),
    Case(
        "memory",
        "memory that an idle blocking worker adds",
        OURS,
        memory("idle_blocking"),
        MEMORY,
        (Mark("memory", 2.5, at_least=False, unit="MiB"),),
        fresh=True,
        explanation="Proportional set size of the whole tree, with and without fifty workers that have answered once.",
    ),
    Case(
        "memory-asyncio",
        "memory that an idle asyncio worker adds",
        OURS,
        memory("idle_asyncio"),
        MEMORY,
        (Mark("memory", 4, at_least=False, unit="MiB"),),
        fresh=True,
        explanation="The same, with an event loop in each worker.",
    ),
    Case(
        "crash",
        "SIGKILL of a worker → close frame at its client",
        OURS,
        crash,
        MILLISECONDS,
        (Mark("p50 ms", 2, at_least=False, unit="ms"), Mark("p99 ms", 8, at_least=False, unit="ms")),
        explanation="The clock runs from the system call that kills to the last byte of the close frame, which says 1011.",
    ),
    Case(
        "signals",
        "worker → worker through the supervisor, 64 B",
        OURS,
        signals,
        (Measure("rate", "messages/s"), Measure("cpu", "CPU µs/message", 1)),
        (Mark("rate", 40_000, unit="messages/s"),),
        explanation="One worker sends to another, each send written at once; at most 2,000 messages are under way.",
    ),
)
