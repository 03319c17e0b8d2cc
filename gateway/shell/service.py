"""One `http.service`: what the configuration says, made ready for use.

Owns the counts of its connections and of its requests that wait for a function worker. Performs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ...kernel.wire.configuration import Route, Server
from ...kernel.wire.messages import MAX_FRAME
from ..core.counts import ServerCounts
from ..core.forwarded import TrustedProxies
from ..core.origin import AllowedOrigins
from ..core.routing import Router
from ..core.slots import Slots
from .tracing import tracing_of


class Service:
    """A server's settings and counts."""

    def __init__(self, server: Server) -> None:
        """Raises ValueError for origins or proxies that cannot be read, and for tracing that cannot be had."""
        self.id = server.id
        self._adopt(server)
        self.slots = Slots(server.limits.connections, server.limits.per_address)
        self.counts = ServerCounts()
        self.waiting = 0
        """Requests that wait for a function worker."""
        self.removed = False
        """Whether a reload has removed it: who is in its handshake is refused."""
        self.transports: dict[asyncio.BaseTransport, str] = {}
        """Of every connection that holds a slot, with the address that it counts for."""
        self.on_release: Callable[[], None] = lambda: None

    def update(self, server: Server) -> None:
        """Be what the configuration says now. Counts stay, and connections read it from here as they go on. Raises ValueError
        like the constructor, and has changed nothing then."""
        self._adopt(server)
        self.slots.resize(server.limits.connections, server.limits.per_address)

    def _adopt(self, server: Server) -> None:
        proxies = TrustedProxies(server.proxy.trusted)
        origins = {route.endpoint: AllowedOrigins(route.allowed_origins) for route in server.routes}
        router = Router(server.routes, server.statics)
        self.tracing = tracing_of(server)
        self.proxies, self._origins, self.router = proxies, origins, router
        self.timeouts = server.timeouts
        self.ping = server.ping
        self.limits = server.limits
        self.drain = server.drain
        self.message_limit = min(server.limits.message, MAX_FRAME)
        self.body_limit = min(server.limits.body, MAX_FRAME)
        self.tls = server.tls
        self.access_log = server.access_log
        self.admin = server.admin

    def origins(self, route: Route) -> AllowedOrigins:
        """The origins that a route allows."""
        return self._origins[route.endpoint]

    def acquire(self, transport: asyncio.BaseTransport, address: str) -> bool:
        """Take a slot for a new connection. A trusted proxy's connections are not counted by address."""
        counted = "" if self.proxies.trusts(address) else address
        if not self.slots.acquire(counted):
            return False
        self.transports[transport] = counted
        return True

    def release(self, transport: asyncio.BaseTransport, address: str) -> None:
        """Give the slot of a connection back; a second time does nothing."""
        if transport in self.transports:
            self.slots.release(self.transports.pop(transport))
            self.on_release()
