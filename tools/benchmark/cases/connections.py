"""Connections: how many can be opened in a second, and what an idle one costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..load.generator import load
from ..peers.process import Server
from .echo import LOAD_CPU, UVLOOP, WSPROTO, limit
from .model import Case, Mark, Measure, Settings

LANES = 16
"""Connections that are being opened at the same time."""
IDLE = 10_000
NAME = Measure("rate", "connections/s")
CPU = Measure("cpu", "CPU µs/connection")
P50 = Measure("p50", "p50 µs")


def connects(echo: bool) -> Callable[[Server, Settings], dict[str, Any]]:
    """Open and close connections, with a first echo or without."""

    def measure(server: Server, settings: Settings) -> dict[str, Any]:
        found = load(
            server,
            "connects",
            server.path("echo"),
            limit=limit(settings),
            lanes=LANES,
            seconds=settings.seconds,
            warm_up=min(0.5, settings.seconds / 3),
            echo=echo,
        )
        return {"rate": found["messages"] / found["seconds"]} | found

    return measure


def idle(server: Server, settings: Settings) -> dict[str, Any]:
    """Memory of the whole server for each connection, beyond what it had before."""
    connections = settings.scaled(IDLE, 500)
    load(server, "closed", server.path("echo"), limit=60, size=64, connections=1, in_flight=1, seconds=0.2, warm_up=0.1)
    before = server.memory()
    after = 0

    def read() -> None:
        nonlocal after
        after = server.memory()

    load(
        server,
        "idle",
        server.path("echo"),
        limit=limit(settings, connections) + 60,
        while_loaded=read,
        connections=connections,
    )
    return {"connections": connections, "memory": (after - before) / connections / 1024}


CASES = (
    Case(
        "connect",
        "connect and relay to a running target",
        ("wsrelay", "wsrelay-lookup", WSPROTO, UVLOOP),
        connects(echo=False),
        (NAME, CPU, LOAD_CPU, P50),
        (Mark("rate", 0.6, peer=WSPROTO),),
        explanation=f"{LANES} connections at a time are opened, upgraded and closed. Here the handler that decides runs in a "
        "process of its own, and the upgrade is answered when the target is monitored. It names a service that runs; looked up first "
        "means that it asks whether one has that name, and would start it.",
    ),
    Case(
        "connect-own",
        "connect with a new worker process each, first echo included",
        ("wsrelay-own", "websocketd"),
        connects(echo=True),
        (NAME, CPU, LOAD_CPU, P50),
        (Mark("rate", 2.0, peer="websocketd", server="wsrelay-own"),),
        explanation="A process is made for each connection, does one echo, and ends with it.",
    ),
    Case(
        "idle",
        f"memory of {IDLE:,} idle connections, all processes counted",
        ("wsrelay", WSPROTO, UVLOOP, "node"),
        idle,
        (Measure("memory", "KiB/connection", 1),),
        (Mark("memory", 17, at_least=False, unit="KiB"),),
        fresh=True,
        explanation="Proportional set size of the whole tree of processes, before and after; each connection has echoed once.",
    ),
)
