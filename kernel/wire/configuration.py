"""The checked configuration, as the supervisor hands it to the gateway and to the hosts.

Plain frozen dataclasses with the defaults of the configuration reference. Durations are in seconds, sizes in bytes.
`pack` and `unpack` carry them over a channel from the supervisor, which is trusted, to its own children.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgpack


@dataclass(frozen=True, slots=True)
class Timeouts:
    """`timeouts` of an `http.service`, in seconds."""

    header: float = 10.0
    request: float = 30.0
    idle: float = 60.0
    close: float = 5.0
    write: float = 10.0
    stall: float = 30.0


@dataclass(frozen=True, slots=True)
class Ping:
    """`ping` of an `http.service`, in seconds; 0 for none (S55)."""

    interval: float = 20.0
    timeout: float = 20.0


@dataclass(frozen=True, slots=True)
class Drain:
    """`drain` of an `http.service`: how its WebSocket connections are closed when the runtime stops."""

    within: float = 10.0
    """Seconds over which closing may be spread."""
    batch: int = 200
    """Connections that are closed at a time."""
    code: int = 1001
    """1001, or 1012 for clients that come back only then (S49)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`limits` of an `http.service`: bytes and counts."""

    message: int = 1 << 20
    header: int = 32 << 10
    body: int = 1 << 20
    outbound: int = 1 << 20
    inbound: int = 1 << 20
    connections: int = 20_000
    per_address: int = 0
    queue: int = 100
    compression: bool = False


@dataclass(frozen=True, slots=True)
class Tls:
    """`tls` of an `http.service`: paths of PEM files."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Proxy:
    """`proxy` of an `http.service`: addresses or networks whose X-Forwarded-* headers are believed."""

    trusted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """An `http.endpoint` under its router's prefix."""

    endpoint: str
    method: str
    path: str
    """Whole path with the prefix: `/ws/rooms/{name}`, `/files/{rest...}`."""
    function: str
    """The id of the `function.python` entry."""
    relay: bool = False
    """Whether the router has the post-match middleware `websocket_relay`."""
    allowed_origins: tuple[str, ...] = ()
    """`wsrelay.allowed.origins`; none means same origin only."""


@dataclass(frozen=True, slots=True)
class Static:
    """An `http.static`."""

    path: str
    directory: str
    """Absolute."""
    spa: bool = False
    """Unknown paths give the index page."""
    index: str = "index.html"


@dataclass(frozen=True, slots=True)
class Server:
    """An `http.service` with everything that hangs on it, or an `http.admin`."""

    id: str
    address: str
    """`host:port`, `:port` or `unix:/path`."""
    timeouts: Timeouts = Timeouts()
    ping: Ping = Ping()
    limits: Limits = Limits()
    tls: Tls | None = None
    proxy: Proxy = Proxy()
    routes: tuple[Route, ...] = ()
    statics: tuple[Static, ...] = ()
    drain: Drain = Drain()
    access_log: bool = False
    admin: bool = False
    """Whether it is an `http.admin`, which serves metrics and health and nothing else."""
    tracing: str | None = None
    """What makes spans of handshakes: `opentelemetry`; None for nothing."""
    hosts: tuple[str, ...] = ()
    """The hosts, without a port and in lower case, that a request may be for; none for any."""
    cpu_affinity: tuple[int, ...] | None = None
    """The processors that the gateway runs on, in order; None for those that the runtime was started on. No two servers differ in it."""
    places: dict[str, str] = field(default_factory=dict, compare=False)
    """As of a `HostConfiguration`."""


@dataclass(frozen=True, slots=True)
class GatewayConfiguration:
    """All that the gateway serves."""

    servers: tuple[Server, ...] = ()

    @property
    def is_observed(self) -> bool:
        """Whether there is an `http.admin`, so that somebody may ask for metrics."""
        return any(server.admin for server in self.servers)

    @property
    def is_traced(self) -> bool:
        """Whether some server makes spans, so that a handler's messages may have some too."""
        return any(server.tracing for server in self.servers)

    @property
    def cpu_affinity(self) -> tuple[int, ...] | None:
        """As of a `Server`: what those say that say something."""
        stated = (server.cpu_affinity for server in self.servers if server.cpu_affinity is not None)
        return next(stated, None)


@dataclass(frozen=True, slots=True)
class Entry:
    """A `process.python` or `function.python`."""

    id: str
    source: str
    """`file:///absolute/path.py` or `python://package.module`."""
    method: str


CPU_MARGIN = 1
"""Seconds of CPU time from SIGXCPU, which a handler may ignore, to SIGKILL (`HostLimits.cpu`)."""


def cpu_allowance(limit: float, used: int) -> int:
    """Return the whole seconds of CPU time that an actor's OS process is allowed: at least one. `limit` is `HostLimits.cpu`,
    `used` what the process had used before it was upgraded (S35), in milliseconds."""
    return max(1, math.ceil(limit - used / 1000))


@dataclass(frozen=True, slots=True)
class HostLimits:
    """`limits` of a `process.host`; None for no limit."""

    mailbox: int = 64 << 20
    """Bytes of unread mail (S10)."""
    open_files: int | None = None
    """RLIMIT_NOFILE."""
    memory: int | None = None
    """Bytes resident of a worker with its descendants."""
    cpu: float | None = None
    """Seconds of CPU time of an actor or an invocation (RLIMIT_CPU, whole seconds)."""
    liveness: float | None = None
    """Seconds for a sign of life (S17)."""
    processes: int | None = None
    """OS processes and threads of a worker with its descendants."""
    cpus: float | None = None
    """CPUs that a worker with its descendants may use at a time (cpu.max of a cgroup)."""
    disk: int | None = None
    """Bytes in a worker's private temporary folder."""
    core: int | None = None
    """Bytes of a core dump (RLIMIT_CORE)."""


