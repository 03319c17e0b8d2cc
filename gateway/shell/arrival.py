"""A connection of which nothing has come yet.

Owns its slot and its time until the first bytes are there. They say what it becomes: an `Upgrade`, if they are an ordinary handshake for
a relay, and otherwise an `HttpProtocol`, which costs several times as much and has the time that is left.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.utils import is_ssl

from ..core.answers import overloaded
from ..core.handshake_scanner import scan_handshake
from ..core.routing import RouteMatch
from .http_protocol import Address, HttpProtocol, ServiceConfig, answer_and_close, route_request
from .upgrade import Upgrade


class Arrival(asyncio.Protocol):
    """The protocol of a line until it has said something."""

    def __init__(
        self,
        config: ServiceConfig,
        connections: set[Any],
        make_http: Callable[[], HttpProtocol],
        line: socket.socket,
        client: Address | None,
    ) -> None:
        """`connections` are those of the server that are to be shut down with it. `client` is None if the line is none of TCP."""
        self.line = line
        self.client = client
        self.accepted: object | None = None
        """What has held the slot since before the TLS handshake."""
        self._peer = client[0] if client else ""
        self._relay = config.relay
        self._service = config.service
        self._connections = connections
        self._make_http = make_http
        self._http: HttpProtocol | None = None
        """Who has the line now, if it is not an upgrade."""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a slot, or answer 503 and close."""
        self._transport = transport
        self._connections.add(self)
        service = self._service
        if self.accepted is not None:
            service.hand_over(self.accepted, transport)
            self.accepted = None
        elif not service.acquire(transport, self._peer):
            answer_and_close(service, transport, self._peer, overloaded("Too many connections"))
            return
        self._timer = self._relay.loop.call_later(service.timeouts.header, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the slot back."""
        self._leave()
        self._service.release(self._transport)

    def shutdown(self) -> None:
        """Close, if nothing has been asked; otherwise after the current response."""
        if self._http is None:
            self._transport.close()
        else:
            self._http.shutdown()

    def data_received(self, data: bytes) -> None:
        """The first bytes: from now on the line is somebody else's."""
        if self._timer is None or self._transport.is_closing():
            return
        due = self._timer.when()
        self._leave()
        if not self._upgrade(data):
            self._http = http = self._make_http()
            http.take_over(self._transport, self.line, self.client, due)
            http.data_received(data)

    def _leave(self) -> None:
        self._connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _upgrade(self, data: bytes) -> bool:
        """Begin the upgrade that is asked for, if these are a whole handshake with nothing special about it. Returns False for anything
        else, which h11 has yet to see."""
        asked = scan_handshake(data)
        if asked is None:
            return False
        path, _, query = asked.target.partition(b"?")
        scheme = "https" if is_ssl(self._transport) else "http"
        routed = route_request(self._service, "GET", b"1.1", path, query, asked.headers, self._peer, scheme)
        if isinstance(routed, int) or not routed.upgrades or not isinstance(routed.match, RouteMatch):
            return False
        line = self.line if self.client else None
        upgrade = Upgrade(self._relay, self._service, self._transport, line, self._peer)
        upgrade.begin(b"GET", b"1.1", asked.headers, routed.head, routed.match, data[asked.size :])
        return True
