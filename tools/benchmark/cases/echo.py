"""Echo: messages per second, CPU per message and latency; broadcast; growth with the number of connections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..load.generator import load
from ..peers.process import Server
from .model import BEST_ISOLATED, Case, Mark, Measure, Settings

UVLOOP = "uvicorn-websockets"
WSPROTO = "uvicorn-wsproto"
FOREIGN = ("websockets", "node", "nginx", "websocketd", "pushpin")
ALL = ("wsrelay", "wsrelay-own", "wsrelay-coalesced", UVLOOP, WSPROTO, *FOREIGN)
RATE = Measure("rate", "messages/s")
CPU = Measure("cpu", "CPU µs/message", 1)
LOAD_CPU = Measure("load cpu", "load's CPU", 1, ranged=False)
"""What the load generator spends itself, in the unit of the column before."""
GROWTH_CONNECTIONS = (10, 100, 1000, 5000)
GROWTH_RATE = 2000
"""Messages per second over all connections: low enough that nothing is saturated."""


def limit(settings: Settings, connections: int = 0) -> float:
    """Seconds after which a measurement has failed."""
    return 30 + 5 * settings.seconds + connections / 50


def echo(
    size: int, connections: int, in_flight: int, deflate: bool = False
) -> Callable[[Server, Settings], dict[str, Any]]:
    """A closed loop."""

    def measure(server: Server, settings: Settings) -> dict[str, Any]:
        found = load(
            server,
            "closed",
            server.path("echo"),
            limit=limit(settings, connections),
            size=size,
            connections=connections,
            in_flight=in_flight,
            seconds=settings.seconds,
            warm_up=min(0.5, settings.seconds / 3),
            deflate=deflate,
        )
        return {"rate": found["messages"] / found["seconds"]} | found

    return measure


def broadcast(server: Server, settings: Settings) -> dict[str, Any]:
    """One connection sends, all of them receive."""
    connections = settings.scaled(500, 100)
    found = load(
        server,
        "broadcast",
        server.path("broadcast"),
        limit=limit(settings, connections),
        size=128,
        connections=connections,
        in_flight=4,
        seconds=settings.seconds,
        warm_up=min(0.5, settings.seconds / 3),
    )
    return {"rate": found["messages"] / found["seconds"]} | found


def growth(server: Server, settings: Settings) -> dict[str, Any]:
    """One fixed rate over more and more connections."""
    result: dict[str, Any] = {}
    for connections in GROWTH_CONNECTIONS:
        if settings.quick and connections > 1000:
            continue
        found = load(
            server,
            "opened",
            server.path("echo"),
            limit=limit(settings, connections),
            size=64,
            connections=connections,
            rate=GROWTH_RATE,
            seconds=2 * settings.seconds,
            warm_up=min(0.5, settings.seconds / 3),
        )
        result[f"CPU at {connections}"] = found["cpu"]
        result[f"p50 at {connections}"] = found["p50"]
        result[f"p99 at {connections}"] = found["p99"]
    return result


CASES = (
    Case(
        "echo",
        "echo 64 B, 16 connections × 8 in flight",
        ALL,
        echo(64, 16, 8),
        (RATE, CPU, LOAD_CPU),
        (
            Mark("rate", 1.2, peer=UVLOOP),
            Mark("rate", 2.5, peer=WSPROTO),
            Mark("rate", 1.2, peer=BEST_ISOLATED),
            Mark("rate", 1.5, peer=UVLOOP, server="wsrelay-coalesced"),
        ),
        explanation="Enough messages under way that every server is always busy: the highest rate it can do.",
    ),
    Case(
        "echo-many",
        "echo 64 B, 200 connections × 1 in flight",
        ALL,
        echo(64, 200, 1),
        (RATE, CPU, LOAD_CPU, Measure("p50", "p50 µs"), Measure("p99", "p99 µs")),
        (
            Mark("rate", 0.9, peer=UVLOOP),
            Mark("rate", 1.0, peer=UVLOOP, server="wsrelay-coalesced"),
            Mark("rate", 1.1, peer=BEST_ISOLATED),
        ),
        explanation="Nothing can be batched on one connection; what can be shared is work between connections.",
    ),
    Case(
        "echo-large",
        "echo 16 KiB, 16 connections × 4 in flight",
        ALL,
        echo(16 << 10, 16, 4),
        (RATE, CPU, LOAD_CPU),
        (Mark("rate", 0.7, peer=UVLOOP), Mark("rate", 1.4, peer=BEST_ISOLATED)),
        explanation="What copying and masking cost: a message crosses two more sockets than in one process.",
    ),
    Case(
        "echo-one",
        "echo 64 B, 1 connection × 1 in flight",
        ALL,
        echo(64, 1, 1),
        (Measure("p50", "p50 µs"), Measure("p99", "p99 µs"), RATE, CPU, LOAD_CPU),
        (Mark("p50", 1.2, at_least=False, peer=WSPROTO),),
        explanation="Latency of one message in a system that does nothing else: mostly the waking of processes.",
    ),
    Case(
        "echo-deflate",
        "echo 1 KiB of JSON, permessage-deflate, 16 connections × 8 in flight",
        ("wsrelay-deflate", "uvicorn-wsproto-deflate"),
        echo(1 << 10, 16, 8, deflate=True),
        (RATE, CPU, LOAD_CPU),
        (Mark("rate", 1.0, peer="uvicorn-wsproto-deflate", server="wsrelay-deflate"),),
        explanation="Both inflate and deflate every message, without context takeover.",
    ),
    Case(
        "broadcast",
        "broadcast of 128 B to 500 clients",
        ("wsrelay", "wsrelay-coalesced", "websockets"),
        broadcast,
        (Measure("rate", "deliveries/s"), Measure("cpu", "CPU µs/delivery", 2), replace(LOAD_CPU, digits=2)),
        (Mark("rate", 1.2, peer="websockets"),),
        explanation="One connection sends, with four messages under way; every client gets every message, and checks it.",
    ),
    Case(
        "growth",
        f"CPU per message at {GROWTH_RATE:,} messages/s over more and more connections",
        ("wsrelay", UVLOOP, WSPROTO),
        growth,
        tuple(Measure(f"CPU at {connections}", f"CPU µs at {connections:,}", 1) for connections in GROWTH_CONNECTIONS),
        (Mark("CPU at 5000", 1.5, at_least=False, against="CPU at 10"),),
        explanation="An open loop: the rate is the same for all, so that the only thing that grows is the number of "
        "connections. The fewer messages arrive together, the more each costs.",
    ),
)
