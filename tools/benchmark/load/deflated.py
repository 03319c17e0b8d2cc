"""The closed loop with permessage-deflate: every connection keeps the same number of messages in flight.

In Python, as zlib is where the time goes, and the servers spend more of it.
"""

from __future__ import annotations

import contextlib
import resource
import select
import time
from collections.abc import Iterator
from typing import Any

from .frames import CLOSE, client_frame, connect_extended
from .scripts import DEFLATE, Client, Script

STALLED = 10.0
"""Seconds without a byte after which the run fails."""


@contextlib.contextmanager
def connected(
    host: str, port: int, path: str, size: int, connections: int
) -> Iterator[tuple[dict[int, Client], select.epoll]]:
    """Connected clients by descriptor, and an epoll that has them. Closes them with a close frame."""
    script = Script.make(size)
    clients: dict[int, Client] = {}
    poll = select.epoll()
    try:
        for _ in range(connections):
            connection, head, rest = connect_extended(host, port, path, DEFLATE)
            if rest:
                raise ValueError(f"the server spoke first: {rest[:80]!r}")
            connection.setblocking(False)
            clients[connection.fileno()] = Client(connection, script, head)
            poll.register(connection, select.EPOLLIN)
        yield clients, poll
        for client in clients.values():
            client.connection.setblocking(True)
            client.connection.sendall(client.unsent + client_frame(CLOSE, b"\x03\xe8", b"\0\0\0\0"))
    finally:
        poll.close()
        for client in clients.values():
            client.connection.close()


def run(
    host: str,
    port: int,
    path: str,
    size: int,
    connections: int,
    in_flight: int,
    seconds: float,
    warm_up: float,
) -> dict[str, Any]:
    """Connect, warm up, measure. Returns as the compiled kinds do: latencies in nanoseconds."""
    with connected(host, port, path, size, connections) as (clients, poll):
        for client in clients.values():
            client.send(in_flight)
        drive(poll, clients, warm_up, latencies=False)
        print("measuring", flush=True)
        before, spent = sum(client.echoed for client in clients.values()), cpu_seconds()
        elapsed = drive(poll, clients, seconds, latencies=in_flight == 1)
        spent = cpu_seconds() - spent
        messages = sum(client.echoed for client in clients.values()) - before
        latencies = [round(latency * 1e9) for client in clients.values() for latency in client.latencies]
        return {"messages": messages, "seconds": elapsed, "load seconds": spent, "latencies": latencies}


def cpu_seconds() -> float:
    """CPU that this process has used so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def drive(poll: select.epoll, clients: dict[int, Client], seconds: float, *, latencies: bool) -> float:
    """Answer every echo with the next message for `seconds`; returns the seconds that it really took."""
    start = now = heard = time.perf_counter()
    while now - start < seconds:
        for descriptor, events in poll.poll(0.5):
            client = clients[descriptor]
            written = True
            if events & select.EPOLLOUT:
                written = client.write(client.unsent)
            if events & ~select.EPOLLOUT:
                complete = client.receive()
                heard = now
                if complete:
                    if latencies:
                        arrived = time.perf_counter()
                        if client.sent_at:
                            client.latencies.append(arrived - client.sent_at)
                        client.sent_at = arrived
                    written = client.send(complete)
            if not written or events & select.EPOLLOUT:
                poll.modify(descriptor, select.EPOLLIN if written else select.EPOLLIN | select.EPOLLOUT)
        now = time.perf_counter()
        if now - heard > STALLED:
            raise TimeoutError(f"no echo for {STALLED:g} s")
    return now - start
