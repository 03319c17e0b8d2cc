"""Connections, one after the other in several lanes: connect, upgrade, with or without a first echo, close."""

from __future__ import annotations

import select
import socket
import time
from typing import Any

from .frames import CLOSE, TEXT, check_response, client_frame, make_request, server_frame
from .latency import summary

PAYLOAD = b"the first message of a connection"
FIRST = client_frame(TEXT, PAYLOAD, b"\x12\x34\x56\x78")
ECHO = server_frame(TEXT, PAYLOAD)
GOODBYE = client_frame(CLOSE, b"\x03\xe8", b"\0\0\0\0")
TIMEOUT = 20.0


class Lane:
    """One connection at a time."""

    def __init__(self, host: str, port: int, path: str, echo: bool) -> None:
        self._address = host, port
        self._path = path
        self._echo = echo
        self.open()

    def open(self) -> None:
        """Connect and ask for the upgrade."""
        self._started = time.perf_counter()
        self._buffer = b""
        self._upgraded = False
        self.connection = socket.create_connection(self._address, TIMEOUT)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request, self._accept = make_request(*self._address, self._path)
        self.connection.sendall(request)

    def receive(self) -> float | None:
        """Read once; returns the seconds that the connection took if it has got all that it waits for."""
        data = self.connection.recv(65536)
        if not data:
            raise ConnectionError(f"the server closed a connection, after {self._buffer!r}")
        self._buffer += data
        if not self._upgraded:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return None
            check_response(head, self._accept)
            self._upgraded, self._buffer = True, rest
            if self._echo:
                self.connection.sendall(FIRST)
        if self._echo and self._buffer != ECHO:
            if not ECHO.startswith(self._buffer):
                raise ValueError(f"a wrong echo: {self._buffer!r}")
            return None
        elapsed = time.perf_counter() - self._started
        self.connection.sendall(GOODBYE)
        self.connection.close()
        return elapsed


def run(host: str, port: int, path: str, lanes: int, seconds: float, warm_up: float, echo: bool) -> dict[str, Any]:
    """Connect for `seconds` in `lanes` at once. Returns the count of connections and how long one took."""
    poll = select.epoll()
    open_lanes: dict[int, Lane] = {}
    latencies: list[float] = []

    def add(lane: Lane) -> None:
        open_lanes[lane.connection.fileno()] = lane
        poll.register(lane.connection, select.EPOLLIN)

    try:
        for _ in range(lanes):
            add(Lane(host, port, path, echo))
        start = heard = time.perf_counter()
        began: float | None = None
        while True:
            for descriptor, _ in poll.poll(0.2):
                lane = open_lanes[descriptor]
                elapsed = lane.receive()
                heard = time.perf_counter()
                if elapsed is not None:
                    del open_lanes[descriptor]
                    latencies.append(elapsed)
                    lane.open()
                    add(lane)
            now = time.perf_counter()
            if began is None and now - start >= warm_up:
                print("measuring", flush=True)
                began = now
                latencies.clear()
            elif began is not None and now - began >= seconds:
                return {"messages": len(latencies), "seconds": now - began} | summary(latencies)
            if now - heard > TIMEOUT:
                raise TimeoutError(f"no connection for {TIMEOUT:g} s")
    finally:
        poll.close()
        for lane in open_lanes.values():
            lane.connection.close()
