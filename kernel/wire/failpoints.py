"""Failpoints: named places between two steps of the runtime, where a test may hold a process, or have it die.

A tool for tests. Off unless `WSRELAY_FAILPOINTS` names the Unix socket of a controller
(`wsrelay.tools.faults.failpoints`). Each time that a process comes to a failpoint, it connects, says the name, its role and its
os_pid, and blocks until the controller has answered: `go`, or `die N` with the number of a signal, which it then sends to
itself. Without a controller, or when it ends, everybody goes on. `WSRELAY_FAILPOINT_NAMES`, a comma-separated list, restricts
who asks: the other failpoints cost nothing.

Counting is the controller's business: it sees the hits of all processes in one order.
"""

from __future__ import annotations

import os
import socket
from typing import Final, NamedTuple

SOCKET_VARIABLE: Final = "WSRELAY_FAILPOINTS"
NAMES_VARIABLE: Final = "WSRELAY_FAILPOINT_NAMES"


class Failpoint(NamedTuple):
    """A named place."""

    role: str
    """The kind of process that comes there: `supervisor`, `gateway`, `host` or `worker`."""
    where: str
    """Between which steps."""


FAILPOINTS: Final[dict[str, Failpoint]] = {
    "spawn.asked": Failpoint("supervisor", "the process is in the table; its host has not been asked to fork"),
    "spawn.forked": Failpoint("host", "the worker exists; the supervisor does not know its os_pid"),
    "spawn.started": Failpoint("worker", "it has read who it is; no user code has run"),
    "death.noticed": Failpoint("supervisor", "the wait status says dead; nothing is killed, drained or told"),
    "death.drained": Failpoint("supervisor", "the last words are read; the death is not committed"),
    "death.committed": Failpoint("supervisor", "the table knows; nobody is told, the worker is not reaped"),
    "death.published": Failpoint("supervisor", "the notices are written"),
    "death.reaped": Failpoint("supervisor", "the worker is reaped"),
    "exit.report.written": Failpoint("worker", "the report is out; the process still lives"),
    "message.read": Failpoint("worker", "a message has become readable"),
    "message.handed": Failpoint("worker", "a message is about to be handed to the handler"),
    "transfer.requested": Failpoint("gateway", "the stream is held; the supervisor has not been asked"),
    "transfer.cut": Failpoint("gateway", "`ws.leave` is queued for the old target; `ws.join` is not for the new one"),
    "transfer.joined": Failpoint("gateway", "`ws.join` is queued for the new target; the held messages are not"),
    "close.sent": Failpoint("gateway", "the Close frame is with the operating system; the client has not answered"),
    "gateway.lost": Failpoint("supervisor", "the gateway is reaped; its connections are not committed dead"),
    "gateway.restarted": Failpoint("supervisor", "a new gateway is executed; it has no data channel yet"),
    "host.restarted": Failpoint("supervisor", "a host is executed again; it is not configured"),
    "service.restarting": Failpoint("supervisor", "the backoff is over; the new process is not made"),
    "upgrade.handed_over": Failpoint("worker", "the old code has said that it handed over; it still lives"),
    "upgrade.reaped": Failpoint("supervisor", "the old code is reaped; the new one is not forked"),
    "upgrade.resumed": Failpoint("worker", "the new code has what the old one left; no user code has run"),
    "reload.prepared": Failpoint("supervisor", "everything new stands by; the gateway has not been asked"),
    "reload.asked": Failpoint("supervisor", "the gateway has been asked to serve the new configuration"),
    "reload.committed": Failpoint("supervisor", "the new configuration is in force; no service has been restarted"),
}
"""Every failpoint."""

_socket = os.environ.get(SOCKET_VARIABLE, "")
_names = frozenset(filter(None, os.environ.get(NAMES_VARIABLE, "").split(","))) or frozenset(FAILPOINTS)
ON: Final = bool(_socket)
"""Whether a controller is named. Set at import, for good."""

GO: Final = b"go"
DIE: Final = b"die "
_MAX_ANSWER: Final = 64


def is_asked(name: str) -> bool:
    """Whether this failpoint asks the controller: for who is wired differently then."""
    return ON and name in _names


def failpoint(name: str) -> None:
    """Be at a failpoint. Blocks while the controller holds this process; nothing happens while failpoints are off."""
    if ON and name in _names:
        answer = _ask(name)
        if answer.startswith(DIE):
            os.kill(os.getpid(), int(answer.removeprefix(DIE)))


def _ask(name: str) -> bytes:
    """Return the controller's answer; `GO` if there is none."""
    message = "\0".join((name, FAILPOINTS[name].role, str(os.getpid()))).encode()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as channel:
            channel.connect(_socket)
            channel.send(message)
            return channel.recv(_MAX_ANSWER) or GO
    except OSError:  # it has ended
        return GO
