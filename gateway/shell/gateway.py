"""The gateway: what the supervisor says, from the first listener to the shutdown.

Owns the uvicorn servers, one for each `http.service`, without uvicorn's handling of signals. Knows nothing of how requests
are answered.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from ...kernel.wire import configuration, log_writer
from ...kernel.wire.messages import (
    Configure,
    DeathNoticed,
    EndConnection,
    GatewayFailed,
    GatewayReady,
    InvocationFinished,
    Listener,
    OpenWorker,
    Ping,
    Pong,
    Reconfigure,
    Reconfigured,
    ReportLost,
    ServiceGone,
    ServiceReturned,
    Shutdown,
    ShutdownComplete,
    WorkerEnded,
)
from .admin import AdminApplication, Watcher
from .affinity import Affinity
from .application import Application
from .data_channels import Workers
from .descriptors import Descriptors
from .http_protocol import HttpProtocol, ServiceConfig
from .kernel_link import KernelLink
from .listening import open_first_stream
from .reconfiguration import Reconfiguration, Served, load_configuration, start_server
from .relay import Relay
from .service import Service
from .tracing import flush
from .turn import Turn
from .upgrade import Upgrade

logger = logging.getLogger("wsrelay.gateway")

_SHUTDOWN_MARGIN: Final = 0.5
"""Seconds that a shutdown may take beyond the longest `timeouts.close`."""


class Gateway:
    """This process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        control: socket.socket,
        on_end: Callable[[str], None],
        affinity: Affinity,
    ) -> None:
        """`on_end` is called when the supervisor is gone."""
        self._affinity = affinity
        turn = Turn(loop)
        self._loop = loop
        self._on_end = on_end
        self._kernel = KernelLink(loop, turn, control, self._handle, on_end)
        self._workers = Workers(loop, turn, self._kernel)
        self._relay = Relay(loop, turn, self._kernel, self._workers)
        self._listeners: list[tuple[str, socket.socket]] = []
        self._listener_lost = ""
        """Why one that was sent is not among them; empty if all are."""
        self._served = Served()
        self._descriptors = Descriptors(self._served.open_connections, lambda: len(self._workers.links()))
        self._descriptors.refill()
        self._watcher = Watcher(self._relay, self._served.services)
        self._tasks: set[asyncio.Task[None]] = set()
        self._all_closed = asyncio.Event()

    def _handle(self, record: tuple[Any, ...]) -> None:
        """A record of the supervisor, in order."""
        if isinstance(record, WorkerEnded):
            self._relay.handle_worker_ended(record)
        elif isinstance(record, InvocationFinished):
            self._relay.handle_invocation_finished(record)
        elif isinstance(record, OpenWorker):
            self._open_worker(record)
        elif isinstance(record, (ServiceReturned, ServiceGone)):
            self._relay.handle_service(record)
        elif isinstance(record, EndConnection):
            self._relay.handle_end_connection(record)
        elif isinstance(record, Listener):
            self._take_listener(record)
        elif isinstance(record, Configure):
            self._start_task(self._serve(record))
        elif isinstance(record, Reconfigure):
            listeners, self._listeners = self._listeners, []  # those sent so far: the task begins later
            lost, self._listener_lost = self._listener_lost, ""
            self._start_task(self._reconfigure(record, listeners, lost))
        elif isinstance(record, Shutdown):
            self._start_task(self._shut_down())
        elif isinstance(record, Ping):
            self._kernel.send(Pong(record.number))
        elif isinstance(record, DeathNoticed):
            self._relay.handle_death_noticed(record)

    def _open_worker(self, record: OpenWorker) -> None:
        try:
            descriptor = self._kernel.take_descriptor()
        except OSError as problem:  # it can never be reached: it is fenced, and everybody else served on (S43)
            logger.error("worker %d: %s", record.worker, problem)
            self._kernel.send(ReportLost(record.worker, f"its data channel is lost: {problem}"))
        else:
            self._workers.open(record.worker, record.pid, descriptor)

    def _take_listener(self, record: Listener) -> None:
        try:
            descriptor = self._kernel.take_descriptor()
        except OSError as problem:
            self._listener_lost = f"{record.server}: {problem}"
        else:
            self._listeners.append((record.server, socket.socket(fileno=descriptor)))

    def _start_task(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- start --------------------------------------------------------------------------------------------------------

    async def _serve(self, record: Configure) -> None:
        self._relay.identify(record.node, record.epoch, record.gateway)
        try:
            if self._listener_lost:
                raise ValueError(self._listener_lost)
            settings = configuration.unpack(configuration.GatewayConfiguration, record.configuration)
            for server in settings.servers:
                await self._start_service(server)
            for name, listener in self._listeners:
                if not any(service.id == name for service in self._served.services):
                    listener.close()
            self._listeners.clear()
        except (OSError, ValueError) as problem:  # what is configured; the supervisor says it to the operator
            self._kernel.send(GatewayFailed(str(problem)))
            return
        except Exception as problem:
            logger.exception("the configuration cannot be served")
            self._kernel.send(GatewayFailed(f"{type(problem).__name__}: {problem}"))
            return
        self._limit_workers()
        self._check_descriptors()
        await open_first_stream()
        self._start_task(self._tick())
        self._kernel.send(GatewayReady())

    async def _start_service(self, server: configuration.Server) -> None:
        try:
            service = Service(server)
        except ValueError as problem:
            raise ValueError(f"{server.id}: {problem}") from problem
        config = load_configuration(self._configure, service)
        sockets = [listener for name, listener in self._listeners if name == server.id]
        if not sockets:
            raise ValueError(f"{server.id}: no listening socket was passed")
        service.on_release, service.descriptors = self._released, self._descriptors
        self._served.services.append(service)
        self._served.servers.append(await start_server(config, sockets))

    async def _reconfigure(self, record: Reconfigure, listeners: list[tuple[str, socket.socket]], lost: str) -> None:
        """Serve another configuration, with these listening sockets, or say why that cannot be: because one was `lost`, or else."""
        if not record.configuration:
            for _, listener in listeners:
                listener.close()
            return
        change = Reconfiguration(self._relay, self._served, self._configure, self._descriptors, self._released)
        try:
            if lost:
                raise ValueError(lost)
            settings = configuration.unpack(configuration.GatewayConfiguration, record.configuration)
            change.prepare(settings, listeners)
        except Exception as problem:
            for _, listener in listeners:
                listener.close()
            if not isinstance(problem, ValueError):
                logger.exception("the new configuration cannot be served")
            self._kernel.send(Reconfigured(record.number, str(problem) or type(problem).__name__))
            return
        change.commit()
        self._affinity.become(settings.cpu_affinity)
        self._limit_workers()
        self._check_descriptors()
        self._kernel.send(Reconfigured(record.number, ""))  # before any request that needs the new configuration
        try:
            await change.listen()
        except Exception:
            logger.exception("the new listening sockets cannot be served")
            self._on_end("half a configuration")  # the next gateway serves all of it

    def _limit_workers(self) -> None:
        inbound = (service.limits.inbound for service in self._served.public_services())
        self._workers.limit = min(inbound, default=1 << 20)

    def _check_descriptors(self) -> None:
        self._descriptors.check(sum(service.limits.connections for service in self._served.public_services()))

    def _configure(self, service: Service) -> ServiceConfig:
        tls = service.tls
        for path in (tls.certificate, tls.key) if tls else ():
            with open(path, "rb"):  # the error of the TLS library does not say which file it was
                pass
        config = ServiceConfig(
            AdminApplication(self._relay, self._watcher) if service.admin else Application(self._relay, service),
            http=HttpProtocol,
            ws=Upgrade,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=service.timeouts.idle,  # type: ignore[arg-type]  # a fraction of a second is as good
            h11_max_incomplete_event_size=service.limits.header,
            ssl_certfile=tls.certificate if tls else None,
            ssl_keyfile=tls.key if tls else None,
        )
        config.relay = self._relay
        config.service = service
        return config

    async def _tick(self) -> None:
        """Keep the Date header of every server and the spare descriptors, and measure how late the loop is."""
        while True:
            self._descriptors.refill()
            for server in list(self._served.servers):
                await server.on_tick(0)
            before = time.monotonic()
            await asyncio.sleep(1)
            self._watcher.tick(time.monotonic() - before - 1)

    # --- end ----------------------------------------------------------------------------------------------------------

    def _released(self) -> None:
        if self._relay.shutting_down and not self._served.open_connections():
            self._all_closed.set()

    async def _shut_down(self) -> None:
        """Stop listening, close all in batches, say so when all are closed or time is up. An `http.admin` goes on until the
        end: it says that the others do not."""
        servers, services = self._served.public_servers(), self._served.public_services()
        for server in servers:
            server.stop_listening()
            server.abandon_handshakes()
        self._relay.shut_down()
        for server in servers:
            for protocol in list(server.server_state.connections):
                protocol.shutdown()
        self._released()
        longest = max((service.drain.within + service.timeouts.close for service in services), default=0.0)
        deadline = self._loop.time() + longest + _SHUTDOWN_MARGIN
        try:
            await asyncio.wait_for(self._all_closed.wait(), longest + _SHUTDOWN_MARGIN)
        except TimeoutError:
            left = self._served.open_connections()
            logger.warning("%d connections were still open at the end of the shutdown", left)
        await flush(deadline - self._loop.time())
        await asyncio.to_thread(log_writer.flush)  # who reads ShutdownComplete kills us
        self._kernel.send(ShutdownComplete())


def leave(message: str) -> None:
    """End this process at once: nobody waits for it any more."""
    logger.error("%s", message)
    log_writer.flush()
    os._exit(1)
