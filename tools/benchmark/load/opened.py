"""The open loop: a fixed rate over all connections, one message in flight on each."""

from __future__ import annotations

import select
import time
from typing import Any

from .closed import connected
from .latency import summary
from .scripts import Client


def run(
    host: str, port: int, path: str, size: int, connections: int, rate: float, seconds: float, warm_up: float
) -> dict[str, Any]:
    """Send `rate` messages per second, to one connection after the other. A message that is late is sent late, not left
    out; latency counts from when it was due."""
    with connected(host, port, path, size, connections, 1) as (clients, poll):
        order = list(clients.values())
        drive(poll, clients, order, rate, warm_up)
        print("measuring", flush=True)
        before = sum(client.echoed for client in order)
        for client in order:
            client.latencies.clear()
        elapsed = drive(poll, clients, order, rate, seconds)
        messages = sum(client.echoed for client in order) - before
        found = {"messages": messages, "seconds": elapsed}
        return found | summary([latency for client in order for latency in client.latencies])


def drive(poll: select.epoll, clients: dict[int, Client], order: list[Client], rate: float, seconds: float) -> float:
    """Send at the rate for `seconds`, take what comes back until nothing is in flight; returns the seconds of sending."""
    start = now = time.perf_counter()
    position = sent = flying = 0
    while now - start < seconds or (flying and now - start < seconds + 5):
        due = int((min(now - start, seconds)) * rate)
        while sent < due:
            client = order[position % len(order)]
            if client.sent != client.echoed:
                break  # it is its turn, and its last message is still under way
            position += 1
            client.sent_at = start + sent / rate
            client.send(1)
            sent += 1
            flying += 1
        for descriptor, _ in poll.poll(0.001):
            client = clients[descriptor]
            if client.receive():
                client.latencies.append(time.perf_counter() - client.sent_at)
                flying -= 1
        now = time.perf_counter()
    if flying:
        raise TimeoutError(f"{flying} echoes are missing 5 s after the last message")
    return seconds
