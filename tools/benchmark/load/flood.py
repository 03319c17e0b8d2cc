"""Connections that send as much as is taken, until this process's standard input ends."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
from typing import Any

from .frames import client_frame, connect

BINARY = 0x2


def run(host: str, port: int, path: str, size: int, connections: int) -> dict[str, Any]:
    """Open `connections` and fill them; `messages` is how many the operating system and the server have taken."""
    clients: list[socket.socket] = []
    poll = select.epoll()
    try:
        for _ in range(connections):
            connection, _ = connect(host, port, path)
            connection.setblocking(False)
            poll.register(connection, select.EPOLLOUT)
            clients.append(connection)
        print("measuring", flush=True)
        return {"messages": _fill(poll, {one.fileno(): one for one in clients}, size) // size, "seconds": 0.0}
    finally:
        poll.close()
        for connection in clients:
            connection.close()


def _fill(poll: select.epoll, clients: dict[int, socket.socket], size: int) -> int:
    frame = client_frame(BINARY, os.urandom(size), os.urandom(4))
    unsent = dict.fromkeys(clients, frame)
    sent = 0
    poll.register(sys.stdin, select.EPOLLIN)
    while True:
        for descriptor, events in poll.poll():
            if descriptor == sys.stdin.fileno():
                return sent
            if events & ~select.EPOLLOUT:
                raise ConnectionError("the server has closed a connection that floods")
            with contextlib.suppress(BlockingIOError):
                written = clients[descriptor].send(unsent[descriptor])
                sent += written
                unsent[descriptor] = unsent[descriptor][written:] or frame
