"""Echo: messages per second and CPU per message, this runtime beside its peers, in interleaved rounds."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

from . import servers
from .report import Table, progress, spread

PEERS = {
    "uvicorn-wsproto": ("asyncio", "wsproto"),
    "uvicorn-websockets": ("uvloop", "websockets"),
}


@dataclass(frozen=True)
class Case:
    """What each connection does."""

    size: int
    connections: int
    in_flight: int

    @classmethod
    def parse(cls, text: str) -> Case:
        """`64x16x8`: bytes, connections, messages in flight on each."""
        size, connections, in_flight = map(int, text.split("x"))
        if min(size, connections, in_flight) < 1:
            raise ValueError("all three must be at least 1")
        return cls(size, connections, in_flight)

    def __str__(self) -> str:
        return f"{self.size} B, {self.connections} connections × {self.in_flight} in flight"


@dataclass(frozen=True)
class Round:
    """One server's result in one round."""

    rate: float
    """Messages per second."""
    cpu: float
    """Microseconds of CPU that the server's tree used for a message."""
    p50: float | None
    """Seconds, with one message in flight; None with several."""


def measure(server: servers.Server, case: Case, seconds: float) -> Round:
    """Load one server for `seconds`."""
    parameters = {
        "host": "127.0.0.1",
        "port": server.port,
        "path": server.path,
        "seconds": seconds,
        "warm_up": min(0.5, seconds / 4),
        **asdict(case),
    }
    command = [sys.executable, "-m", "benchmark.load", json.dumps(parameters)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as generator:
        output, errors = generator.stdout, generator.stderr
        if output is None or errors is None:
            raise RuntimeError("no pipes")
        if output.readline() != "measuring\n":
            raise RuntimeError(f"{server.name}: {errors.read().strip()}")
        before = server.cpu_seconds()
        line = output.readline()
        after = server.cpu_seconds()
        if not line:
            raise RuntimeError(f"{server.name}: {errors.read().strip()}")
        result = json.loads(line)
    messages = result["messages"]
    return Round(messages / result["seconds"], (after - before) / max(messages, 1) * 1e6, result["p50"])


def run(case: Case, rounds: int, seconds: float, peers: list[str], path: str) -> dict[str, Any]:
    """Measure all servers, one after the other in every round. Returns what the report needs."""
    results: dict[str, list[Round]] = {}
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(servers.wsrelay(path))]
        running += [stack.enter_context(servers.uvicorn(*PEERS[peer])) for peer in peers]
        for number in range(rounds):
            for server in running:
                progress(f"round {number + 1}/{rounds}: {server.name}")
                results.setdefault(server.name, []).append(measure(server, case, seconds))
        progress("")
    return {
        "case": asdict(case),
        "rounds": rounds,
        "seconds": seconds,
        "servers": {name: [asdict(one) for one in measured] for name, measured in results.items()},
    }


def table(result: dict[str, Any]) -> str:
    """The result as people read it."""
    case = Case(**result["case"])
    alone = case.in_flight == 1  # otherwise a message waits for others, and its latency says nothing
    head = ["", "messages/s", "spread", "CPU µs/message", "p50 µs", "rate: wsrelay ÷ it", "CPU: wsrelay ÷ it"]
    made = Table(head if alone else [title for title in head if title != "p50 µs"])
    own = result["servers"]["wsrelay"]
    for name, measured in result["servers"].items():
        rates, cpus = [one["rate"] for one in measured], [one["cpu"] for one in measured]
        latencies = [one["p50"] * 1e6 for one in measured if one["p50"] is not None]
        rate_ratio = statistics.median(a["rate"] / b["rate"] for a, b in zip(own, measured, strict=True))
        cpu_ratio = statistics.median(a["cpu"] / b["cpu"] for a, b in zip(own, measured, strict=True) if b["cpu"])
        made.add(
            name,
            f"{statistics.median(rates):,.0f}",
            spread(rates),
            f"{statistics.median(cpus):.1f}",
            *([f"{statistics.median(latencies):.0f}" if latencies else ""] if alone else []),
            "" if measured is own else f"{rate_ratio:.2f}",
            "" if measured is own else f"{cpu_ratio:.2f}",
        )
    rounds = f"{result['rounds']} rounds of {result['seconds']:g} s, interleaved; medians, and the range of the rounds"
    return f"echo, {case}; {rounds}\n\n{made}"
