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
from .arrival import Arrival
from .descriptors import are_used_up
from .http_protocol import Address, HttpProtocol, ServiceConfig

_BATCH: Final = 16
"""Connections that are accepted in one turn of the loop: they count only from the next on, so these are fewer than `RESERVED`."""
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

    def _make_protocol(self, line: socket.socket, client: Address | None) -> Arrival:
        return Arrival(self._ours, self.server_state.connections, self._make_http, line, client)

    def _make_http(self) -> HttpProtocol:
        return HttpProtocol(self._ours, self.server_state, self.lifespan.state)

    @property
    def is_opening(self) -> bool:
        """Whether some of what was accepted is no connection yet."""
        return any(listener.is_opening for listener in self._listeners)

    def stop_listening(self) -> None:
        """Accept no more. TLS handshakes go on."""
        for listener in self._listeners:
            listener.close()

    def abandon_handshakes(self) -> None:
        """Cut the lines whose TLS handshake is not done; what else is accepted and no connection yet ends when it is one."""
        for listener in self._listeners:
            listener.abandon_handshakes()


class Listener:
    """One listening socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        config: ServiceConfig,
        make_protocol: Callable[[socket.socket, Address | None], Arrival],
    ) -> None:
        self._loop = loop
        self._socket = listening
        self._config = config
        self._service = config.service
        self._make_protocol = make_protocol
        self._opening: dict[asyncio.Task[Any], Arrival] = {}
        """What is accepted and no connection yet, without TLS."""
        self._handshakes: dict[asyncio.Task[None], socket.socket] = {}
        """The same with TLS: what holds the slot of each."""
        self._abandoned = False
        self._resuming: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        listening.listen(config.backlog)
        loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Accept no more."""
        if self._resuming is not None:
            self._resuming.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    @property
    def is_opening(self) -> bool:
        """Whether some of what was accepted is no connection yet."""
        return bool(self._opening or self._handshakes)

    def abandon_handshakes(self) -> None:
        """Cut the lines whose handshake is not done; what else is accepted and no connection yet ends when it is one."""
        self._abandoned = True
        for task in self._handshakes:
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
        # The loop makes it non-blocking, and sets TCP_NODELAY.
        protocol = self._make_protocol(connection, address[:2] if isinstance(address, tuple) else None)
        tls = self._config.ssl
        if tls is None:
            # Not to be cancelled: uvloop says nothing to a protocol whose connection was made and whose opening is cancelled.
            task = self._loop.create_task(self._loop.connect_accepted_socket(lambda: protocol, connection))
            self._opening[task] = protocol
            task.add_done_callback(self._end_opening)
        elif self._service.acquire(connection, protocol.client[0] if protocol.client else ""):
            self._handshakes[handshake := self._loop.create_task(self._shake_hands(protocol, tls))] = connection
            handshake.add_done_callback(self._end_handshake)
        else:  # nothing can be said before the handshake
            connection.close()

    def _end_opening(self, task: asyncio.Task[Any]) -> None:
        """It is a connection, or its line was gone."""
        protocol = self._opening.pop(task)
        problem = None if task.cancelled() else task.exception()
        if problem is None:
            if self._abandoned:
                protocol.shutdown()
        elif not isinstance(problem, OSError):
            raise problem

    def _end_handshake(self, task: asyncio.Task[None]) -> None:
        """It is done, has failed, or was cancelled, perhaps before its first step."""
        connection = self._handshakes.pop(task)
        if self._service.release(connection):  # it is no connection
            connection.close()

    async def _shake_hands(self, protocol: Arrival, tls: ssl.SSLContext) -> None:
        """Until the handshake is done the socket itself holds the slot; then the protocol's transport does."""
        connection = protocol.line
        protocol.accepted = connection
        with contextlib.suppress(OSError):  # of the line, of TLS, or the time is up
            await self._loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=tls,
                ssl_handshake_timeout=self._service.timeouts.header,
                ssl_shutdown_timeout=self._service.timeouts.close,
            )
