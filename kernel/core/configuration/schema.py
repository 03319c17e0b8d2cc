"""The table of kinds: which fields each has, of which type, with which default.

Owns what a configuration may say. Knows nothing of files or of how entries hang together. The defaults come from the dataclasses
in `kernel/wire/configuration.py`; the reference in `docs/configuration.md` is rendered from this table.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, Final

from ...wire.configuration import (
    Drain,
    Environment,
    HostConfiguration,
    HostLimits,
    Lifecycle,
    Limits,
    Ping,
    Proxy,
    Restart,
    Sandbox,
    Server,
    Static,
    Timeouts,
)
from ...wire.messages import MAX_FRAME
from . import syntax
from .problems import Mistake, shown
from .types import (
    ARGUMENTS,
    EMPTY_MAPPING,
    FLAG,
    ORIGINS,
    PROCESSORS,
    REFERENCES,
    REGISTERED_NAME,
    UMASK,
    VARIABLES,
    Type,
    choice,
    code,
    count,
    duration,
    items,
    number,
    optional,
    size,
    text,
    whole,
    words,
)


class _Required:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


REQUIRED: Final = _Required("required")
REQUIRED_IN_GROUP: Final = _Required("required if the group is given")

_CARRIED = MAX_FRAME - (1 << 20)
"""What fits into a frame beside its envelope and a request's head."""
_MAX_BUFFER = 1 << 40
_LEAST_MEMORY = 32 << 20
"""Bytes: what a worker needs to be born."""
_LEAST_DISK = 64 << 10
"""Bytes: a folder, and a file in it."""
_LEAST_LIVENESS = 0.1
"""Seconds: less than that, and a busy machine looks like a hang."""


@dataclass(frozen=True, slots=True)
class Field:
    """`path` has the names of the groups that the field is in, and its own."""

    path: tuple[str, ...]
    type: Type
    default: Any
    about: str

    @property
    def name(self) -> str:
        """The path with dots."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Kind:
    """What entries of a kind may say beside `name`, `kind` and further keys of `meta`."""

    name: str
    about: str
    fields: tuple[Field, ...]

    @property
    def groups(self) -> dict[str, list[str]]:
        """Group, by its path with dots, to the names in it; outer ones come first, and every kind has `meta`."""
        groups: dict[str, dict[str, None]] = {"meta": {}}
        for field in self.fields:
            for depth in range(1, len(field.path)):
                groups.setdefault(".".join(field.path[:depth]), {})[field.path[depth]] = None
        return {group: list(names) for group, names in groups.items()}


def _of(dataclass: type, group: str | None, name: str, type: Type, about: str) -> Field:
    """A field whose default is that of the dataclass's field of the same name."""
    (default,) = (each.default for each in dataclasses.fields(dataclass) if each.name == name)
    return Field((*group.split("."), name) if group else (name,), type, default, about)


def _parse_user(user: str) -> str:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?", user, re.ASCII) is None:
        raise Mistake(f"expected the name of a user, got {shown(user)}")
    return user


def _parse_group(group: str) -> str:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?", group, re.ASCII) is None:
        raise Mistake(f"expected the name of a group, got {shown(group)}")
    return group


def _parse_file_name(name: str) -> str:
    if "/" in name or name in ("", ".", ".."):
        raise Mistake(f"expected the name of a file, without a folder, got {shown(name)}")
    return name


def _parse_path(path: str) -> str:
    if not path:
        raise Mistake("expected a path, got ''")
    return path


_PATH = text("a path", _parse_path)
_REFERENCE = text("the name of an entry", syntax.parse_reference)
_SOURCE = Field(
    ("source",), text("a source", syntax.parse_source), REQUIRED,
    "`file://chat.py`, relative to the YAML file, or `python://package.module`",
)  # fmt: skip
_METHOD = Field(
    ("method",), text("the name of a function", syntax.parse_method_name), REQUIRED,
    "the callable; bound at the top level of the source",
)  # fmt: skip

