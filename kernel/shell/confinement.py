"""What confines the workers of all hosts, as far as the supervisor does it: their cgroups, their temporary folders, the watch.

Performs what `core/enforcement` decides. A worker's folder is made before its fork, its group entered at its birth, before it has
read what to run; both go with it. What a worker is confined by is fixed when it is started, and kept here by its number: a reload
is for those that come after it, and for the code that a worker is upgraded to after it. Cgroups and temporary folders are prepared once, at the start; a reload that needs what was not
prepared is refused.
"""

from __future__ import annotations

import logging
import os

from ..core.enforcement import Enforcement, Lack, Machine, choose, describe, gateway_lacks
from ..wire.configuration import Application, GatewayConfiguration, HostConfiguration
from .cgroups import Cgroups, find_delegated, own_cgroup
from .errors import StartError
from .machine import look_at_machine
from .temporary import TemporaryFolders
from .usage import Watched, watched

logger = logging.getLogger("wsrelay")

_NOT_PREPARED = "needs a restart: no cgroups were prepared when the runtime was started"
_LIMITS = frozenset({"memory.max", "memory.swap.max", "pids.max", "cpu.max"})
"""Files of a cgroup that may say `_NO_LIMIT`."""
_NO_LIMIT = "max"


class Confinement:
    """One boot's."""

    def __init__(self, application: Application, temporary: str) -> None:
        """`temporary` is of `make_base`. Raises StartError, with a line for each field that cannot be had."""
        self.cgroups, self._controllers = _prepare(list(application.hosts.values()), application.gateway)
        self.folders = TemporaryFolders(temporary)
        self.watched: dict[int, Watched] = {}
        """The workers that are to be looked at, by number, and for what."""
        self._settings: dict[int, tuple[tuple[str, str], ...]] = {}
        """The workers that get a cgroup, and what is written there."""

    def enforce(self, host: HostConfiguration) -> Enforcement:
        """Return how the limits of a host are kept, with what was prepared at the start. Raises StartError, with a line for each
        field that cannot be had."""
        lacks: list[Lack] = []
        if host.private_tmp and not self.folders.base:
            lacks.append(Lack("private_tmp", "needs a restart: no host had it when the runtime was started"))
        chosen = choose(host, self._look([host]))
        if isinstance(chosen, Enforcement) and not lacks:
            return chosen
        raise StartError("\n".join(describe(host, [*lacks, *(() if isinstance(chosen, Enforcement) else chosen)])))

    def gateway_lacks(self, gateway: GatewayConfiguration) -> list[str]:
        """Return a line for each field of the gateway's that cannot be had."""
        return gateway_lacks(gateway, self._look([]))

    def _look(self, hosts: list[HostConfiguration]) -> Machine:
        return look_at_machine(hosts, self._controllers, _NOT_PREPARED)

    def expect(self, number: int, host: HostConfiguration, enforcement: Enforcement) -> None:
        """A worker is about to be forked. Raises OSError."""
        self.renew(number, host, enforcement)
        if host.private_tmp:
            self.folders.make(number, enforcement.identity)

    def renew(self, number: int, host: HostConfiguration, enforcement: Enforcement) -> None:
        """A worker that is upgraded is about to be forked anew: its host may have other limits since a reload."""
        if any(looked_at := watched(host, enforcement)):
            self.watched[number] = looked_at
        else:
            self.watched.pop(number, None)
        now = dict(enforcement.cgroup)
        lifted = [
            (name, _NO_LIMIT) for name, _ in self._settings.get(number, ()) if name in _LIMITS and name not in now
        ]
        if lifted or now:
            self._settings[number] = (*enforcement.cgroup, *lifted)

    def take_in(self, number: int, os_pid: int) -> None:
        """A worker is born, and runs nothing yet. Raises OSError."""
        settings = self._settings.get(number)
        if settings and self.cgroups is not None:
            self.cgroups.put(number, os_pid, settings)

    def kill(self, number: int) -> None:
        """SIGKILL to a worker with all in its group, if it has one."""
        if self.cgroups is not None:
            self.cgroups.kill(number)

    def out_of_memory(self, number: int) -> bool:
        """Whether the kernel has killed in a worker's group for its memory."""
        return self.cgroups is not None and self.cgroups.was_out_of_memory(number)

    def refused_forks(self, number: int) -> bool:
        """Whether a worker's group was full, and a fork was refused for it."""
        return self.cgroups is not None and self.cgroups.refused_forks(number)

    def let_go(self, number: int) -> None:
        """A worker is dead, or will never be born."""
        self.watched.pop(number, None)
        self._settings.pop(number, None)
        if self.cgroups is not None:
            self.cgroups.retire(number)
        self.folders.remove(number)

    def tidy(self) -> bool:
        """Remove the cgroups of dead workers that are empty by now. Returns whether one is left."""
        return self.cgroups is not None and self.cgroups.tidy()


def _prepare(hosts: list[HostConfiguration], gateway: GatewayConfiguration) -> tuple[Cgroups | None, frozenset[str]]:
    """Return the cgroups, and which of their controllers workers can have."""
    folder, controllers, why = None, frozenset[str](), "no host asks for one"
    if any(_could_use_cgroup(host) for host in hosts):
        folder, controllers, why = find_delegated(own_cgroup(), {os.getpid(), os.getppid()})
    machine = look_at_machine(hosts, controllers, why)
    enforcements: list[Enforcement] = []
    lacking = gateway_lacks(gateway, machine)
    for host in hosts:
        chosen = choose(host, machine)
        if isinstance(chosen, Enforcement):
            enforcements.append(chosen)
        else:
            lacking += describe(host, chosen)
    if lacking:
        raise StartError("\n".join(lacking))
    if folder is None or not any(each.cgroup for each in enforcements):
        if any(each.watched - {"disk"} for each in enforcements):
            logger.info(
                "limits of workers are kept without a cgroup: %s", why or "its controllers are not those asked for"
            )
        return None, frozenset()
    cgroups = Cgroups(folder, controllers)
    cgroups.prepare()
    logger.info("limits of workers are kept by cgroups in %s: %s", folder, ", ".join(sorted(controllers)))
    return cgroups, controllers


def _could_use_cgroup(host: HostConfiguration) -> bool:
    return any(limit is not None for limit in (host.limits.memory, host.limits.processes, host.limits.cpus))
