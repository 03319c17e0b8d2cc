"""Entries to an `Application`: references, sources, files, and what two entries cannot both have.

Owns every check that needs more than one value. Knows nothing of YAML. What it needs to know of the file system it asks
`Sources`. A value that was bad is absent, and what depends on it is left out without another word.
"""

from __future__ import annotations

import posixpath
from typing import Any, Protocol, TypeVar

from ...wire.configuration import (
    Application,
    Drain,
    Environment,
    GatewayConfiguration,
    HostConfiguration,
    HostLimits,
    Limits,
    Ping,
    Proxy,
    Route,
    Sandbox,
    Server,
    Static,
    Timeouts,
    Tls,
)
from ...wire.configuration import (
    Entry as ApplicationEntry,
)
from ...wire.quantities import processors_text
from . import syntax
from .entries import Entries, Entry
from .hosts import check_host
from .problems import Mistake, Place, Problems, suggestion
from .python_source import Bindings, Unparsable, read_bindings
from .services import assemble_services
from .types import Reference

Group = TypeVar("Group", Timeouts, Ping, Drain, Limits, HostLimits, Environment, Proxy)


ADMIN_LIMITS = Limits(message=1, header=16 << 10, body=0, connections=64)
"""Of an `http.admin`: it takes no bodies, and few connections."""


class Sources(Protocol):
    """What the check asks of the file system. Paths are absolute."""

    def read_source(self, path: str) -> bytes | None:
        """Return the content of a file, None if there is none that can be read."""

    def is_file(self, path: str) -> bool:
        """Whether there is such a file."""

    def is_directory(self, path: str) -> bool:
        """Whether there is such a directory."""


