"""WebSocket clients for tests: what the end of a connection says, and one on a raw socket that may behave as badly as it likes.

The well-behaved clients are those of the package `websockets` (`Runtime.connect`). `RawClient` shares no code with the gateway,
nor with it: it knows RFC 6455 as far as it needs it.
"""

from __future__ import annotations

import base64
import contextlib
import os
import select
import socket
import struct
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from .kinds import CUT

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

TIMEOUT = 15.0
TRICKLE = 0.05
"""Seconds between two messages of a flood that is over."""
TEXT, BINARY, CLOSE, PING = 0x1, 0x2, 0x8, 0x9
_MASK = b"\0\0\0\0"
"""A mask like any other: RFC 6455, section 5.3, wants it unpredictable to protect proxies, and here are none."""


def close_of(client: ClientConnection, timeout: float = TIMEOUT) -> tuple[int, str]:
    """Read to the end; return the code and reason of the server's close frame. Raises AssertionError if the line was cut without
    one, and TimeoutError if nothing comes for `timeout` seconds."""
    code, reason = end_of(client, timeout)
    assert code != CUT, "the line was cut without a close frame"
    return code, reason


def end_of(client: ClientConnection, timeout: float = TIMEOUT) -> tuple[int, str]:
    """Read to the end; return the code and reason of the server's close frame, 1006 if there was none. Raises TimeoutError if
    nothing comes for `timeout` seconds."""
    from websockets.exceptions import ConnectionClosed

    try:
        while True:
            client.recv(timeout=timeout)
    except ConnectionClosed as closed:
        return (CUT, "") if closed.rcvd is None else (closed.rcvd.code, closed.rcvd.reason)


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """One whole, masked frame from a client (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    return head + _MASK + payload


class RawClient:
    """A client that sends what it is told and reads when it is told. A context manager: at the end the line is cut."""

    def __init__(self, port: int, path: str, *, window: int | None = None) -> None:
        """Connect to 127.0.0.1 and shake hands. `window` is the size of the receive buffer, in bytes. Raises AssertionError if
        the server does not answer 101."""
        self.socket = socket.socket()
        try:
            self.socket.settimeout(TIMEOUT)
            if window is not None:  # before connecting: the window's scale is agreed on then
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            self.socket.connect(("127.0.0.1", port))
            self._buffer = b""
            self._shake_hands(port, path)
        except BaseException:
            self.socket.close()
            raise

    def _shake_hands(self, port: int, path: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: Upgrade", "Upgrade: websocket"]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), f"expected 101, not {head.decode(errors='replace')}"

    def _more(self, size: int = 65536) -> None:
        data = self.socket.recv(size)
        if not data:
            raise ConnectionResetError("the server has cut the line")
        self._buffer += data

    def send(self, text: str) -> None:
        """Send a text message."""
        self.socket.sendall(frame(text.encode()))

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def flood(self, payload: bytes, size: int, within: float) -> None:
        """Send text messages with this payload and read nothing: `size` bytes as fast as the server takes them, and then a message
        now and then, until the line is cut. Raises AssertionError if it is not cut `within` so many seconds of the last byte that
        was taken of the `size`."""
        whole, taken = frame(payload), 0
        rest = memoryview(whole)
        deadline = time.monotonic() + within
        self.socket.setblocking(False)
        with contextlib.suppress(ConnectionError):
            while (now := time.monotonic()) < deadline:
                try:
                    sent = self.socket.send(rest)
                except BlockingIOError:
                    # The end of the line makes it writable too.
                    select.select([], [self.socket], [], deadline - now)
                    continue
                taken, rest = taken + sent, rest[sent:] or memoryview(whole)
                if taken < size:
                    deadline = time.monotonic() + within
                else:
                    threading.Event().wait(TRICKLE)  # what is sent to a line that is cut says so
            raise AssertionError(
                f"a client that reads nothing is to be cut (S54): {taken} bytes of it were taken, and {within:g} s have passed"
            )
        self.socket.settimeout(TIMEOUT)

    def receive(self, step: int = 65536) -> tuple[int, bytes]:
        """The opcode and payload of the next frame, read in steps of so many bytes. Raises ConnectionError when the line is cut,
        TimeoutError after 15 seconds without a byte."""
        while True:
            if len(self._buffer) >= 2:
                size, start = self._buffer[1] & 0x7F, 2
                if size >= 126:
                    start, layout = (4, "!H") if size == 126 else (10, "!Q")
                    if len(self._buffer) >= start:
                        (size,) = struct.unpack_from(layout, self._buffer, 2)
                if len(self._buffer) >= start + size and not (size in (126, 127) and start == 2):
                    opcode, payload = self._buffer[0] & 0x0F, self._buffer[start : start + size]
                    self._buffer = self._buffer[start + size :]
                    return opcode, payload
            self._more(step)

    def end(self) -> int:
        """Read to the end; return the code of the server's close frame: 1005 for one without, 1006 if there was none."""
        with contextlib.suppress(ConnectionError):
            while True:
                opcode, payload = self.receive()
                if opcode == CLOSE:
                    return int.from_bytes(payload[:2], "big") if payload else 1005
        return CUT

    def reset(self) -> None:
        """Cut the line with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()
