"""Another configuration for a gateway that serves (a reload).

Owns the two halves of it: everything that can fail is tried first and changes nothing; what follows is one step. Open connections
stay, and read the new limits and timeouts of their server as they go on. Which servers are new, moved or gone is seen from what is
served now, and from the listening sockets that were passed for them.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ...kernel.wire.configuration import GatewayConfiguration, Server
from ...kernel.wire.pid import Pid
from .descriptors import Descriptors
from .drain import drain
from .http_protocol import ServiceConfig
from .listening import ServiceServer
from .relay import Relay
from .service import Service

logger = logging.getLogger("wsrelay.gateway")


@dataclass(slots=True)
class Served:
    """What the gateway serves."""

    services: list[Service] = field(default_factory=list)
    leaving: list[Service] = field(default_factory=list)
    """Configured no more; they have connections that close."""
    servers: list[ServiceServer] = field(default_factory=list)
    """With those whose listening sockets are closed, as long as they have connections."""

    def open_connections(self) -> int:
        """How many clients there are, in their handshakes too."""
        return sum(service.slots.taken for service in (*self.public_services(), *self.leaving))

    def public_services(self) -> list[Service]:
        """What serves clients: no `http.admin`."""
        return [service for service in self.services if not service.admin]

    def public_servers(self) -> list[ServiceServer]:
        """The servers of clients, of services that are leaving too."""
        return [running for running in self.servers if not _config(running).service.admin]


def load_configuration(make: Callable[[Service], ServiceConfig], service: Service) -> ServiceConfig:
    """Make uvicorn's configuration of a service, with its certificate. Raises ValueError that says what is wrong with which file."""
    try:
        config = make(service)
        config.load()
    except ssl.SSLError as problem:  # which does not say the files
        files = f"tls: certificate {service.tls.certificate}, key {service.tls.key}: " if service.tls else ""
        raise ValueError(f"{service.id}: {files}{problem}") from problem
    except (OSError, ValueError) as problem:
        raise ValueError(f"{service.id}: {problem}") from problem
    return config


class Reconfiguration:
    """One reload. `prepare`, and if that raises nothing, `commit` and then `listen`."""

    def __init__(
        self,
        relay: Relay,
        served: Served,
        make: Callable[[Service], ServiceConfig],
        descriptors: Descriptors,
        on_release: Callable[[], None],
    ) -> None:
        self._relay = relay
        self._served = served
        self._make = make
        self._descriptors = descriptors
        self._on_release = on_release
        self._kept: list[tuple[Service, Server]] = []
        self._fresh: list[tuple[Service, list[socket.socket]]] = []
        self._gone: list[Service] = []
        self._closing: list[ServiceServer] = []

    def prepare(self, settings: GatewayConfiguration, listeners: Sequence[tuple[str, socket.socket]]) -> None:
        """Check everything. Raises ValueError with what is wrong; nothing has changed then."""
        present = {service.id: service for service in self._served.services}
        for server in settings.servers:
            try:
                made = Service(server)
            except ValueError as problem:
                raise ValueError(f"{server.id}: {problem}") from problem
            load_configuration(self._make, made)
            sockets = [listener for name, listener in listeners if name == server.id]
            kept = present.pop(server.id, None)
            if kept is None and not sockets:
                raise ValueError(f"{server.id}: no listening socket was passed")
            if kept is not None:
                self._kept.append((kept, server))
            if sockets:
                self._fresh.append((kept or made, sockets))
        self._gone = list(present.values())
        moved = {service.id for service, _ in self._fresh} | present.keys()
        self._closing = [server for server in self._served.servers if _config(server).service.id in moved]

    def commit(self) -> None:
        """Serve it: from here on requests find the new routes, and handshakes the new certificates."""
        served = self._served
        for service, server in self._kept:
            service.update(server)
        for running in served.servers:
            if running not in self._closing:
                _update(_config(running))
        served.services[:] = [service for service in served.services if service not in self._gone]
        served.services += [service for service, _ in self._fresh if service not in served.services]
        served.leaving[:] = [service for service in (*served.leaving, *self._gone) if service.slots.taken]
        served.servers[:] = [
            each for each in served.servers if each.started or each.is_opening or each.server_state.connections
        ]

    async def listen(self) -> None:
        """Close the listening sockets of what is gone or listens elsewhere, and open the new ones."""
        for running in self._closing:
            running.started = False
            running.stop_listening()
        for service in self._gone:
            self._send_away(service)
        for service, sockets in self._fresh:
            service.on_release, service.descriptors = self._on_release, self._descriptors
            self._served.servers.append(await start_server(load_configuration(self._make, service), sockets))

    def _send_away(self, service: Service) -> None:
        """Nobody serves its clients any more: they leave as if the runtime stopped (S49)."""
        service.removed = True
        for running in self._closing:
            if _config(running).service is service:
                running.abandon_handshakes()
                for protocol in list(running.server_state.connections):
                    protocol.shutdown()
        clients = [each for each in self._relay.connections.values() if Pid(each.session.pid).parts.host == service.id]
        drain(self._relay.loop, clients)


async def start_server(config: ServiceConfig, sockets: list[socket.socket]) -> ServiceServer:
    """Accept connections on these sockets."""
    running = ServiceServer(config)
    running.lifespan = config.lifespan_class(config)
    await running.on_tick(0)
    await running.startup(sockets)
    return running


def _config(running: ServiceServer) -> ServiceConfig:
    config = running.config
    if not isinstance(config, ServiceConfig):
        raise TypeError(f"{config!r} is not of our making")
    return config


def _update(config: ServiceConfig) -> None:
    """What uvicorn copies for each new connection. The TLS context stays; its next handshakes have what it has loaded last."""
    service = config.service
    config.timeout_keep_alive = service.timeouts.idle  # type: ignore[assignment]  # a fraction of a second is as good
    config.h11_max_incomplete_event_size = service.limits.header
    if service.tls is not None and config.ssl is not None:
        try:
            config.ssl.load_cert_chain(service.tls.certificate, service.tls.key)
        except OSError as problem:  # they were there a moment ago
            logger.error("%s: its certificate stays as it was: %s", service.id, problem)
