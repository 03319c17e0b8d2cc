"""From a listening socket to the protocol of each connection that it accepts.

Owns the accepting, and the TLS handshakes in progress: each has a slot of its service before its first byte is read, and the time
of `timeouts.header`. A loop's own servers count a TLS connection only when its handshake is done, so that half-open ones are without
a bound. Knows nothing of what the connections say.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

import uvicorn

from ..core.answers import overloaded
from ..core.handshake import encode_rejection
from .descriptors import are_used_up
from .http_protocol import HttpProtocol, ServiceConfig

_BATCH: Final = 16
"""Connections that are accepted in one turn of the loop: they count only from the next on, so these are fewer than `RESERVED`."""
_LEAST_BUFFER: Final = 64 << 10
_MOST_BUFFER: Final = 1 << 30
_PAUSE: Final = 0.1
"""Seconds without accepting when the operating system cannot accept."""


async def open_first_stream() -> None:
    """Have the loop open now what it opens with its first stream: libuv keeps a descriptor back. So how many are open is the same
    before the first client and after the last."""
    one, other = socket.socketpair()
    with other:
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, one)
        transport.abort()


class ServiceServer(uvicorn.Server):
    """uvicorn's server of one service, with our way to accept."""

    def __init__(self, config: ServiceConfig) -> None:
        super().__init__(config)
        self._ours = config
        self._listeners: list[Listener] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections on these sockets."""
        loop = asyncio.get_running_loop()
        self._listeners = [Listener(loop, listening, self._ours, self._make_protocol) for listening in sockets or ()]
        self.started = True

    def _make_protocol(self) -> HttpProtocol:
        return HttpProtocol(self._ours, self.server_state, self.lifespan.state)

    def limit_buffers(self) -> None:
        """Take `limits.outbound` as it is now over, for connections that are still to come."""
        for listener in self._listeners:
            listener.limit_buffers()

    def stop_listening(self) -> None:
        """Accept no more. TLS handshakes go on."""
        for listener in self._listeners:
            listener.close()

    def abandon_handshakes(self) -> None:
        """Cut the lines whose TLS handshake is not done."""
        for listener in self._listeners:
            listener.abandon_handshakes()


class Listener:
    """One listening socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        config: ServiceConfig,
        make_protocol: Callable[[], HttpProtocol],
    ) -> None:
        self._loop = loop
        self._socket = listening
        self._config = config
        self._service = config.service
        self._make_protocol = make_protocol
        self._opening: set[asyncio.Task[None]] = set()
        self._resuming: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        listening.listen(config.backlog)
        self.limit_buffers()
        loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Accept no more."""
        if self._resuming is not None:
            self._resuming.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def limit_buffers(self) -> None:
        """Have the operating system keep no more than `limits.outbound` for a client: connections inherit it. By itself it grows the
        buffer to some MiB (tcp_wmem), and what has been written there is not seen to wait (S54). Those of AF_UNIX do not grow."""
        if self._socket.fileno() < 0 or self._socket.family == socket.AF_UNIX:
            return
        size = min(max(self._service.limits.outbound, _LEAST_BUFFER), _MOST_BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def abandon_handshakes(self) -> None:
        """Cut the lines whose handshake is not done."""
        for task in self._opening:
            task.cancel()

    def _accept(self) -> None:
        for _ in range(_BATCH):
            try:
                connection, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as problem:
                if not are_used_up(problem) or not self._accept_with_spare():
                    self._pause()
                    return
            else:
                self._open(connection, address)

    def _accept_with_spare(self) -> bool:
        """No descriptor is left: one that is kept back is for who asks an `http.admin`; anybody else is told so, and gives it back
        at once. Returns whether there was one."""
        descriptors = self._service.descriptors
        if not self._service.admin:
            descriptors.report_refusal()
        if not descriptors.release_spare():
            return False
        try:
            connection, address = self._socket.accept()
        except OSError:
            return False
        if self._service.admin:
            self._open(connection, address)
            return True
        with connection, contextlib.suppress(OSError):
            connection.setblocking(False)
            if self._config.ssl is None:
                connection.send(encode_rejection(overloaded("Too many connections")))
        descriptors.refill()
        return True

    def _pause(self) -> None:
        self._loop.remove_reader(self._socket)
        self._resuming = self._loop.call_later(_PAUSE, self._loop.add_reader, self._socket, self._accept)

    def _open(self, connection: socket.socket, address: Any) -> None:
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):  # it may be gone already
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tls = self._config.ssl
        if tls is None:
            opening = self._connect(connection)
        elif self._service.acquire(connection, address[0] if isinstance(address, tuple) else ""):
            opening = self._shake_hands(connection, tls)
        else:  # nothing can be said before the handshake
            connection.close()
            return
        task = self._loop.create_task(opening)
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            await self._loop.connect_accepted_socket(self._make_protocol, connection)

    async def _shake_hands(self, connection: socket.socket, tls: ssl.SSLContext) -> None:
        """Until the handshake is done the socket itself holds the slot; then the protocol's transport does."""
        protocol = self._make_protocol()
        protocol.accepted = connection
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=tls, ssl_handshake_timeout=self._service.timeouts.header
            )
        except OSError:  # of the line, of TLS, or the time is up
            pass
        finally:
            self._service.release(connection)
