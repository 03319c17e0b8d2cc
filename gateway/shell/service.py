"""One `http.service`: what the configuration says, made ready for use.

Owns the counts of its connections and of its requests that wait for a function worker. Performs nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from ...kernel.wire.configuration import Route, Server
from ...kernel.wire.messages import MAX_FRAME
from ..core.counts import ServerCounts
from ..core.forwarded import TrustedProxies
from ..core.origin import AllowedOrigins
from ..core.routing import Router
from ..core.slots import Slots
from .descriptors import Descriptors
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
        self._holders: dict[object, str] = {}
        """Who holds a slot, with the address that it counts for: the transport of each connection; the socket, until TLS has one."""
        self.descriptors = Descriptors()
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
        self.hosts = frozenset(server.hosts)
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

    def acquire(self, holder: object, address: str) -> bool:
        """Take a slot for a new connection. A trusted proxy's connections are not counted by address."""
        if not self.admin and not self.descriptors.has_room():
            self.descriptors.report_refusal()
            return False
        counted = "" if self.proxies.trusts(address) else address
        if not self.slots.acquire(counted):
            return False
        self._holders[holder] = counted
        return True

    def hand_over(self, holder: object, heir: object) -> None:
        """Another object stands for the connection from now on."""
        self._holders[heir] = self._holders.pop(holder)

    def release(self, holder: object) -> bool:
        """Give the slot of a connection back; a second time does nothing. Returns whether it had one."""
        if holder not in self._holders:
            return False
        self.slots.release(self._holders.pop(holder))
        self.on_release()
        return True