_SERVICE = Kind(
    "http.service",
    "A server: an address that the gateway listens on.",
    (
        Field(("addr",), text("an address", syntax.parse_address), REQUIRED,
              "`host:port`, `:port` (every interface), `[v6]:port` or `unix:/path`; port 0 takes a free one"),
        _of(Timeouts, "timeouts", "header", duration(zero=False), "for the head of a request, and before it for the TLS handshake"),
        _of(Timeouts, "timeouts", "request", duration(zero=False), "for the handler (S58)"),
        _of(Timeouts, "timeouts", "idle", duration(zero=False), "of a connection kept alive between requests"),
        _of(Timeouts, "timeouts", "close", duration(zero=False), "for the closing handshake of a WebSocket"),
        _of(Timeouts, "timeouts", "write", duration(zero=False), "for a client to take what it is sent (S54)"),
        _of(Timeouts, "timeouts", "stall", duration(zero=False), "for a slow target before its clients are closed (S53)"),
        _of(Ping, "ping", "interval", duration(zero=True), "between protocol pings (S55)"),
        _of(Ping, "ping", "timeout", duration(zero=True), "for the pong"),
        _of(Drain, "drain", "within", duration(zero=True), "over which the closing of connections is spread when the runtime stops"),
        _of(Drain, "drain", "batch", count(1), "connections that are closed at a time, ten times a second"),
        _of(Drain, "drain", "code", code(1001, 1012), "that they are closed with: 1001 (going away) or 1012 (service restart)"),
        _of(Limits, "limits", "message", size(1, _CARRIED), "of a client's message; over it the client is closed with 1009"),
        _of(Limits, "limits", "header", size(256, 1 << 19), "of the head of a request"),
        _of(Limits, "limits", "body", size(0, _CARRIED), "of the body of a request"),
        _of(Limits, "limits", "outbound", size(1, _MAX_BUFFER), "waiting for one client (S54)"),
        _of(Limits, "limits", "inbound", size(1, _MAX_BUFFER), "waiting in the gateway for one worker"),
        _of(Limits, "limits", "connections", count(1), "connections at once, those in their TLS handshake too"),
        _of(Limits, "limits", "per_address", count(0), "connections at once from one address; 0 for no limit"),
        _of(Limits, "limits", "queue", count(0), "requests that wait for a function worker"),
        _of(Limits, "limits", "compression", FLAG, "permessage-deflate"),
        Field(("tls", "certificate"), _PATH, REQUIRED_IN_GROUP, "PEM file, relative to the YAML file"),
        Field(("tls", "key"), _PATH, REQUIRED_IN_GROUP, "PEM file, relative to the YAML file"),
        _of(Proxy, "proxy", "trusted", items(text("an address", syntax.parse_network), "a list"),
            "addresses or networks whose `X-Forwarded-For` and `X-Forwarded-Proto` headers are believed"),
        _of(Server, None, "hosts", items(text("a host", syntax.parse_host), "a list"),
            "the only hosts, without a port, that the `Host` header may name; any other is answered with 421. None for any"),
        _of(Server, None, "access_log", FLAG, "a line in the log for each request, and for each connection's begin and end"),
        _of(Server, None, "tracing", optional(choice("a tracing library", "opentelemetry")),
            "`opentelemetry`: a span for each WebSocket handshake. Needs the extra of that name"),
        _of(Server, None, "cpu_affinity", optional(PROCESSORS), "where the gateway runs, such as `0-3,8`; none for where the runtime was started. "
            "One gateway serves all: those that state it state the same"),
    ),
)  # fmt: skip
_ADMIN = Kind(
    "http.admin",
    "Where the runtime is watched: `/metrics`, `/healthz` and `/readyz`. There may be one.",
    (
        Field(("addr",), text("an address", syntax.parse_address), REQUIRED,
              "as of an `http.service`; on the loopback interface (`127.0.0.1:9464`), or `unix:/path`"),
        Field(("remote",), FLAG, False, "whether `addr` may be reached from other machines: nobody is asked who he is"),
    ),
)  # fmt: skip
_ROUTER = Kind(
    "http.router",
    "A prefix on a server, with what its endpoints have in common.",
    (
        Field(("meta", "server"), _REFERENCE, REQUIRED, "an `http.service`"),
        Field(("prefix",), text("a prefix", syntax.parse_prefix), "", "put before the path of every endpoint"),
        Field(("middleware",), words("middleware"), (), "there is none in this version"),
        Field(("options",), EMPTY_MAPPING, {}, "options of the middleware"),
        Field(("post_middleware",), words("middleware", "websocket_relay"), (),
              "after the route has matched: `websocket_relay`"),
        Field(("post_options", "wsrelay.allowed.origins"), ORIGINS, (),
              "`https://app.example.com`, `https://*.example.com`, or `*` for any; none means same origin only"),
    ),
)  # fmt: skip
_ENDPOINT = Kind(
    "http.endpoint",
    "A route: requests of one method and path go to a function.",
    (
        Field(("meta", "router"), _REFERENCE, REQUIRED, "an `http.router`"),
        Field(("method",), choice("a method", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"), REQUIRED,
              "`GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE` or `OPTIONS`"),
        Field(("path",), text("a path", syntax.parse_template), REQUIRED,
              "`/rooms/{name}`; `{rest...}` at the end takes all that is left; empty for the prefix itself"),
        Field(("func",), _REFERENCE, REQUIRED, "a `function.python`"),
    ),
)  # fmt: skip
_STATIC = Kind(
    "http.static",
    "Files that a server gives out.",
    (
        Field(("meta", "server"), _REFERENCE, REQUIRED, "an `http.service`"),
        Field(("path",), text("a path", syntax.parse_static_path), REQUIRED, "below which the files appear"),
        Field(("directory",), _PATH, REQUIRED, "relative to the YAML file"),
        _of(Static, None, "spa", FLAG, "whether unknown paths give the index page"),
        _of(
            Static,
            None,
            "index",
            text("a file name", _parse_file_name),
            "the page of a folder, at its path with a slash at the end",
        ),
    ),
)
_FUNCTION = Kind(
    "function.python",
    "A handler of requests; each invocation is a process (S57).",
    (
        _SOURCE,
        _METHOD,
        Field(("host",), _REFERENCE, None, "a `process.host`; required if there are several"),
    ),
)
_PROCESS = Kind("process.python", "What a spawned process runs.", (_SOURCE, _METHOD))
_HOST = Kind(
    "process.host",
    "A fork server and the workers that it forks.",
    (
        _of(HostConfiguration, None, "max_processes", count(1), "processes at once"),
        _of(HostConfiguration, None, "functions", count(0, 10_000), "function workers kept"),
        _of(HostConfiguration, None, "preload", FLAG, "whether sources are imported before the fork"),
        _of(HostLimits, "limits", "mailbox", size(1, _MAX_BUFFER), "bytes of unread mail (S10)"),
        _of(HostLimits, "limits", "open_files", optional(count(16)), "descriptors of a worker (RLIMIT_NOFILE)"),
        _of(HostLimits, "limits", "memory", optional(size(_LEAST_MEMORY, _MAX_BUFFER)),
            "resident memory of a worker with its descendants: `limit:oom`"),
        _of(HostLimits, "limits", "cpu", optional(duration(zero=False)),
            "CPU time of an actor or an invocation, rounded up to seconds: `limit:cpu`"),
        _of(HostLimits, "limits", "liveness", optional(duration(zero=False, least=_LEAST_LIVENESS)),
            "without a sign of life before a worker is killed (S17): `limit:liveness`"),
        _of(HostLimits, "limits", "processes", optional(count(1)),
            "OS processes and threads of a worker with its descendants: `limit:processes`"),
        _of(HostLimits, "limits", "cpus", optional(number(0.01, 1024)),
            "CPUs that a worker with its descendants may use at a time; it is slowed down, not ended. Needs a delegated cgroup"),
        _of(HostLimits, "limits", "disk", optional(size(_LEAST_DISK, _MAX_BUFFER)),
            "of a worker's private temporary folder: `limit:disk`"),
        _of(HostLimits, "limits", "core", optional(size(0, _MAX_BUFFER)), "of a core dump (RLIMIT_CORE); 0 for none, none for the machine's"),
        _of(HostConfiguration, None, "user", optional(text("a user", _parse_user)), "whom the workers run as, with their groups"),
        _of(HostConfiguration, None, "group", optional(text("a group", _parse_group)), "of the workers, instead of the user's own"),
        _of(HostConfiguration, None, "groups", optional(items(text("a group", _parse_group), "a list")),
            "supplementary groups, instead of the user's own; `[]` for none"),
        _of(HostConfiguration, None, "umask", optional(UMASK), "of the workers, such as `0077`"),
        _of(HostConfiguration, None, "oom_score", optional(whole(-1000, 1000)),
            "whom the kernel kills first when memory is short (oom_score_adj); lower than the runtime's own needs CAP_SYS_RESOURCE"),
        _of(HostConfiguration, None, "cpu_affinity", optional(PROCESSORS),
            "where the fork server and its workers run, such as `0-3,8`; none for where the runtime was started"),
        _of(HostConfiguration, None, "no_new_privs", FLAG, "whether programs that workers execute gain no privileges (setuid, file capabilities)"),
        _of(HostConfiguration, None, "private_tmp", FLAG,
            "whether each worker has a temporary folder of its own (TMPDIR), removed at its end"),
        _of(Environment, "environment", "inherit", FLAG,
            "whether workers get the runtime's variables; else only PATH, TZ, LANG and LC_*"),
        _of(Environment, "environment", "set", VARIABLES, "variables that workers have"),
        _of(Environment, "environment", "unset", items(text("the name of a variable", syntax.parse_variable), "a list"),
            "variables that workers do not get"),
        _of(Sandbox, "sandbox", "read", optional(items(_PATH, "a list")),
            "files and folders that workers may read and execute, beside what the runtime needs. Needs Landlock"),
        _of(Sandbox, "sandbox", "write", optional(items(_PATH, "a list")),
            "files and folders that workers may read and write; the private temporary folder is one. Needs Landlock"),
        _of(Sandbox, "sandbox", "signals", FLAG,
            "whether workers may signal processes that they have not started; false needs Landlock"),
        _of(HostConfiguration, None, "coalesce_sends", FLAG, "whether a handler's sends leave together: while it blocks outside "
            "`process`, only after about 10 ms, or as soon as Python's GIL is free (S7)"),
    ),
)  # fmt: skip

_SUPERVISED = Kind(
    "process.service",
    "A process that the runtime starts, restarts and stops (S36 to S39).",
    (
        Field(("process",), _REFERENCE, REQUIRED, "a `process.python`"),
        Field(("host",), _REFERENCE, REQUIRED, "a `process.host`"),
        Field(("args",), ARGUMENTS, (), "arguments of the function: text, numbers, true, false, nothing, lists, mappings"),
        Field(("register",), REGISTERED_NAME, None, "a name that its process has from the start; kept for this service alone"),
        _of(Lifecycle, "lifecycle", "auto_start", FLAG, "whether it starts with the runtime; one that is required does anyway"),
        _of(Lifecycle, "lifecycle", "requires", REFERENCES, "each a `process.service`, started before it and stopped after it"),
        _of(Lifecycle, "lifecycle", "on_reload", choice("what to do", "restart", "notify", "keep"),
            "when a reload finds new code: `restart` it, `notify` it with a message on the topic `@reload`, or `keep` it"),
        _of(Lifecycle, "lifecycle", "start_timeout", duration(zero=False), "for the host to fork it; then it is killed"),
        _of(Lifecycle, "lifecycle", "stop_timeout", duration(zero=False), "between CANCEL and SIGKILL"),
        _of(Lifecycle, "lifecycle", "stable_threshold", duration(zero=True), "of running, after which the delay is the first again (S38)"),
        _of(Restart, "lifecycle.restart", "type", choice("a restart type", "permanent", "transient", "temporary"),
            "after which ends: `permanent` all, `transient` abnormal ones, `temporary` none (S36)"),
        _of(Restart, "lifecycle.restart", "initial_delay", duration(zero=True), "before the first restart (S38)"),
        _of(Restart, "lifecycle.restart", "max_delay", duration(zero=True), "that the delay grows to"),
        _of(Restart, "lifecycle.restart", "backoff_factor", number(1, 100), "from one delay to the next"),
        _of(Restart, "lifecycle.restart", "jitter", number(0, 1), "share of the delay, 0 to 1, by which it may be longer or shorter"),
        _of(Restart, "lifecycle.restart", "intensity", count(0), "restarts within `period`; one more, and it is given up (S37)"),
        _of(Restart, "lifecycle.restart", "period", duration(zero=False), "in which restarts are counted"),
    ),
)  # fmt: skip

KINDS: Final = {
    kind.name: kind for kind in (_SERVICE, _ADMIN, _ROUTER, _ENDPOINT, _STATIC, _FUNCTION, _PROCESS, _HOST, _SUPERVISED)
}
