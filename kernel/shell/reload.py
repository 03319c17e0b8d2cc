"""A reload: another configuration and new code for a runtime that goes on.

Owns the order of the steps. First everything that can fail, which changes nothing: the check, the new listening sockets, a fresh fork
server beside each host. Then the gateway is asked; with its consent everything changes in one turn. Then services are restarted
(`rolling_restart`). What is different is decided in `core.reconfiguration`; what becomes of processes by the table.

Reloads are serialised. A stop ends one that is under way.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from ..core.effects import Effect
from ..core.reconfiguration import Plan, needs_restart, plan, refusals
from ..core.table import ProcessTable
from ..wire.configuration import Application
from ..wire.failpoints import failpoint
from .aside import aside
from .checking import Check
from .configuration_files import ConfigurationError
from .confinement import Confinement
from .errors import StartError
from .gateway import Gateway
from .host import Host
from .listeners import discard, listen_for
from .rolling_restart import NOT_BACK, RollingRestart

logger = logging.getLogger("wsrelay")

HOST_PATIENCE = 60.0
"""Seconds that the new fork servers have to import everything, and each source 10 more."""
GATEWAY_PATIENCE = 60.0
"""Seconds for a gateway that serves, and for its answer."""
ATTEMPTS = 3
"""Gateways that may die over the question before it is given up."""


def _discard_all(listeners: Iterable[socket.socket]) -> None:
    for each in listeners:
        discard(each)


class Refused(Exception):
    """The reload changes nothing; `problems` has a line for each reason."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reload ended."""

    good: bool
    lines: tuple[str, ...]


class Runtime(Protocol):
    """What a reload needs of the supervisor."""

    loop: asyncio.AbstractEventLoop
    table: ProcessTable
    gateway: Gateway
    hosts: dict[str, Host]
    application: Application
    confinement: Confinement

    @property
    def stopping(self) -> bool:
        """Whether the runtime stops."""

    def perform(self, effects: list[Effect]) -> None: ...

    def end_turn(self) -> None: ...

    async def wait_for(self, condition: Callable[[], bool], timeout: float) -> bool: ...

    def make_host(self, application: Application, id: str) -> Host:
        """Raises StartError."""

    def pinned_servers(self) -> frozenset[str]:
        """The servers whose listening sockets a socket unit has passed."""

    def sockets_exchanged(self, old: Iterable[str], new: Sequence[tuple[str, socket.socket]]) -> None:
        """Other sockets are listened on."""

    def reloading(self) -> None:
        """For the service manager."""

    def reloaded(self) -> None:
        """For the service manager."""


