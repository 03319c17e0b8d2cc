"""What a reload has to do: the difference between two configurations as a plan.

Pure: two checked configurations in, a `Plan` out; what cannot be done without a restart is named by `refusals`. Which steps there
are and in which order is `kernel.shell.reload`'s. Values that nothing has to be done for (limits, timeouts, routes) are no steps of
their own: the gateway and the table are handed the whole new configuration, and use it from then on. `TAKES_EFFECT` says for
every field of the schema when; a test holds the two together, so that no field is silently ignored.
"""

from __future__ import annotations

import dataclasses
import graphlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from ..wire.configuration import Application, Server, Service

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is different. Ids in each; `services` fields are in an order in which they can be started."""

    servers_changed: tuple[str, ...] = ()
    """Of what stays: anything but where it listens."""
    servers_added: tuple[str, ...] = ()
    servers_removed: tuple[str, ...] = ()
    servers_moved: tuple[str, ...] = ()
    """They listen elsewhere, or with TLS instead of without: their listening sockets are replaced."""
    hosts_changed: tuple[str, ...] = ()
    hosts_added: tuple[str, ...] = ()
    hosts_removed: tuple[str, ...] = ()
    entries_changed: tuple[str, ...] = ()
    """Of `process.python` and `function.python`: added, removed, other source or method, other host."""
    services_removed: tuple[str, ...] = ()
    services_added: tuple[str, ...] = ()
    services_replaced: tuple[str, ...] = ()
    """Their process runs something else now, or elsewhere, or under another name."""
    services_adjusted: tuple[str, ...] = ()
    """Only `lifecycle` is different: their process stays."""
    services_started: tuple[str, ...] = ()
    """Those that start now: what is added, or adjusted to it, with `auto_start`."""

    @property
    def empty(self) -> bool:
        """Whether nothing is different."""
        return not any(getattr(self, field.name) for field in dataclasses.fields(self))

    def summary(self) -> str:
        """Return what is different, in a line."""
        words = []
        for field in dataclasses.fields(self):
            kind, _, how = field.name.partition("_")
            if ids := getattr(self, field.name):
                words.append(f"{kind} {how}: {', '.join(ids)}")
        return "; ".join(words) or "the configuration is the same"


def plan(old: Application, new: Application) -> Plan:
    """Return what is to be done so that what runs `old` runs `new`."""
    servers = _Difference(
        {server.id: server for server in old.gateway.servers}, {server.id: server for server in new.gateway.servers}
    )
    moved = tuple(id for id in servers.changed if _listens_otherwise(servers.old[id], servers.new[id]))
    hosts = _Difference(old.hosts, new.hosts)
    entries = _Difference(_entries(old), _entries(new)).all
    services = _Difference(old.services, new.services)
    order = start_order(new)
    replaced = {id for id in services.changed if _runs_otherwise(services.old[id], services.new[id])}
    replaced |= {
        id for id in services.kept if old.processes[old.services[id].process] != new.processes[new.services[id].process]
    }
    starts_now = {id for id in services.added if new.services[id].lifecycle.auto_start} | {
        id
        for id in services.changed
        if services.new[id].lifecycle.auto_start and not services.old[id].lifecycle.auto_start
    }
    return Plan(
        servers_changed=tuple(id for id in servers.changed if _serves_otherwise(servers.old[id], servers.new[id])),
        servers_added=servers.added,
        servers_removed=servers.removed,
        servers_moved=moved,
        hosts_changed=hosts.changed,
        hosts_added=hosts.added,
        hosts_removed=hosts.removed,
        entries_changed=entries,
        services_removed=services.removed,
        services_added=tuple(id for id in order if id in services.added),
        services_replaced=tuple(id for id in order if id in replaced),
        services_adjusted=tuple(id for id in order if id in services.changed and id not in replaced),
        services_started=tuple(id for id in order if id in starts_now),
    )


def start_order(application: Application) -> list[str]:
    """The services, each after those that it requires."""
    services = sorted(application.services.values(), key=lambda service: service.id)
    return list(graphlib.TopologicalSorter({each.id: each.lifecycle.requires for each in services}).static_order())


def refusals(planned: Plan, pinned: Collection[str]) -> list[str]:
    """Return what needs a restart, and why. `pinned` are the servers whose listening sockets a socket unit has passed: what those
    listen on is decided there."""
    return [
        f"{id}: {what} needs a change of its socket unit and a restart: the service manager has passed its sockets"
        for ids, what in (
            (planned.servers_moved, "another addr, or tls added or removed,"),
            (planned.servers_removed, "removing it"),
        )
        for id in ids
        if id in pinned
    ]


FIXED_AT_START: Final = ("user", "group", "groups", "private_tmp")
"""Fields of a `process.host`: a worker that is upgraded must find its temporary folder, and own it."""


def needs_restart(old: Application, new: Application) -> list[str]:
    """Return what else needs a restart, and why: anything of an `http.admin`, and who the workers of a host are."""
    before = {server.id: server for server in old.gateway.servers}
    after = {server.id: server for server in new.gateway.servers}
    ids = sorted(before.keys() | after.keys())
    found = [
        f"{id}: adding, changing or removing an http.admin needs a restart"
        for id in ids
        if before.get(id) != after.get(id) and any(id in each and each[id].admin for each in (before, after))
    ]
    for id in sorted(old.hosts.keys() & new.hosts.keys()):
        changed = [name for name in FIXED_AT_START if getattr(old.hosts[id], name) != getattr(new.hosts[id], name)]
        found += [f"{id}: another {name} needs a restart" for name in changed]
    return found


class _Difference(Generic[Value]):
    """What is in one of two mappings, or different in the two."""

    def __init__(self, old: Mapping[str, Value], new: Mapping[str, Value]) -> None:
        self.old, self.new = old, new
        self.added = tuple(sorted(new.keys() - old.keys()))
        self.removed = tuple(sorted(old.keys() - new.keys()))
        self.kept = tuple(sorted(old.keys() & new.keys()))
        self.changed = tuple(id for id in self.kept if old[id] != new[id])
        self.all = tuple(sorted((*self.added, *self.removed, *self.changed)))


def _entries(application: Application) -> dict[str, tuple[object, ...]]:
    functions = {id: (entry, application.function_hosts.get(id)) for id, entry in application.functions.items()}
    return {**{id: (entry,) for id, entry in application.processes.items()}, **functions}


def _listens_otherwise(old: Server, new: Server) -> bool:
    return old.address != new.address or (old.tls is None) != (new.tls is None)


def _serves_otherwise(old: Server, new: Server) -> bool:
    return dataclasses.replace(old, address=new.address) != new


def _runs_otherwise(old: Service, new: Service) -> bool:
    return dataclasses.replace(old, lifecycle=new.lifecycle) != new


_REQUEST = "the next request, of open connections too"
_CONNECTION = "new connections"
_MESSAGE = "at once, for open connections too"
_SOCKETS = "at once: its listening sockets are replaced; refused if a socket unit has passed them"
_WORKER = "new workers"
_PROCESS = "a rolling restart of the service"
_NEXT = "at once; its process stays"
_RESTART = "a restart; a reload is refused"

TAKES_EFFECT: Final[dict[str, dict[str, str]]] = {
    "http.service": {
        "addr": _SOCKETS,
        "timeouts.header": _REQUEST,
        "timeouts.request": _REQUEST,
        "timeouts.idle": _CONNECTION,
        "timeouts.close": _MESSAGE,
        "timeouts.write": _MESSAGE,
        "timeouts.stall": _MESSAGE,
        "ping.interval": _MESSAGE,
        "ping.timeout": _MESSAGE,
        "drain.within": _MESSAGE,
        "drain.batch": _MESSAGE,
        "drain.code": _MESSAGE,
        "limits.message": _CONNECTION,
        "limits.header": _CONNECTION,
        "limits.body": _REQUEST,
        "limits.outbound": _MESSAGE,
        "limits.inbound": _MESSAGE,
        "limits.connections": _CONNECTION,
        "limits.per_address": _CONNECTION,
        "limits.queue": _REQUEST,
        "limits.compression": _CONNECTION,
        "tls.certificate": "new handshakes, read anew at every reload; with `tls` added or removed, as `addr`",
        "tls.key": "new handshakes, read anew at every reload; with `tls` added or removed, as `addr`",
        "proxy.trusted": _REQUEST,
        "hosts": _REQUEST,
        "access_log": _MESSAGE,
        "tracing": "the next handshake; its import ahead of the fork: new workers",
        "cpu_affinity": "at once: all threads of the gateway",
    },
    "http.admin": {"addr": _RESTART, "remote": "the check alone"},
    "http.router": dict.fromkeys(
        (
            "meta.server", "prefix", "middleware", "options", "post_middleware", "post_options.wsrelay.allowed.origins",
        ),
        _REQUEST,
    ),
    "http.endpoint": dict.fromkeys(("meta.router", "method", "path", "func"), _REQUEST),
    "http.static": dict.fromkeys(("meta.server", "path", "directory", "spa", "index"), _REQUEST),
    "function.python": dict.fromkeys(("source", "method", "host"), _REQUEST),
    "process.python": dict.fromkeys(("source", "method"), f"new processes; {_PROCESS} that runs it"),
    "process.host": {
        "max_processes": "the next spawn",
        "functions": "at once; workers that are too many end when they are free",
        **dict.fromkeys(
            (
                "preload", "limits.mailbox", "limits.open_files", "limits.memory", "limits.cpu", "limits.liveness",
                "limits.processes", "limits.disk", "limits.core", "umask", "oom_score", "cpu_affinity", "no_new_privs",
                "environment.inherit", "environment.set", "environment.unset",
                "sandbox.read", "sandbox.write", "sandbox.signals", "coalesce_sends",
            ),
            _WORKER,
        ),
        "limits.cpus": f"{_WORKER}; refused if no cgroups were prepared at the start",
        **dict.fromkeys(FIXED_AT_START, _RESTART),
    },
    "process.service": {
        **dict.fromkeys(("process", "host", "args", "register"), _PROCESS),
        "lifecycle.auto_start": "at once: it starts; it does not stop",
        **dict.fromkeys(
            (
                "lifecycle.requires", "lifecycle.on_reload", "lifecycle.start_timeout", "lifecycle.stop_timeout",
                "lifecycle.stable_threshold", "lifecycle.restart.type", "lifecycle.restart.initial_delay",
                "lifecycle.restart.max_delay", "lifecycle.restart.backoff_factor", "lifecycle.restart.jitter",
                "lifecycle.restart.intensity", "lifecycle.restart.period",
            ),
            _NEXT,
        ),
    },
}  # fmt: skip
"""Kind and field to what a change of it reaches, and when."""
