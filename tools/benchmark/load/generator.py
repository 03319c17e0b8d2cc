"""Starts the load generator's process against a server, and reads the server's CPU while it measures."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

from . import compiled
from .latency import summary

COMPILED = frozenset({"broadcast", "closed", "connects", "opened"})
"""Kinds of load that are measured themselves, and so must cost little: written in C, in `source/`."""


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

    Where rates are measured, `load cpu` is the generator's own. `while_loaded` is called once the generator measures;
    afterwards the standard input of a kind that waits for that ends. Raises RuntimeError if the generator fails, or is not
    done after `limit` seconds.
    """
    command, measures = make_command(kind, {"host": "127.0.0.1", "port": server.port, "path": path, **parameters})
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
        if stdin is None or stdout is None or stderr is None:
            raise RuntimeError("no pipes")
        watchdog = threading.Timer(limit, process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            if stdout.readline() != "measuring\n":
                raise RuntimeError(f"{server.name}: {stderr.read().strip() or 'no load'}")
            before = server.cpu_seconds()
            if while_loaded:
                while_loaded()
            if not measures:
                stdin.close()
            line = stdout.readline()
            after = server.cpu_seconds()
            if not line:
                raise RuntimeError(f"{server.name}: {stderr.read().strip() or f'not done after {limit:g} s'}")
            stdin.close()
            if process.wait():  # until it has closed its connections
                raise RuntimeError(f"{server.name}: {stderr.read().strip() or 'the load did not end well'}")
        finally:
            watchdog.cancel()
            process.kill()
    result: dict[str, Any] = json.loads(line)
    messages = max(result["messages"], 1)
    latencies = result.pop("latencies", ())
    if "load seconds" in result:
        result["load cpu"] = result.pop("load seconds") / messages * 1e6
    return result | summary([number / 1e9 for number in latencies]) | {"cpu": (after - before) / messages * 1e6}


def make_command(kind: str, parameters: dict[str, Any]) -> tuple[list[str], bool]:
    """What to start, and whether that measures by itself until its time is over; otherwise it goes on until standard input ends.

    Raises RuntimeError if it is to be compiled and cannot be.
    """
    if kind == "closed" and parameters.get("deflate"):
        kind = "deflated"
    parameters = {name: value for name, value in parameters.items() if name != "deflate"}
    if kind not in COMPILED:
        return [sys.executable, "-m", "benchmark.load", kind, json.dumps(parameters)], kind == "deflated"
    given = [f"{name}={int(value) if isinstance(value, bool) else value}" for name, value in parameters.items()]
    return [str(compiled.program()), kind, *given], True
