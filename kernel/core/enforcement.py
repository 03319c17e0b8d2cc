"""By which means each limit of a host is kept on this machine, and what of it cannot be had.

Pure: what the machine offers is an argument. Owns the decision between a cgroup and what works everywhere, the content of a
worker's cgroup, and the messages about what is missing: what is asked for and cannot be had is an error at the start. Knows
nothing of how any of it is done.

A cgroup is made for a worker and not for a host, because the limits are a worker's: one that is over its memory must not have
another one killed. Entering it costs each worker of such a host 2 ms; a host without limits pays nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..wire.configuration import CPU_MARGIN, Environment, GatewayConfiguration, HostConfiguration, Identity, Server
from ..wire.quantities import processors_text

KEPT = ("PATH", "TZ", "LANG", "LANGUAGE")
"""Variables that workers get though they inherit none; besides `LC_*`, and the runtime's own (`WSRELAY_*`)."""
CPU_PERIOD = 100_000
"""Microseconds of cpu.max."""
SANDBOX_ABI = 3
"""Of Landlock, Linux 6.2: before that, files that may only be read can be truncated."""
SIGNALS_ABI = 6
"""Of Landlock, Linux 6.12."""


class User(NamedTuple):
    """One user of this machine."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


@dataclass(frozen=True, slots=True)
class Machine:
    """What the machine offers to this process."""

    uid: int
    gid: int
    capabilities: frozenset[str] = frozenset()
    """Effective ones, of those that matter here: `CAP_SETUID`, …"""
    controllers: frozenset[str] = frozenset()
    """Of cgroup v2, delegated to this process: `memory`, `pids`, `cpu`."""
    no_controllers: str = ""
    """Why there are none."""
    landlock: int = 0
    """The ABI; 0 for none."""
    oom_score: int = 0
    """This process's own oom_score_adj."""
    processors: frozenset[int] = frozenset()
    """Those that the cpuset of this process allows, wherever it runs itself."""
    ceilings: Mapping[str, int] = field(default_factory=dict)
    """Hard limits of this process, by the name of the field under `limits`; none where there is no limit."""
    users: Mapping[str, User] = field(default_factory=dict)
    """Those that are asked for and exist."""
    groups: Mapping[str, int] = field(default_factory=dict)
    """Likewise."""
    missing: frozenset[str] = frozenset()
    """Paths of sandboxes that do not exist."""


@dataclass(frozen=True, slots=True)
class Enforcement:
    """How a host's limits are kept."""

    cgroup: tuple[tuple[str, str], ...] = ()
    """Files of a worker's cgroup and what to write there, in order; empty for no cgroup."""
    watched: frozenset[str] = frozenset()
    """What has to be looked at again and again: `memory`, `processes`, `disk`."""
    counts_forks: bool = False
    """Whether a refused fork in a worker's cgroup means that it is over `limits.processes`."""
    identity: Identity | None = None


class Lack(NamedTuple):
    """A field that cannot be had."""

    field: str
    message: str


def choose(host: HostConfiguration, machine: Machine) -> Enforcement | tuple[Lack, ...]:
    """Return how the limits of a host are kept, or all that cannot be had."""
    lacks = tuple(_lacks(host, machine))
    if lacks:
        return lacks
    limits = host.limits
    cgroup: list[tuple[str, str]] = []
    watched = {"disk"} if limits.disk is not None else set()
    if limits.memory is not None:
        if "memory" in machine.controllers:
            cgroup += [("memory.max", f"{limits.memory}"), ("memory.swap.max", "0"), ("memory.oom.group", "1")]
        else:
            watched.add("memory")
    if limits.processes is not None:
        if "pids" in machine.controllers:
            cgroup.append(("pids.max", f"{limits.processes}"))
        else:
            watched.add("processes")
    if limits.cpus is not None:
        cgroup.append(("cpu.max", f"{math.ceil(limits.cpus * CPU_PERIOD)} {CPU_PERIOD}"))
    return Enforcement(
        cgroup=tuple(cgroup),
        watched=frozenset(watched),
        counts_forks=limits.processes is not None and "processes" not in watched,
        identity=_identity(host, machine),
    )


def gateway_lacks(gateway: GatewayConfiguration, machine: Machine) -> list[str]:
    """Return a line for each thing that the gateway cannot have, as `describe` does."""
    return [
        line
        for server in gateway.servers
        for line in describe(server, _lacking_processors(server.cpu_affinity, machine))
    ]


def describe(subject: HostConfiguration | Server, lacks: Iterable[Lack]) -> list[str]:
    """Return a line for each, which begins with the place of the field as the check's lines do."""
    return [f"{subject.places.get(lack.field, subject.id)}: {lack.field}: {lack.message}" for lack in lacks]


