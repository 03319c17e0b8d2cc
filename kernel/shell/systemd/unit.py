"""The text of the units: a service, and a socket for each address. Pure: what is known of the machine is an argument.

Owns every setting and the reason for it, which stands in the unit as a comment. The files in deploy/systemd are rendered from
here. Reads nothing and writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...wire.configuration import Application, Server
from .activation import descriptor_names

MARK = "# Written by: wsrelay install-unit"
"""The beginning of a file that may be replaced."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?<!\.)")
_TYPES = ("service", "socket", "target", "device", "mount", "automount", "swap", "timer", "path", "slice", "scope")
MAX_UNIT_NAME = 255
"""Characters of a unit's name with its suffix, systemd.unit(5)."""
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
NOTIFY_RELOAD = 253
"""The first version of systemd with Type=notify-reload."""
_NOTIFY_RELOAD = [
    "# systemd knows from the service when a reload begins and ends. The signal that it sends for that says nothing here: ExecReload=",
    "# asks for the reload, and fails if the configuration is refused.",
    "Type=notify-reload",
    "ReloadSignal=SIGCONT",
]
STOP_RESERVE = 15.0
"""Seconds beyond what a stop may take by the configuration: for killed processes to be dead, and for a busy machine."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a service unit is made for."""

    name: str
    command: tuple[str, ...]
    """ExecStart: absolute paths."""
    stop: float
    """Seconds that a stop may take (`stop_time`)."""
    sockets: tuple[str, ...] = ()
    """Names of its socket units; none means that the file descriptor store keeps what it listens on."""
    user: str | None = None
    """Who it runs as; None for a dynamic user."""
    changes_user: bool = False
    """Whether a process.host has a `user`, `group` or `groups`: then the supervisor has capabilities."""
    divides_cgroup: bool = False
    """Whether a process.host has limits that a cgroup keeps."""
    writable: tuple[str, ...] = ()
    """What handlers may write (`sandbox.write`) besides the service's own folders."""
    unix_sockets: bool = False
    reads_homes: bool = False
    """Whether the Python or the application is below /home or /root."""
    template: bool = False
    notifies_reload: bool = False
    """Whether systemd knows Type=notify-reload (`NOTIFY_RELOAD`)."""


@dataclass(frozen=True, slots=True)
class Socket:
    """What a socket unit is made for."""

    name: str
    """Without `.socket`."""
    service: str
    """Without `.service`."""
    descriptor_name: str
    streams: tuple[str, ...]
    """Values of ListenStream."""


def check_name(name: str) -> None:
    """Raise ValueError if this cannot be the name of our units, systemd.unit(5), or would not be taken for one where it is used:
    a file that begins with a dot is hidden, a `-` begins an option."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            "--name: expected letters, digits and _.- , with a letter, a digit or _ at the beginning and no dot at the end; got"
            f" {name!r}"
        )
    before, _, suffix = name.rpartition(".")
    if before and suffix in _TYPES:
        raise ValueError(f"--name: expected the name without .{suffix}, {before!r} say; got {name!r}")
    if len(name) > MAX_UNIT_NAME - len(".service"):
        raise ValueError(f"--name: expected at most {MAX_UNIT_NAME - len('.service')} characters, got {len(name)}")


def stop_time(application: Application) -> float:
    """Return how many seconds the stop of an application may take by its configuration (docs/operations.md)."""
    servers = application.gateway.servers
    closing = max((server.drain.within + server.timeouts.close for server in servers), default=0.0)
    services = sum(service.lifecycle.stop_timeout for service in application.services.values())
    return closing + services


def tcp_servers(application: Application) -> list[Server]:
    """The servers that get a socket unit: those at a TCP address with a port of its own. Not an `http.admin`: to be watched must
    not start what was stopped."""
    return [
        server
        for server in application.gateway.servers
        if not server.admin and not server.address.startswith("unix:") and not server.address.endswith(":0")
    ]


def socket_names(name: str, servers: Sequence[Server]) -> list[str]:
    """The name of each server's socket unit: the first is called as the service."""
    return [name if not index else f"{name}-{server.id.replace(':', '-')}" for index, server in enumerate(servers)]