@dataclass(frozen=True, slots=True)
class Environment:
    """`environment` of a `process.host`: the variables of the fork server and its workers."""

    inherit: bool = True
    """Whether the runtime's own variables are passed on; else only those of `core.enforcement.KEPT`."""
    set: tuple[tuple[str, str], ...] = ()
    """Pairs of name and value."""
    unset: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`sandbox` of a `process.host`: what Landlock leaves a worker. There is none while all have their defaults."""

    read: tuple[str, ...] | None = None
    """Absolute paths to read and execute below, beside what the runtime itself needs."""
    write: tuple[str, ...] | None = None
    """Absolute paths to read and write below."""
    signals: bool = True
    """Whether it may signal processes that it has not started."""

    @property
    def restricts_files(self) -> bool:
        """Whether it says anything of the file system."""
        return self.read is not None or self.write is not None

    @property
    def wanted(self) -> bool:
        """Whether there is a sandbox at all."""
        return self.restricts_files or not self.signals


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the workers of a host are, resolved by the supervisor."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary ones."""
    name: str
    """Of the user; empty if only the groups change."""
    home: str


@dataclass(frozen=True, slots=True)
class HostConfiguration:
    """A `process.host`."""

    id: str
    max_processes: int = 1000
    functions: int = 2
    """Function workers kept."""
    preload: bool = True
    limits: HostLimits = HostLimits()
    user: str | None = None
    sources: tuple[str, ...] = ()
    """What to preload: the distinct sources of all entries that may run here."""
    coalesce_sends: bool = False
    """Whether sends are collected if the handler does not say otherwise (S7)."""
    group: str | None = None
    """None for the user's own."""
    groups: tuple[str, ...] | None = None
    """Supplementary ones; None for the user's own."""
    umask: int | None = None
    oom_score: int | None = None
    """oom_score_adj, proc(5)."""
    cpu_affinity: tuple[int, ...] | None = None
    """The processors that the fork server and its workers run on, in order; None for those that the runtime was started on."""
    no_new_privs: bool = True
    private_tmp: bool = False
    """Whether each worker has a temporary folder of its own, removed at its end."""
    environment: Environment = Environment()
    sandbox: Sandbox = Sandbox()
    traced: bool = False
    """Whether a server makes spans: then what workers need to make theirs is imported before the fork."""
    places: dict[str, str] = field(default_factory=dict, compare=False)
    """Field, by its path with dots, to `file:line:column` of what was given."""
    identity: Identity | None = None
    """Filled in by the supervisor: whom to become; None to stay."""
    temporary: str = ""
    """Filled in by the supervisor: the folder of the private temporary folders, each named by its worker's number."""


@dataclass(frozen=True, slots=True)
class Restart:
    """`lifecycle.restart` of a `process.service`; delays in seconds (S36 to S38)."""

    type: str = "transient"
    """`permanent`, `transient` or `temporary`."""
    initial_delay: float = 1.0
    max_delay: float = 90.0
    backoff_factor: float = 2.0
    jitter: float = 0.1
    """Share of the delay, from 0 to 1."""
    intensity: int = 10
    period: float = 60.0


RELOAD_TOPIC = "@reload"
"""Of the message to a service with `on_reload: notify`. Its payload is None."""


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """`lifecycle` of a `process.service`, in seconds."""

    auto_start: bool = True
    requires: tuple[str, ...] = ()
    """Ids of services."""
    start_timeout: float = 10.0
    stop_timeout: float = 10.0
    stable_threshold: float = 5.0
    restart: Restart = Restart()
    on_reload: str = "restart"
    """What a reload with new code means to it: `restart`, `notify` (a message on `RELOAD_TOPIC`) or `keep`."""


@dataclass(frozen=True, slots=True)
class Service:
    """A `process.service`."""

    id: str
    process: str
    """The id of the `process.python` entry."""
    host: str
    arguments: bytes = b"\x90"
    """The packed list of arguments."""
    register: str | None = None
    lifecycle: Lifecycle = Lifecycle()


@dataclass(frozen=True, slots=True)
class Application:
    """A whole configuration that has passed the check."""

    gateway: GatewayConfiguration = GatewayConfiguration()
    hosts: dict[str, HostConfiguration] = field(default_factory=dict)
    processes: dict[str, Entry] = field(default_factory=dict)
    functions: dict[str, Entry] = field(default_factory=dict)
    function_hosts: dict[str, str] = field(default_factory=dict)
    """Function id to host id."""
    services: dict[str, Service] = field(default_factory=dict)


Configuration = TypeVar("Configuration")


def pack(configuration: Any) -> bytes:
    """Pack one of the dataclasses above."""
    packed: bytes = msgpack.packb(dataclasses.asdict(configuration))
    return packed


def unpack(kind: type[Configuration], packed: bytes) -> Configuration:
    """The inverse of `pack`."""
    made: Configuration = _structure(kind, msgpack.unpackb(packed))
    return made


_hints = functools.cache(typing.get_type_hints)


def _structure(kind: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        return kind(**{name: _structure(hints[name], item) for name, item in value.items()})
    if origin is tuple:
        return tuple(_structure(arguments[0], item) for item in value)
    if origin is dict:
        return {key: _structure(arguments[1], item) for key, item in value.items()}
    if origin is types.UnionType:
        return None if value is None else _structure(arguments[0], value)
    return value
