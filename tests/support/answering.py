"""A WebSocket server on raw sockets that answers as a test says, rightly or wrongly, and counts: for what loads servers."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

TEXT = 0x1
CONTINUATION = 0x0
FINAL = 0x80
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Answer = Callable[[int, bytes], bytes | None]
"""Takes a message's number on its connection, from 0, and its payload. Returns the bytes to write; None: close."""


def frame(payload: bytes, first: int = FINAL | TEXT) -> bytes:
    """A frame as a server sends it."""
    length = len(payload)
    if length < 126:
        return bytes([first, length]) + payload
    if length < 1 << 16:
        return bytes([first, 126]) + length.to_bytes(2, "big") + payload
    return bytes([first, 127]) + length.to_bytes(8, "big") + payload


def echo(number: int, payload: bytes) -> bytes:
    """As it should be."""
    return frame(payload)


def accept_of(key: bytes) -> bytes:
    """What answers a key (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())


def switching(key: bytes) -> bytes:
    """The response that upgrades."""
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    return head + accept_of(key) + b"\r\n\r\n"


class AnsweringServer:
    """Serves each connection in a thread of its own. Has what the benchmark's `load` needs of a server."""

    name = "the test's server"

    def __init__(
        self,
        answer: Answer,
        respond: Callable[[bytes], bytes] = switching,
        piece: int = 0,
        to_all: Callable[[int], bool] | None = None,
    ) -> None:
        """`respond` takes the key of the request. `piece`: write so few bytes at a time. `to_all`: answers go not to the
        sender alone, but to each connection of which this, told its number, is true."""
        self._answer, self._respond, self._piece, self._to_all = answer, respond, piece, to_all
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._lock = threading.Lock()
        self.messages = 0
        self.upgrades = 0
        self.said_goodbye = 0
        self._ends = False

    def cpu_seconds(self) -> float:
        """Of the whole test."""
        return time.process_time()

    def start(self) -> None:
        """Begin to accept."""
        self._threads[0].start()

    def stop(self) -> None:
        """End every connection and every thread."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.wait()
        for connection in self._connections:
            connection.close()

    def end_after_handshake(self) -> None:
        """Say no more than the answer to the request."""
        self._ends = True

    def wait(self) -> None:
        """Accept no more, and wait until every connection that was accepted has ended."""
        with contextlib.suppress(OSError):  # it may have been done before
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connections.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection.makefile("rb") as stream:
            key = b""
            while (line := stream.readline()) not in {b"\r\n", b""}:
                name, _, value = line.partition(b":")
                if name.lower() == b"sec-websocket-key":
                    key = value.strip()
            connection.sendall(self._respond(key))
            with self._lock:
                self.upgrades += 1
            if self._ends:
                connection.shutdown(socket.SHUT_WR)
            number = 0
            while (payload := read_message(stream.read)) is not None:
                with self._lock:
                    self.messages += 1
                    answer = self._answer(number, payload)
                    if answer is None:
                        break
                    for receiver in self._receivers(connection):
                        self._write(receiver, answer)
                number += 1
            else:
                with self._lock:
                    self.said_goodbye += 1
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def _receivers(self, sender: socket.socket) -> list[socket.socket]:
        if self._to_all is None:
            return [sender]
        return [connection for number, connection in enumerate(self._connections) if self._to_all(number)]

    def _write(self, connection: socket.socket, data: bytes) -> None:
        piece = self._piece or max(len(data), 1)
        for start in range(0, len(data), piece):
            connection.sendall(data[start : start + piece])


def read_message(read: Callable[[int], bytes]) -> bytes | None:
    """The payload of the next frame of a client, which is text, masked and whole; None for a close frame.

    Raises ConnectionError at the end, ValueError for anything else.
    """
    head = read(2)
    if len(head) < 2:
        raise ConnectionError("the end")
    length = head[1] & 0x7F
    if length >= 126:
        length = int.from_bytes(read(2 if length == 126 else 8), "big")
    key, masked = read(4), read(length)
    if head[0] == FINAL | 0x8:
        return None
    if len(masked) < length:
        raise ConnectionError("the end of a message is missing")
    if head[0] != FINAL | TEXT or not head[1] & 0x80:
        raise ValueError(f"not a message of text: {head!r}")
    mask = (key * (length // 4 + 1))[:length]
    return (int.from_bytes(masked, "big") ^ int.from_bytes(mask, "big")).to_bytes(length, "big")


@contextlib.contextmanager
def answering(
    answer: Answer = echo,
    respond: Callable[[bytes], bytes] = switching,
    piece: int = 0,
    to_all: Callable[[int], bool] | None = None,
) -> Iterator[AnsweringServer]:
    """A running one."""
    server = AnsweringServer(answer, respond, piece, to_all)
    server.start()
    try:
        yield server
    finally:
        server.stop()