def descriptor_name(server: Server, servers: Sequence[Server]) -> str:
    """The shortest name of a server's sockets (FileDescriptorName=)."""
    return min((name for name, id in descriptor_names(servers).items() if id == server.id), key=len)


def quote(word: str) -> str:
    """Return a word as systemd.service(5) reads it in ExecStart: specifiers and variables are not expanded."""
    word = word.replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(word.replace("$$", "")):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def render_socket(socket: Socket) -> str:
    """Return the text of a socket unit."""
    streams = "\n".join([*(f"ListenStream={stream}" for stream in socket.streams), *_ip_versions(socket)])
    return f"""{MARK}

[Unit]
Description=Listening sockets of {socket.service}.service

[Socket]
{streams}
# Which http.service they are for: its name, or namespace/name. The address above and its addr must agree.
FileDescriptorName={socket.descriptor_name}
Service={socket.service}.service
# As many connections may wait while the service is restarted.
Backlog=4096
# systemd gives up a socket that starts its service too often, and then refuses everybody.
TriggerLimitIntervalSec=0

[Install]
WantedBy=sockets.target
"""


def _ip_versions(socket: Socket) -> list[str]:
    """As the runtime binds it itself: systemd's default depends on the machine, and is that `[::]` takes IPv4 too."""
    if any(stream.startswith("[") for stream in socket.streams):
        return ["BindIPv6Only=ipv6-only"]
    return ["BindIPv6Only=both"] if any(stream.isdigit() for stream in socket.streams) else []


def render_drop_in() -> str:
    """Return a drop-in for systemd 253 and later, for units that were written for an older one."""
    return (
        "\n".join([MARK, "", "# For systemd 253 or later: put it into NAME.service.d/.", "[Service]", *_NOTIFY_RELOAD])
        + "\n"
    )


def render_service(service: Service) -> str:
    """Return the text of a service unit."""
    return (
        "\n".join([MARK, "", *_unit(service), "", *_service(service), "", *_hardening(service), "", *_install(service)])
        + "\n"
    )


def _unit(service: Service) -> list[str]:
    sockets = " ".join(f"{name}.socket" for name in service.sockets)
    lines = [
        "[Unit]",
        f"Description=wsrelay{' %i' if service.template else ''}: WebSocket relay with isolated processes",
    ]
    if sockets:
        lines += [f"Requires={sockets}", f"After=network.target {sockets}"]
    else:
        lines += ["After=network.target"]
    return [
        *lines,
        "# Never give up: after the default of 5 starts in 10 s the sockets would fail too, and refuse everybody.",
        "StartLimitIntervalSec=0",
    ]


