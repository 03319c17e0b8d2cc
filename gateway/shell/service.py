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


class Service:
    """A server's settings and counts."""

    def __init__(self, server: Server) -> None:
        """Raises ValueError for origins or proxies that cannot be read."""
        self.id = server.id
        self.timeouts = server.timeouts
        self.ping = server.ping
        self.limits = server.limits
        self.drain = server.drain
        self.message_limit = min(server.limits.message, MAX_FRAME)
        self.body_limit = min(server.limits.body, MAX_FRAME)
        self.tls = server.tls
        self.proxies = TrustedProxies(server.proxy.trusted)
        self.router = Router(server.routes, server.statics)
        self._origins = {route.endpoint: AllowedOrigins(route.allowed_origins) for route in server.routes}
        self.slots = Slots(server.limits.connections, server.limits.per_address)
        self.access_log = server.access_log
        self.admin = server.admin
        self.counts = ServerCounts()
        self.waiting = 0
        """Requests that wait for a function worker."""
        self.transports: set[asyncio.BaseTransport] = set()
        """Of every connection that holds a slot."""
        self.on_release: Callable[[], None] = lambda: None

    def origins(self, route: Route) -> AllowedOrigins:
        """The origins that a route allows."""
        return self._origins[route.endpoint]

    def acquire(self, transport: asyncio.BaseTransport, address: str) -> bool:
        """Take a slot for a new connection. A trusted proxy's connections are not counted by address."""
        if not self.slots.acquire("" if self.proxies.trusts(address) else address):
            return False
        self.transports.add(transport)
        return True

    def release(self, transport: asyncio.BaseTransport, address: str) -> None:
        """Give the slot of a connection back; a second time does nothing."""
        if transport in self.transports:
            self.transports.discard(transport)
            self.slots.release("" if self.proxies.trusts(address) else address)
            self.on_release()
