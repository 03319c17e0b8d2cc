"""Starts the load generator's process against a server, and reads the server's CPU while it measures."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol


class Measured(Protocol):
    """What is loaded."""

    @property
    def name(self) -> str:
        """Its name, for errors."""

    @property
    def port(self) -> int:
        """Where it serves, on loopback."""

    def cpu_seconds(self) -> float:
        """CPU that it has used so far."""


def load(
    server: Measured,
    kind: str,
    path: str,
    *,
    limit: float,
    while_loaded: Callable[[], None] | None = None,
    **parameters: Any,
) -> dict[str, Any]:
    """Load one server; returns the generator's result, and `cpu`: microseconds of the server's tree for a message.

    `while_loaded` is called once the generator measures; afterwards its standard input ends. Raises RuntimeError if the
    generator fails, or is not done after `limit` seconds.
    """
    parameters = {"host": "127.0.0.1", "port": server.port, "path": path, **parameters}
    command = [sys.executable, "-m", "benchmark.load", kind, json.dumps(parameters)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
        if stdin is None or stdout is None or stderr is None:
            raise RuntimeError("no pipes")
        watchdog = threading.Timer(limit, process.kill)
        watchdog.start()
        try:
            if stdout.readline() != "measuring\n":
                raise RuntimeError(f"{server.name}: {stderr.read().strip() or 'no load'}")
            before = server.cpu_seconds()
            if while_loaded:
                while_loaded()
            stdin.close()
            line = stdout.readline()
            after = server.cpu_seconds()
            if not line:
                raise RuntimeError(f"{server.name}: {stderr.read().strip() or f'not done after {limit:g} s'}")
        finally:
            watchdog.cancel()
            process.kill()
    result: dict[str, Any] = json.loads(line)
    messages = max(result["messages"], 1)
    return result | {"cpu": (after - before) / messages * 1e6}
