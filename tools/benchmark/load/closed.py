"""The closed loop: every connection keeps the same number of messages in flight. Also with permessage-deflate."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Iterator
from typing import Any

from .frames import CLOSE, client_frame, connect_extended
from .latency import summary
from .scripts import DEFLATE, Client, CompressedClient, CompressedScript, Script

STALLED = 10.0
"""Seconds without a byte after which the run fails."""


@contextlib.contextmanager
def connected(
    host: str, port: int, path: str, size: int, connections: int, in_flight: int, deflate: bool = False
) -> Iterator[tuple[dict[int, Client], select.epoll]]:
    """Connected clients by descriptor, and an epoll that has them. Closes them with a close frame."""
    plain = None if deflate else Script.make(size, in_flight)
    compressed = CompressedScript.make(size) if deflate else None
    clients: dict[int, Client] = {}
    poll = select.epoll()
    try:
        for _ in range(connections):
            connection, head, rest = connect_extended(host, port, path, DEFLATE if deflate else "")
            if rest:
                raise ValueError(f"the server spoke first: {rest[:80]!r}")
            connection.setblocking(False)
            if compressed:
                clients[connection.fileno()] = CompressedClient(connection, compressed, head)
            elif plain:
                clients[connection.fileno()] = Client(connection, plain)
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
    deflate: bool = False,
) -> dict[str, Any]:
    """Connect, warm up, measure. Returns the count of echoes, the seconds, and with one in flight the latencies."""
    with connected(host, port, path, size, connections, in_flight, deflate) as (clients, poll):
        for client in clients.values():
            client.send(in_flight)
        drive(poll, clients, warm_up, latencies=False)
        print("measuring", flush=True)
        before = sum(client.echoed for client in clients.values())
        elapsed = drive(poll, clients, seconds, latencies=in_flight == 1)
        messages = sum(client.echoed for client in clients.values()) - before
        found = {"messages": messages, "seconds": elapsed}
        return found | summary([latency for client in clients.values() for latency in client.latencies])


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