class Assembly:
    """One use: `assemble` returns the application, which is whole only if there were no problems."""

    def __init__(self, entries: Entries, sources: Sources, problems: Problems) -> None:
        self._entries = entries
        self._sources = sources
        self._problems = problems
        self._bindings: dict[str, Bindings | None] = {}

    def assemble(self) -> Application:
        functions = self._runnable("function.python")
        processes = self._runnable("process.python")
        function_hosts = self._function_hosts()
        services = assemble_services(self._entries.of("process.service"), self._refer, self._refer_all, self._problems)
        gateway = GatewayConfiguration(self._servers())
        return Application(
            gateway=gateway,
            hosts=self._hosts(functions, processes, function_hosts, traced=gateway.is_traced),
            processes=processes,
            functions=functions,
            function_hosts=function_hosts,
            services=services,
        )

    # References

    def _refer(self, entry: Entry, name: str, kind: str) -> str | None:
        """Return the id that a field refers to, if it is an entry of that kind."""
        reference = entry.values.get(name)
        return None if reference is None else self._find(entry, name, Reference(reference, entry.place_of(name)), kind)

    def _refer_all(self, entry: Entry, name: str, kind: str) -> dict[str, Reference]:
        """Return the ids that a field with several references refers to."""
        found = {self._find(entry, name, reference, kind): reference for reference in entry.values[name]}
        return {id: reference for id, reference in found.items() if id is not None}

    def _find(self, entry: Entry, name: str, reference: Reference, kind: str) -> str | None:
        id = reference.text if ":" in reference.text else f"{entry.namespace}:{reference.text}"
        place = reference.place
        found = self._entries.by_id.get(id)
        if found is not None and found.kind != kind:
            self._problems.add(place, f"{name}: {id} is of kind {found.kind}, expected {kind}")
        elif found is not None:
            return id
        elif id not in self._entries.unusable and self._entries.complete:
            known = [each.id for each in self._entries.of(kind)]
            self._problems.add(place, f"{name}: there is no {kind} {id}{suggestion(id, known)}")
        return None

    # Sources

    def _runnable(self, kind: str) -> dict[str, ApplicationEntry]:
        made = {}
        duplicates = [entry for entry in self._entries.duplicates if entry.kind == kind]
        for entry in [*self._entries.of(kind), *duplicates]:
            source, method = self._source(entry), entry.values.get("method")
            if source is not None and method is not None:
                made[entry.id] = ApplicationEntry(entry.id, source, method)
        return made

    def _source(self, entry: Entry) -> str | None:
        """Return the source with an absolute path, after its method has been looked for."""
        source: str | None = entry.values.get("source")
        if source is None or source.startswith("python://"):
            return source
        relative = source.removeprefix("file://")
        path = _absolute(entry, relative)
        if path not in self._bindings:
            self._bindings[path] = self._read_source(entry, path, relative)
        elif self._bindings[path] is None and self._sources.read_source(path) is None:
            self._report_no_source(entry, path)
        bindings, method = self._bindings[path], entry.values.get("method")
        if bindings is not None and method is not None and not (bindings.open or method in bindings.names):
            hint = suggestion(method, bindings.names) or "; expected a function of that name at its top level"
            self._problems.add(entry.place_of("method"), f"method: {relative} binds no {method}{hint}")
        return f"file://{path}"

    def _read_source(self, entry: Entry, path: str, relative: str) -> Bindings | None:
        content = self._sources.read_source(path)
        if content is None:
            self._report_no_source(entry, path)
            return None
        bindings = read_bindings(content)
        if isinstance(bindings, Unparsable):
            shown_path = posixpath.normpath(posixpath.join(posixpath.dirname(entry.file.path), relative))
            place = Place(shown_path, bindings.line, bindings.column)
            self._problems.add(place, f"not valid Python: {bindings.message}")
            return None
        return bindings

    def _report_no_source(self, entry: Entry, path: str) -> None:
        self._problems.add(entry.place_of("source"), f"source: there is no file {path!r} that can be read")

    # Hosts

    def _function_hosts(self) -> dict[str, str]:
        hosts = [host.id for host in self._entries.of("process.host")]
        made = {}
        for entry in self._entries.of("function.python"):
            if "host" in entry.places:
                host = self._refer(entry, "host", "process.host")
            else:
                host = hosts[0] if len(hosts) == 1 else None
                if len(hosts) > 1:
                    message = f"missing field host of function.python, which of {', '.join(hosts)}?"
                    self._problems.add(entry.place, message)
                elif not hosts and self._entries.complete and not self._entries.unusable:
                    self._problems.add(entry.place, "there is no process.host to run this function, expected one")
            if host is not None:
                made[entry.id] = host
                if self._entries.by_id[host].values.get("functions") == 0:
                    self._problems.add(
                        entry.place, f"{host} has functions: 0, expected at least 1 to run this function"
                    )
        return made

    def _hosts(
        self,
        functions: dict[str, ApplicationEntry],
        processes: dict[str, ApplicationEntry],
        function_hosts: dict[str, str],
        *,
        traced: bool,
    ) -> dict[str, HostConfiguration]:
        made = {}
        for entry in self._entries.of("process.host"):
            own = [function for id, function in functions.items() if function_hosts.get(id) == entry.id]
            check_host(entry, self._problems)
            names = (
                "max_processes", "functions", "preload", "coalesce_sends", "user", "group", "groups", "umask", "oom_score",
                "cpu_affinity", "no_new_privs", "private_tmp",
            )  # fmt: skip
            made[entry.id] = HostConfiguration(
                id=entry.id,
                limits=_group(HostLimits, "limits", entry),
                environment=_group(Environment, "environment", entry),
                sandbox=self._sandbox(entry),
                sources=tuple(dict.fromkeys(each.source for each in [*processes.values(), *own])),
                traced=traced,
                places={name: str(place) for name, place in entry.places.items()},
                **{name: entry.values[name] for name in names},
            )
        return made

    @staticmethod
    def _sandbox(entry: Entry) -> Sandbox:
        """The sandbox with absolute paths."""
        read, write = (
            None if paths is None else tuple(_absolute(entry, path) for path in paths)
            for paths in (entry.values["sandbox.read"], entry.values["sandbox.write"])
        )
        return Sandbox(read, write, entry.values["sandbox.signals"])

    # Servers

    def _servers(self) -> tuple[Server, ...]:
        self._check_addresses()
        self._check_affinity()
        routes, statics = self._routes(), self._statics()
        return tuple(
            Server(
                id=entry.id,
                address=entry.values.get("addr", ""),
                timeouts=_group(Timeouts, "timeouts", entry),
                ping=_group(Ping, "ping", entry),
                drain=_group(Drain, "drain", entry),
                limits=_group(Limits, "limits", entry),
                tls=self._tls(entry),
                proxy=_group(Proxy, "proxy", entry),
                routes=tuple(route for server, route in routes if server == entry.id),
                statics=tuple(static for server, static in statics if server == entry.id),
                hosts=entry.values["hosts"],
                access_log=entry.values["access_log"],
                tracing=entry.values["tracing"],
                cpu_affinity=entry.values["cpu_affinity"],
                places={name: str(place) for name, place in entry.places.items()},
            )
            for entry in self._entries.of("http.service")
        ) + tuple(map(self._admin, self._entries.of("http.admin")))

    def _admin(self, entry: Entry) -> Server:
        first = self._entries.of("http.admin")[0]
        if first is not entry:
            self._problems.add(
                entry.place, f"there is an http.admin already, {first.id} at {first.place}; expected one"
            )
        address = entry.values.get("addr", "")
        if address and not entry.values["remote"] and not syntax.split_address(address).is_local:
            message = (
                f"addr: {address} can be reached from other machines, expected 127.0.0.1, [::1], localhost or unix:"
            )
            self._problems.add(entry.place_of("addr"), f"{message}, or remote: true")
        drain, timeouts = Drain(within=0.0), Timeouts(close=1.0)
        places = {name: str(place) for name, place in entry.places.items()}
        return Server(entry.id, address, timeouts, limits=ADMIN_LIMITS, drain=drain, admin=True, places=places)

    def _check_addresses(self) -> None:
        seen: list[tuple[syntax.Address, Entry]] = []
        for entry in [*self._entries.of("http.service"), *self._entries.of("http.admin")]:
            if "addr" not in entry.values:
                continue
            address = syntax.split_address(entry.values["addr"])
            for other, holder in seen:
                if address.collides(other):
                    message = (
                        f"addr: {entry.values['addr']} cannot be bound beside {holder.values['addr']} of {holder.id}"
                    )
                    self._problems.add(entry.place_of("addr"), f"{message} at {holder.place_of('addr')}")
                    break
            seen.append((address, entry))

    def _check_affinity(self) -> None:
        """There is one gateway for all servers."""
        name = "cpu_affinity"
        stated = [entry for entry in self._entries.of("http.service") if entry.values[name] is not None]
        for entry in stated:
            if entry.values[name] != stated[0].values[name] and name not in entry.bad | stated[0].bad:
                here, there = (processors_text(each.values[name]) for each in (entry, stated[0]))
                message = f"{name}: one gateway serves all, expected {there} as of {stated[0].id} at"
                self._problems.add(entry.place_of(name), f"{message} {stated[0].place_of(name)}, got {here}")

    def _tls(self, entry: Entry) -> Tls | None:
        paths = {}
        for name in ("certificate", "key"):
            given = entry.values.get(f"tls.{name}")
            if given is None:
                return None
            paths[name] = _absolute(entry, given)
            if not self._sources.is_file(paths[name]):
                self._problems.add(entry.place_of(f"tls.{name}"), f"tls.{name}: there is no file {paths[name]!r}")
        return Tls(**paths)

    def _statics(self) -> list[tuple[str, Static]]:
        made: list[tuple[str, Static]] = []
        seen: dict[tuple[str, str], Entry] = {}
        for entry in self._entries.of("http.static"):
            server = self._refer(entry, "meta.server", "http.service")
            path, given = entry.values.get("path"), entry.values.get("directory")
            if given is not None and not self._sources.is_directory(_absolute(entry, given)):
                message = f"directory: there is no directory {_absolute(entry, given)!r}"
                self._problems.add(entry.place_of("directory"), message)
            if server is None or path is None or given is None:
                continue
            first = seen.setdefault((server, path), entry)
            if first is not entry:
                message = f"path: duplicate static path {path} on {server}, first given at {first.place_of('path')}"
                self._problems.add(entry.place_of("path"), message)
            directory = _absolute(entry, given)
            made.append((server, Static(path, directory, entry.values["spa"], entry.values["index"])))
        return made

    def _routes(self) -> list[tuple[str, Route]]:
        servers = {router.id: self._router(router) for router in self._entries.of("http.router")}
        made: list[tuple[str, Route]] = []
        seen: dict[tuple[str, str, str], tuple[Entry, Route]] = {}
        for entry in self._entries.of("http.endpoint"):
            router = self._refer(entry, "meta.router", "http.router")
            function = self._refer(entry, "func", "function.python")
            route = self._route(entry, router, function)
            server = servers.get(router) if router is not None else None
            if route is None or server is None:
                continue
            key = (server, route.method, syntax.shape(route.path))
            first, duplicate = seen.setdefault(key, (entry, route))
            if first is not entry:
                message = f"path: duplicate route {route.method} {route.path} on {server}, the same as"
                where = f"{duplicate.path} of {first.id} at {first.place_of('path')}"
                self._problems.add(entry.place_of("path"), f"{message} {where}")
            made.append((server, route))
        return made

    def _router(self, router: Entry) -> str | None:
        """Check a router by itself and return its server."""
        name = "post_options.wsrelay.allowed.origins"
        relay = "websocket_relay" in router.values["post_middleware"] or "post_middleware" in router.bad
        if name in router.places and not relay:
            message = f"{name}: has no effect, expected post_middleware: [websocket_relay] beside it"
            self._problems.add(router.place_of(name), message)
        return self._refer(router, "meta.server", "http.service")

    def _route(self, entry: Entry, router_id: str | None, function: str | None) -> Route | None:
        method, path = entry.values.get("method"), entry.values.get("path")
        if router_id is None or path is None:
            return None
        router: dict[str, Any] = self._entries.by_id[router_id].values
        whole = router["prefix"] + path or "/"
        try:
            syntax.check_parameters(whole)
        except Mistake as mistake:
            self._problems.add(entry.place_of("path"), f"path: {mistake}")
            return None
        if method is None:
            return None
        relay = "websocket_relay" in router["post_middleware"]
        origins = router["post_options.wsrelay.allowed.origins"]
        return Route(entry.id, method, whole, function or "", relay, origins)


def _group(kind: type[Group], group: str, entry: Entry) -> Group:
    """Make the dataclass of a group of fields."""
    values = {name: entry.values[f"{group}.{name}"] for name in kind.__dataclass_fields__}
    return kind(**values)


def _absolute(entry: Entry, path: str) -> str:
    return posixpath.normpath(posixpath.join(entry.file.directory, path))
