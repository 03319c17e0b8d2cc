"""WebSocket on a raw socket, as little of it as a load generator needs (RFC 6455)."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from dataclasses import dataclass

TEXT = 0x1
COMPRESSED = 0x40
"""RSV1, the mark of permessage-deflate (RFC 7692)."""
CLOSE = 0x8
CRLF = b"\r\n"
_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def client_frame(opcode: int, payload: bytes, key: bytes) -> bytes:
    """A final frame, masked with `key` (4 bytes)."""
    mask = (key * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")
    return bytes([0x80 | opcode]) + _masked_length(len(payload)) + key + masked.to_bytes(len(payload), "big")


def _masked_length(length: int) -> bytes:
    if length < 126:
        return bytes([0x80 | length])
    if length < 1 << 16:
        return bytes([0x80 | 126]) + length.to_bytes(2, "big")
    return bytes([0x80 | 127]) + length.to_bytes(8, "big")


@dataclass
class FrameReader:
    """Reads whole frames from a blocking socket. A frame of a server is not masked."""

    connection: socket.socket
    buffer: bytes = b""

    def _take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            data = self.connection.recv(65536)
            if not data:
                raise ConnectionError("the connection ended without a close frame")
            self.buffer += data
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def read(self) -> tuple[int, bytes]:
        """Return the next frame's opcode and payload."""
        first, second = self._take(2)
        length = second & 0x7F
        if length == 126:
            length = int.from_bytes(self._take(2), "big")
        elif length == 127:
            length = int.from_bytes(self._take(8), "big")
        return first & 0x0F, self._take(length)


def make_request(host: str, port: int, path: str, extensions: str = "") -> tuple[bytes, bytes]:
    """A request for an upgrade, and the value that its response must have as `Sec-WebSocket-Accept`."""
    key = base64.b64encode(os.urandom(16))
    head = (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key.decode()}\r\n"
    )
    if extensions:
        head += f"Sec-WebSocket-Extensions: {extensions}\r\n"
    accept = base64.b64encode(hashlib.sha1(key + _ACCEPT_GUID, usedforsecurity=False).digest())
    return f"{head}\r\n".encode(), accept


def check_response(head: bytes, accept: bytes) -> None:
    """Raise ConnectionError unless `head` accepts the upgrade."""
    if not head.startswith(b"HTTP/1.1 101 ") or accept not in head:
        raise ConnectionError(f"no upgrade: {head.partition(CRLF)[0].decode(errors='replace')}")


def connect(host: str, port: int, path: str, timeout: float = 20.0) -> tuple[socket.socket, bytes]:
    """Open a WebSocket connection; return the blocking socket and what came after the response head."""
    connection, _, rest = connect_extended(host, port, path, "", timeout)
    return connection, rest


def connect_extended(
    host: str, port: int, path: str, extensions: str, timeout: float = 20.0
) -> tuple[socket.socket, bytes, bytes]:
    """Open a connection and offer `extensions`; return the blocking socket, the response head and what came after it."""
    connection = socket.create_connection((host, port), timeout)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request, accept = make_request(host, port, path, extensions)
        connection.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            received = connection.recv(65536)
            if not received:
                raise ConnectionError(f"the server closed the connection during the handshake, after {data!r}")
            data += received
        head, _, rest = data.partition(b"\r\n\r\n")
        check_response(head, accept)
    except BaseException:
        connection.close()
        raise
    return connection, head, rest
