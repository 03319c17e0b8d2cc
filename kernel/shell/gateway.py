"""The supervisor's handle on the gateway: its listening sockets, its control channel, its OS process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ..wire import messages as m
from ..wire.channel import Channel, channel_pair
from ..wire.configuration import GatewayConfiguration, pack
from .attachment import Attachment, Turn
from .children import Child, start_python
from .listeners import describe, listen


class GatewayListener(Protocol):
    """Who is told what the gateway does."""

    def gateway_ready(self) -> None:
        """It accepts connections."""

    def gateway_lost(self, why: str) -> None:
        """It is dead, or of no use."""

    def from_gateway(self, record: tuple[Any, ...]) -> None:
        """It wrote a record for the process table."""

    def end_turn(self) -> None:
        """A callback of the loop is done."""


class Gateway:
    """The gateway process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        turn: Turn,
        configuration: GatewayConfiguration,
        listener: GatewayListener,
        configure: Callable[[int, bytes], m.Configure],
    ) -> None:
        """Binds all addresses: raises ListenError. `configure(incarnation, packed)` makes the record that starts it."""
        self.incarnation = 1
        self.ready = False
        self.shut_down = False
        self.child: Child | None = None
        self._loop = loop
        self._listener = listener
        self._configuration = configuration
        self._configure = configure
        self._sockets: list[tuple[str, socket.socket, bool]] = []
        try:
            for server in configuration.servers:
                for listening in listen(server.address):
                    self._sockets.append((server.id, listening, server.tls is not None))
        except BaseException:
            self.close_sockets()
            raise
        ours, self._theirs = channel_pair()
        channel = Channel(ours, m.GATEWAY_TO_SUPERVISOR)
        self._attachment = Attachment(loop, turn, channel, self._readable, held=True)

    def places(self) -> Iterator[tuple[str, str]]:
        """Yield (http.service id, where it listens) for people."""
        for server, listening, tls in self._sockets:
            yield server, describe(listening, tls=tls)

    def start(self) -> None:
        """Execute it and hand it the sockets."""
        with self._theirs:
            self.child = Child(start_python("wsrelay.gateway.shell.main", self._theirs.fileno()))
        self._loop.add_reader(self.child.pidfd, self._died)
        for server, listening, _ in self._sockets:
            self._attachment.send(m.Listener(server), listening.fileno())
        self._attachment.send(self._configure(self.incarnation, pack(self._configuration)))
        self._attachment.release()

    def send(self, record: tuple[Any, ...], descriptor: int | None = None) -> None:
        """Queue a record for the end of the turn."""
        self._attachment.send(record, descriptor)

    def _readable(self) -> None:
        channel = self._attachment.channel
        for record in channel.receive():
            self._take(record)
        if channel.violation is not None or channel.ended:
            self._attachment.stop_reading()
            self.kill()
        if channel.violation is not None:
            self._listener.gateway_lost(f"the gateway wrote garbage: {channel.violation}")
        self._listener.end_turn()

    def _take(self, record: tuple[Any, ...]) -> None:
        if isinstance(record, m.GatewayReady):
            self.ready = True
            self._listener.gateway_ready()
        elif isinstance(record, m.GatewayFailed):
            self._listener.gateway_lost(f"the gateway cannot serve: {record.message}")
        elif isinstance(record, m.ShutdownComplete):
            self.shut_down = True
        else:
            self._listener.from_gateway(record)

    def kill(self) -> None:
        """SIGKILL."""
        if self.child is not None:
            self.child.kill()

    def _died(self) -> None:
        child = self.child
        if child is None or (status := child.status()) is None:
            return
        self._loop.remove_reader(child.pidfd)
        child.kill_group()
        self._readable()
        self._attachment.close()
        self.child, self.ready, self.shut_down = None, False, True
        child.reap()
        self._listener.gateway_lost(f"the gateway ended: {status}")
        self._listener.end_turn()

    def close_sockets(self) -> None:
        """Stop listening, and remove the socket files."""
        for _, listening, _ in self._sockets:
            if listening.family == socket.AF_UNIX:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(listening.getsockname())
            listening.close()
        self._sockets = []