def environment(inherited: Mapping[str, str], wanted: Environment, identity: Identity | None = None) -> dict[str, str]:
    """Return the variables of a host's processes."""
    made = {
        name: value
        for name, value in inherited.items()
        if wanted.inherit or name in KEPT or name.startswith(("LC_", "WSRELAY_"))
    }
    if identity is not None and identity.name:
        made.update(HOME=identity.home, USER=identity.name, LOGNAME=identity.name)
    for name in wanted.unset:
        made.pop(name, None)
    return {**made, **dict(wanted.set)}


def _lacks(host: HostConfiguration, machine: Machine) -> Iterator[Lack]:
    yield from _lacking_limits(host, machine)
    yield from _lacking_identity(host, machine)
    yield from _lacking_sandbox(host, machine)
    yield from _lacking_processors(host.cpu_affinity, machine)
    privileged = "CAP_SYS_RESOURCE" in machine.capabilities
    if host.oom_score is not None and host.oom_score < machine.oom_score and not privileged:
        message = f"{host.oom_score} is lower than the runtime's own {machine.oom_score}: that needs CAP_SYS_RESOURCE"
        yield Lack("oom_score", message)


def _lacking_limits(host: HostConfiguration, machine: Machine) -> Iterator[Lack]:
    limits = host.limits
    if limits.cpus is not None and "cpu" not in machine.controllers:
        why = machine.no_controllers or "the cpu controller is not delegated"
        yield Lack("limits.cpus", f"needs the cpu controller of a delegated cgroup v2 (systemd: Delegate=cpu): {why}")
    cpu = None if limits.cpu is None else math.ceil(limits.cpu) + CPU_MARGIN
    for name, wanted in (("open_files", limits.open_files), ("cpu", cpu), ("core", limits.core)):
        ceiling = machine.ceilings.get(name)
        if wanted is not None and ceiling is not None and wanted > ceiling:
            yield Lack(f"limits.{name}", f"{wanted} is over the hard limit of the runtime itself, {ceiling}")


def _lacking_identity(host: HostConfiguration, machine: Machine) -> Iterator[Lack]:
    user = machine.users.get(host.user or "")
    if host.user is not None and user is None:
        yield Lack("user", f"there is no user {host.user!r}")
    if user is not None and user.uid != machine.uid and "CAP_SETUID" not in machine.capabilities:
        yield Lack("user", f"only root (CAP_SETUID) can run workers as another user, here {host.user!r}")
    for name, wanted in (("group", [host.group] if host.group else []), ("groups", host.groups or ())):
        for group in wanted:
            if group not in machine.groups:
                yield Lack(name, f"there is no group {group!r}")
    if "CAP_SETGID" not in machine.capabilities:
        if host.groups is not None:
            yield Lack("groups", "only root (CAP_SETGID) can change the groups of workers")
        if host.group is not None and machine.groups.get(host.group, machine.gid) != machine.gid:
            yield Lack("group", f"only root (CAP_SETGID) can run workers with another group, here {host.group!r}")


def _lacking_sandbox(host: HostConfiguration, machine: Machine) -> Iterator[Lack]:
    sandbox = host.sandbox
    has = (
        f"this kernel has ABI {machine.landlock}" if machine.landlock else "this kernel has none, or it is not enabled"
    )
    for name, paths in (("sandbox.read", sandbox.read), ("sandbox.write", sandbox.write)):
        if paths is not None and machine.landlock < SANDBOX_ABI:
            yield Lack(name, f"needs Landlock with ABI {SANDBOX_ABI} (Linux 6.2): {has}")
        for path in paths or ():
            if path in machine.missing:
                yield Lack(name, f"there is no file or folder {path!r}")
    if not sandbox.signals and machine.landlock < SIGNALS_ABI:
        yield Lack("sandbox.signals", f"false needs Landlock with ABI {SIGNALS_ABI} (Linux 6.12): {has}")


def _lacking_processors(wanted: Iterable[int] | None, machine: Machine) -> Iterator[Lack]:
    missing = frozenset(wanted or ()) - machine.processors
    if missing:
        there = f"of this machine's processors the runtime's cpuset allows {processors_text(machine.processors)}"
        yield Lack("cpu_affinity", f"{processors_text(missing)} cannot be had: {there}")


def _identity(host: HostConfiguration, machine: Machine) -> Identity | None:
    """Whom to become; None if that changes nothing, or all that it would change needs no change."""
    if host.user is None and host.group is None and host.groups is None:
        return None
    user = machine.users[host.user] if host.user is not None else User(machine.uid, machine.gid, (), "")
    gid = machine.groups[host.group] if host.group is not None else user.gid
    if host.groups is not None:
        groups = tuple(machine.groups[group] for group in host.groups)
    elif host.user is not None:
        groups = tuple(sorted({gid, *user.groups} - ({user.gid} - {gid})))
    else:
        groups = (gid,)
    if user.uid == machine.uid and "CAP_SETGID" not in machine.capabilities:
        return None  # it is who is asked for; only the privileged may say so again
    return Identity(user.uid, gid, groups, host.user or "", user.home)