class Reloader:
    """All reloads of this runtime."""

    def __init__(self, runtime: Runtime, paths: Sequence[str]) -> None:
        """`paths` is what `wsrelay run` was given."""
        self._runtime = runtime
        self.paths = tuple(paths)
        self._services = RollingRestart(runtime)
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[Outcome] | None = None
        self._running: set[asyncio.Task[object]] = set()
        """Who is in a reload, or waits for one."""
        self._spare: list[Host] = []
        """Fork servers that do not serve yet, or not any more."""
        self._check: Check | None = None
        self._again = False
        self._stopped = False

    # --- asked to -----------------------------------------------------------------------------------------------------

    def signalled(self) -> None:
        """SIGHUP: reload now, or once more when the reload that runs is done."""
        if self._task is not None and not self._task.done():
            self._again = True
            return
        self._again = False
        self._task = self._runtime.loop.create_task(self.reload())
        self._task.add_done_callback(self._signal_done)

    def _signal_done(self, task: asyncio.Task[Outcome]) -> None:
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._runtime.loop.call_exception_handler({"message": "a reload failed", "exception": problem})
        elif self._again and not self._runtime.stopping:
            self.signalled()

    async def reload(self, *, restart: bool = False) -> Outcome:
        """Do it, after one that is under way. `restart`: services are restarted even if their code is the same."""
        return await self._in_turn(lambda: self._begin(restart))

    async def _begin(self, restart: bool) -> Outcome:
        if self._runtime.stopping:
            return Outcome(False, ("the runtime is stopping: it does not reload any more",))
        logger.info("reloading")
        self._runtime.reloading()
        try:
            return await self._reload(restart)
        except Refused as refused:
            for problem in refused.problems:
                logger.error("the reload changes nothing: %s", problem)
            return Outcome(False, refused.problems)
        finally:
            self._runtime.gateway.forget_change()
            self._runtime.reloaded()
            self._runtime.end_turn()

    async def restart_service(self, id: str) -> Outcome:
        """Restart one service because somebody asks for it, after a reload that is under way. Raises ProcessError."""
        return await self._in_turn(lambda: self._restart_service(id))

    async def _restart_service(self, id: str) -> Outcome:
        if id not in self._runtime.table.services():
            return Outcome(False, (f"there is no process.service {id}",))
        how = await self._services.restart(id)
        if not how:
            return Outcome(
                False, (f"{id} is {self._services.state(id).value}: it does not run, so it is not restarted",)
            )
        return Outcome(not how.startswith(NOT_BACK), (f"{id}: {how}",))

    def stop(self) -> None:
        """The runtime stops: no reload goes on, nor begins."""
        self._again, self._stopped = False, True
        for task in self._running:
            task.cancel()

    async def _in_turn(self, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """One at a time; `stop` ends it, and who has asked is told."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("not in a task")
        self._running.add(task)
        try:
            async with self._lock:
                return await work()
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            task.uncancel()
            return Outcome(False, ("the runtime stops: it does not finish this",))
        finally:
            self._running.discard(task)

    def kill(self) -> None:
        """SIGKILL to what only a reload has started."""
        for host in self._spare:
            host.stop()
        if self._check is not None and self._check.child is not None:
            self._check.child.kill()

    # --- views --------------------------------------------------------------------------------------------------------

    def spare_hosts(self) -> list[Host]:
        """Fork servers beside those that serve."""
        self._spare = [host for host in self._spare if host.child is not None]
        return self._spare

    def children(self) -> set[int]:
        """The os_pids of what only a reload has started."""
        found = {host.child.os_pid for host in self._spare if host.child is not None}
        if self._check is not None and self._check.child is not None:
            found.add(self._check.child.os_pid)
        return found

    # --- the steps ----------------------------------------------------------------------------------------------------

    async def _reload(self, restart: bool) -> Outcome:
        runtime, began = self._runtime, self._runtime.loop.time()
        old, new = runtime.application, await self._checked()
        planned = plan(old, new)
        refused = [*refusals(planned, runtime.pinned_servers()), *needs_restart(old, new)]
        if refused := [*refused, *runtime.confinement.gateway_lacks(new.gateway)]:
            raise Refused(*refused)
        sockets = await self._open(planned, old, new)
        taken = False
        fresh: dict[str, Host] = {}

        def commit() -> None:
            nonlocal taken
            taken = True
            self._commit(planned, new, sockets, fresh)

        try:
            await self._start_hosts(new, fresh)
            before = {id: host.code for id, host in runtime.hosts.items()}
            failpoint("reload.prepared")
            await self._ask_gateway(new, sockets, commit)
        finally:
            if not taken:
                for host in fresh.values():
                    host.stop()
                kept = {id(each) for server in planned.servers_moved for each in runtime.gateway.sockets(server)}
                for _, each in sockets:
                    if id(each) not in kept:
                        discard(each)
        changed_code = {id for id, code in before.items() if id in fresh and fresh[id].code != code}
        lines = [planned.summary()]
        if changed_code:
            lines.append(f"new code: {', '.join(sorted(changed_code))}")
        failpoint("reload.committed")
        good = await self._services.turn_over(planned, new, changed_code, restart=restart, lines=lines)
        for line in lines:
            logger.log(logging.INFO if good else logging.ERROR, "reload: %s", line)
        logger.info("reloaded in %.1f s", runtime.loop.time() - began)
        return Outcome(good, tuple(lines))

    async def _checked(self) -> Application:
        try:
            self._check = Check(self._runtime.loop, self.paths, self._runtime.end_turn)
            return await self._check.result()
        except ConfigurationError as error:
            raise Refused(*error.problems) from None
        except OSError as problem:
            raise Refused(f"the configuration cannot be checked: {problem}") from None

    async def _open(self, planned: Plan, old: Application, new: Application) -> list[tuple[str, socket.socket]]:
        """The listening sockets of what is new or listens otherwise. Raises Refused."""
        addresses = {server.id: server.address for server in old.gateway.servers}
        opened: list[tuple[str, socket.socket]] = []
        try:
            for server in new.gateway.servers:
                if (
                    server.id in planned.servers_moved and server.address == addresses[server.id]
                ):  # only TLS is different
                    opened += [(server.id, each) for each in self._runtime.gateway.sockets(server.id)]
                elif server.id in planned.servers_moved or server.id in planned.servers_added:
                    found = await aside(self._runtime.loop, partial(listen_for, server), _discard_all)
                    opened += [(server.id, each) for each in found]
        except BaseException as problem:
            _discard_all(each for id, each in opened if each not in self._runtime.gateway.sockets(id))
            if isinstance(problem, RuntimeError):
                raise Refused(f"what is new cannot be listened on: {problem}") from None
            if not isinstance(problem, StartError):
                raise
            raise Refused(f"{problem}; if the runtime has it under another id, this needs a restart") from None
        return opened

    async def _start_hosts(self, new: Application, fresh: dict[str, Host]) -> None:
        """A fork server for each host, beside the one that serves. Raises Refused."""
        try:
            for id in new.hosts:
                fresh[id] = self._runtime.make_host(new, id)
        except StartError as problem:
            raise Refused(*str(problem).splitlines()) from None
        self._spare += fresh.values()
        for host in fresh.values():
            host.start()
        self._runtime.end_turn()
        patience = HOST_PATIENCE + 10.0 * max((len(host.sources) for host in new.hosts.values()), default=0)

        def settled() -> bool:
            return all(host.ready for host in fresh.values()) or any(host.failed for host in fresh.values())

        in_time = await self._runtime.wait_for(settled, patience)
        if failed := [host.failed for host in fresh.values() if host.failed]:
            raise Refused(*failed)
        if not in_time:
            late = ", ".join(id for id, host in fresh.items() if not host.ready)
            raise Refused(f"no fork server of the new code is ready after {patience:.0f} s: {late}")

    async def _ask_gateway(
        self, new: Application, sockets: list[tuple[str, socket.socket]], commit: Callable[[], None]
    ) -> None:
        """Have the gateway serve it. One that dies over it is asked again when it has been restarted. Raises Refused."""
        gateway = self._runtime.gateway
        for _ in range(ATTEMPTS):
            if not await self._runtime.wait_for(lambda: gateway.ready, GATEWAY_PATIENCE):
                raise Refused("the gateway does not serve; it is being restarted")
            asked = gateway.reconfigure(new.gateway, sockets, commit)
            self._runtime.end_turn()
            failpoint("reload.asked")
            try:
                error = await asyncio.wait_for(asked, GATEWAY_PATIENCE)
            except TimeoutError:
                gateway.restart("the gateway did not answer a reload")
                continue
            if error is None:
                logger.warning("the gateway ended during the reload: it is asked again")
            elif error:
                raise Refused(error)
            else:
                return
        raise Refused(f"{ATTEMPTS} gateways have ended over the new configuration")

    def _commit(
        self, planned: Plan, new: Application, sockets: list[tuple[str, socket.socket]], fresh: dict[str, Host]
    ) -> None:
        """Everything at once: no request and no spawn sees half of it."""
        runtime = self._runtime
        runtime.application = new
        replaced = list(runtime.hosts.values())
        runtime.hosts.clear()
        runtime.hosts.update(fresh)
        self._spare = [host for host in self._spare if host not in fresh.values()] + replaced
        runtime.perform(runtime.table.reconfigure(new, runtime.loop.time()))
        for id in fresh:
            runtime.perform(runtime.table.renew_functions(id))
        for host in replaced:
            host.retire()
        runtime.sockets_exchanged([*planned.servers_removed, *planned.servers_moved], sockets)
