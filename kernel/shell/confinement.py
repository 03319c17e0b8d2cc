"""What confines the workers of all hosts, as far as the supervisor does it: their cgroups, their temporary folders, the watch.

Performs what `core/enforcement` decides. A worker's folder is made before its fork, its group entered at its birth, before it has
read what to run; both go with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..core.enforcement import Enforcement, choose, describe
from ..wire.configuration import HostConfiguration
from .cgroups import Cgroups, find_delegated, own_cgroup
from .errors import StartError
from .machine import look_at_machine
from .temporary import TemporaryFolders


class Confinement:
    """One boot's."""

    def __init__(self, hosts: Iterable[HostConfiguration], temporary: str) -> None:
        """`temporary` is of `make_base`. Raises StartError, with a line for each field that cannot be had."""
        self._hosts = {host.id: host for host in hosts}
        self.enforcements, self.cgroups = _prepare(list(self._hosts.values()))
        self.folders = TemporaryFolders(temporary)

    @property
    def watched(self) -> dict[str, tuple[HostConfiguration, Enforcement]]:
        """Each host, by its id, with how its limits are kept."""
        return {id: (host, self.enforcements[id]) for id, host in self._hosts.items()}

    def expect(self, host: str, number: int) -> None:
        """A worker is about to be forked. Raises OSError."""
        if self._hosts[host].private_tmp:
            self.folders.make(number, self.enforcements[host].identity)

    def take_in(self, host: str, number: int, os_pid: int) -> None:
        """A worker is born, and runs nothing yet. Raises OSError."""
        settings = self.enforcements[host].cgroup
        if settings and self.cgroups is not None:
            self.cgroups.put(number, os_pid, settings)

    def kill(self, number: int) -> None:
        """SIGKILL to a worker with all in its group, if it has one."""
        if self.cgroups is not None:
            self.cgroups.kill(number)

    def out_of_memory(self, number: int) -> bool:
        """Whether the kernel has killed in a worker's group for its memory."""
        return self.cgroups is not None and self.cgroups.was_out_of_memory(number)

    def let_go(self, number: int, *, upgraded: bool = False) -> None:
        """A worker is dead, or will never be born. One that is `upgraded` keeps its folder, which is the new code's (S35)."""
        if self.cgroups is not None:
            self.cgroups.retire(number)
        if not upgraded:
            self.folders.remove(number)


def _prepare(hosts: list[HostConfiguration]) -> tuple[dict[str, Enforcement], Cgroups | None]:
    folder, controllers, why = None, frozenset[str](), "no host asks for one"
    if any(_could_use_cgroup(host) for host in hosts):
        folder, controllers, why = find_delegated(own_cgroup(), {os.getpid(), os.getppid()})
    machine = look_at_machine(hosts, controllers, why)
    enforcements: dict[str, Enforcement] = {}
    lacking: list[str] = []
    for host in hosts:
        chosen = choose(host, machine)
        if isinstance(chosen, Enforcement):
            enforcements[host.id] = chosen
        else:
            lacking += describe(host, chosen)
    if lacking:
        raise StartError("\n".join(lacking))
    if folder is None or not any(each.cgroup for each in enforcements.values()):
        return enforcements, None
    cgroups = Cgroups(folder, controllers)
    cgroups.prepare()
    return enforcements, cgroups


def _could_use_cgroup(host: HostConfiguration) -> bool:
    return any(limit is not None for limit in (host.limits.memory, host.limits.processes, host.limits.cpus))
