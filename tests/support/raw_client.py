"""A client of a gateway that sends exactly these bytes, and reads no more than is asked: for what no library would send, and for
clients that do not read.

`supervisor` is that of `tests/gateway/conftest.py`, which knows where the gateway listens and plays its workers.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

from wsrelay.kernel.wire import messages as m

PATIENCE = 10.0
"""Seconds until a client that waits for bytes gives up."""
GET = b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n"


def handshake(path: bytes = b"/ws/lobby", headers: bytes = b"") -> bytes:
    """Return the request of a WebSocket handshake, with these header lines beside its own."""
    return (
        b"GET %s HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n"
    ) % (path, headers)


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return one masked frame (RFC 6455 §5.2), lawful or not. The mask is of zeros; `rsv` are bits of the first byte."""
    first, size = 0x80 * fin | rsv | opcode, len(payload)
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + b"\0\0\0\0" + payload


def connect(supervisor: Any, data: bytes = b"", *, receive_buffer: int = 0) -> socket.socket:
    """Connect, and send this. `receive_buffer` are the bytes that the operating system keeps for the client; 0 for as many as it
    likes."""
    client = socket.socket()
    client.settimeout(PATIENCE)
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.connect(("127.0.0.1", supervisor.ports["app:gateway"]))
    client.sendall(data)
    return client


def head_of_answer(client: socket.socket) -> bytes:
    """Return the answer to the end of its header; what comes behind it may be read too."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        received = client.recv(4096)
        assert received, "no answer"
        answer += received
    return answer


def status(client: socket.socket) -> int:
    """Return the status of the answer, whose header is read."""
    return int(head_of_answer(client).split()[1])


def ask(
    supervisor: Any, function: Any, target: str, request: bytes | None = None, *, receive_buffer: int = 0, **fields: Any
) -> tuple[socket.socket, m.Admit]:
    """A client whose handler names `target`, up to the question whether that lives. `fields` are of the relay header."""
    client = connect(supervisor, handshake() if request is None else request, receive_buffer=receive_buffer)
    supervisor.grant(function)
    supervisor.answer(function, headers=(("X-WS-Relay", json.dumps({"target_pid": target, **fields})),))
    return client, supervisor.expect(m.Admit)


def join(
    supervisor: Any, function: Any, target: Any, request: bytes | None = None, **fields: Any
) -> tuple[socket.socket, int]:
    """A client that asks to join `target`, which lives; its socket, and the status of its handshake."""
    client, asked = ask(supervisor, function, target.pid, request, **fields)
    supervisor.send(m.Admitted(asked.request, target.pid, target.number))
    return client, status(client)