def _service(service: Service) -> list[str]:
    folder = f"{service.name}%i" if service.template else service.name
    script, *rest = service.command
    command, reload = (
        " ".join(words if service.template else map(quote, words))
        for words in (service.command, (script, "reload", *rest[1:]))
    )
    lines = [
        "[Service]",
        "# Started when the gateway accepts and the services run. Only the main process may notify: no worker can.",
        *(_NOTIFY_RELOAD if service.notifies_reload else ["Type=notify"]),
        "NotifyAccess=main",
        f"ExecStart={command}",
        "# Waits until the reload is done, and fails if the configuration is refused. SIGHUP does the same and tells nobody.",
        f"ExecReload={reload}",
        "Restart=on-failure",
        "RestartSec=1s",
        "# Hosts import the application before the start is over; a service that backs off is waited for, one minute.",
        "TimeoutStartSec=150s",
        "# The supervisor's loop gives signs of life while its duties are met (docs/operations.md). When they stop, SIGABRT has it",
        "# write to the log where it hangs.",
        "WatchdogSec=30s",
        "TimeoutAbortSec=5s",
        "# SIGTERM goes to the main process, which stops everything in order; what is left when that has ended gets SIGKILL.",
        "KillMode=mixed",
        "# drain + closing handshake + stop_timeout of the services + reserve (docs/operations.md).",
        f"TimeoutStopSec={service.stop + STOP_RESERVE:.0f}s",
        "# One worker that is killed for its memory must not stop the others.",
        "OOMPolicy=continue",
        *(["Delegate=memory pids cpu"] if service.divides_cgroup else []),
        "# A descriptor for each connection, four for each worker. The first number is what workers get.",
        "LimitNOFILE=1024:262144",
        "TasksMax=16384",
        "# /run and /var/lib: what handlers may write, in RUNTIME_DIRECTORY and STATE_DIRECTORY.",
        f"RuntimeDirectory={folder}",
        f"StateDirectory={folder}",
    ]
    if not service.sockets or service.unix_sockets:
        lines += [
            "# systemd keeps what the service has bound itself while it is restarted: nobody is refused.",
            "FileDescriptorStoreMax=16",
        ]
        if service.unix_sockets:
            lines += ["RuntimeDirectoryPreserve=restart"]
    return lines


def _hardening(service: Service) -> list[str]:
    lines = ["# --- what the service cannot do ---"]
    if service.user is not None:
        lines += [f"User={service.user}"]
    else:
        lines += ["# A user that exists while the service runs.", "DynamicUser=yes"]
    if service.changes_user:
        capabilities = "CAP_SETUID CAP_SETGID CAP_KILL"
        lines += [
            "# A process.host has a user of its own: guardian and supervisor have the capabilities that this takes, and no other.",
            "# The gateway and what runs handlers give them up before they do anything.",
            f"CapabilityBoundingSet={capabilities}",
            f"AmbientCapabilities={capabilities}",
        ]
    else:
        lines += ["CapabilityBoundingSet=", "AmbientCapabilities=", "PrivateUsers=yes"]
    lines += [
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "# The Python or the application is below a home." if service.reads_homes else "",
        f"ProtectHome={'read-only' if service.reads_homes else 'yes'}",
        *(f"ReadWritePaths={quote(path)}" for path in service.writable),
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "PrivateMounts=yes",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "# It divides its own group, for the limits of its workers; those of others are not its to write."
        if service.divides_cgroup
        else "",
        f"ProtectControlGroups={'no' if service.divides_cgroup else 'yes'}",
        "# The supervisor reads /proc of its own processes, and psutil /proc/stat: so not ProcSubset=pid.",
        f"ProtectProc={'default' if service.changes_user else 'invisible'}",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "# Native code of handlers may need writable and executable memory: so not MemoryDenyWriteExecute.",
        "# AF_NETLINK: without it the names of network interfaces cannot be had.",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "RemoveIPC=yes",
        "KeyringMode=private",
        "# Sockets that handlers make for others are for their group." if service.unix_sockets else "",
        f"UMask={'0007' if service.unix_sockets else '0077'}",
        "SystemCallArchitectures=native",
        "# Without @privileged, which has what a user may not do anyway; with setpriority and setrlimit, which workers use.",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged",
        *(
            [
                "# What a host's user needs of it: to become that user, to make and remove its files as that user, and to give up the",
                "# capabilities for it.",
                "SystemCallFilter=setgroups setresgid setresuid setfsuid capset",
            ]
            if service.changes_user
            else []
        ),
        "# Landlock is not in the group of every systemd.",
        "SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self",
        "# An error and not a kill: programs try calls that they can do without.",
        "SystemCallErrorNumber=EPERM",
    ]
    return [line for line in lines if line]


def _install(service: Service) -> list[str]:
    also = [f"Also={' '.join(f'{name}.socket' for name in service.sockets)}"] if service.sockets else []
    return ["[Install]", "WantedBy=multi-user.target", *also]
