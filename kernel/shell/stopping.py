"""The stop of the runtime: in good order while there is time (S39), and then whatever is left is killed and reaped (S40).

Owns how far a stop is, and its time limits. What ends in which order is decided by the table.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from ..core.effects import Effect, ProcessEnded
from ..core.table import ProcessTable
from ..wire.configuration import Application
from .children import own_children
from .farewell import Farewell
from .gateway import Gateway
from .host import Host
from .reload import Reloader
from .sweeping import Sweeper
from .systemd.manager import Manager

logger = logging.getLogger("wsrelay")

CANCEL_GRACE = 0.5
"""Seconds that actors have to end after CANCEL when the runtime shuts down."""
STOP_MARGIN = 1.0
"""Seconds beyond the grace and the stop timeouts: the dead have to be waited for."""
SHUTDOWN_MARGIN = 1.0
"""Seconds that the gateway has beyond its close timeout."""
SAME_SIGNAL = 0.2
"""Seconds within which a second signal is the first one, told twice."""
KILL_TIMEOUT = 10.0
"""Seconds that a killed process has to be dead: freeing much memory takes a while."""


class Runtime(Protocol):
    """What a stop needs of the supervisor."""

    loop: asyncio.AbstractEventLoop
    application: Application
    table: ProcessTable
    gateway: Gateway
    hosts: dict[str, Host]
    reloader: Reloader
    manager: Manager
    sweeper: Sweeper

    def perform(self, effects: list[Effect]) -> None: ...

    def end_turn(self) -> None: ...

    async def wait_for(self, condition: Callable[[], bool], timeout: float) -> bool: ...

    def known_children(self) -> set[int]:
        """The os_pids of all children that we have started."""

    def sockets_are_kept(self, server: str) -> bool:
        """Whether the service manager holds the listening sockets of a server too."""


class Stopping:
    """The end of this boot."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.begun = False
        """Whether the runtime stops."""
        self._asked = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._farewell = Farewell()

    def ask(self) -> None:
        """Stop in good order; called again, at once. A signal to all processes of a service comes twice: to us, and handed on
        by the guardian; that is one call."""
        loop = self._runtime.loop
        now = loop.time()
        if now - self._asked < SAME_SIGNAL:
            return
        self._asked = now
        if self._task is None:
            logger.info("stopping")
            self.begun = True
            self._runtime.reloader.stop()
            self._farewell.begin(now)
            time_limit = self._close_time() + self._patience() + KILL_TIMEOUT
            self._runtime.manager.stopping("closing the connections", time_limit)
            self._task = loop.create_task(self._stop())
            self._task.add_done_callback(self._stopped)
        else:
            logger.warning("stopping at once")
            loop.stop()

    async def _stop(self) -> None:
        """Close the clients, stop the services in order and ask the other actors to end (S39). What is left is killed when the
        loop has stopped (`kill_everything`)."""
        runtime = self._runtime
        runtime.perform(runtime.table.end_restarts())
        runtime.gateway.shut_down_clients()
        runtime.end_turn()
        # Who comes now is refused, and tries elsewhere.
        runtime.gateway.close_sockets(runtime.sockets_are_kept, last=False)
        await runtime.wait_for(lambda: runtime.gateway.shut_down, self._close_time())
        patience = self._patience()
        runtime.manager.stopping("stopping the services", patience + KILL_TIMEOUT)
        runtime.perform(runtime.table.cancel_all(runtime.loop.time(), CANCEL_GRACE))
        runtime.end_turn()
        await runtime.wait_for(lambda: runtime.table.actors() == 0, patience)

    def _close_time(self) -> float:
        """Seconds that the gateway has to close all connections."""
        servers = self._runtime.application.gateway.servers
        return max((server.drain.within + server.timeouts.close for server in servers), default=0.0) + SHUTDOWN_MARGIN

    def _patience(self) -> float:
        """Seconds that the services and the other actors have to end."""
        return max(CANCEL_GRACE, self._runtime.table.stop_time()) + STOP_MARGIN

    def _stopped(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():  # by `kill_everything`, which needs the loop
            self._runtime.loop.stop()

    def process_ended(self, effect: ProcessEnded) -> None:
        """Somebody has ended, perhaps because of the stop."""
        if self.begun:
            self._farewell.ended(effect)

    def kill_everything(self) -> None:
        """SIGKILL all that is ours, and reap it: nothing outlives the supervisor. It takes a moment, whatever comes."""
        runtime = self._runtime
        self.begun = True
        if self._task is not None:
            self._task.cancel()
        runtime.perform(runtime.table.kill_all())
        runtime.reloader.stop()
        runtime.reloader.kill()
        for host in runtime.hosts.values():
            host.stop()
        runtime.gateway.stop()
        try:
            runtime.loop.run_until_complete(self._all_dead())
        except RuntimeError:  # the loop is broken: the children die with us
            logger.exception("could not wait for the children to end")

    async def _all_dead(self) -> None:
        runtime = self._runtime
        deadline = runtime.loop.time() + KILL_TIMEOUT
        while runtime.loop.time() < deadline:
            await runtime.wait_for(lambda: not runtime.known_children(), KILL_TIMEOUT)
            runtime.sweeper.sweep()
            if not runtime.sweeper.dying:
                return
            await runtime.wait_for(lambda: not runtime.sweeper.dying, KILL_TIMEOUT)
        logger.error(
            "some processes did not die within %.0f s: %s",
            KILL_TIMEOUT,
            sorted(child.os_pid for child in own_children()),
        )

    def log_summary(self) -> None:
        """Say what became of everybody, if somebody has asked for the stop."""
        if self._task is not None:
            logger.info("%s", self._farewell.summary(self._runtime.loop.time()))
