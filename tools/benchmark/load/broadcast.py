"""The broadcast: one connection sends, all receive."""

from __future__ import annotations

import time
from typing import Any

from .closed import STALLED, connected

SETTLE = 0.3
"""Seconds from the last connection to the first message: by then the server knows all of them."""


def run(
    host: str, port: int, path: str, size: int, connections: int, in_flight: int, seconds: float, warm_up: float
) -> dict[str, Any]:
    """Keep `in_flight` broadcasts under way, by the slowest receiver. Returns the deliveries."""
    with connected(host, port, path, size, connections, in_flight) as (clients, poll):
        time.sleep(SETTLE)
        sender = next(iter(clients.values()))
        sender.send(in_flight)
        waiting = connections
        """Receivers that lack the oldest broadcast that is under way."""
        oldest = delivered = 0
        start = heard = time.perf_counter()
        began: float | None = None
        while True:
            for descriptor, _ in poll.poll(0.5):
                client = clients[descriptor]
                before = client.echoed
                complete = client.receive()
                delivered += complete
                heard = time.perf_counter()
                if complete and before <= oldest < client.echoed:
                    waiting -= 1
            while not waiting:
                oldest += 1
                waiting = sum(client.echoed <= oldest for client in clients.values())
                sender.send(1)
            now = time.perf_counter()
            if began is None and now - start >= warm_up:
                print("measuring", flush=True)
                began, delivered = now, 0
            elif began is not None and now - began >= seconds:
                return {"messages": delivered, "seconds": now - began}
            if now - heard > STALLED:
                raise TimeoutError(f"no delivery for {STALLED:g} s")
