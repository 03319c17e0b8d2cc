"""Faults from outside a handler: signals to the runtime's processes, and clients that behave badly.

Signals go only to processes of a runtime that this test has started: a pidfd is opened, and then the process behind it is looked
for among those that bear the runtime's mark.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any, Final

from .clients import RawClient, frame
from .kinds import (
    CUT,
    ClientGarbage,
    Fault,
    KillGateway,
    KillHost,
    KillSupervisor,
    NeverReads,
    ResetLine,
    Signal,
    SlowClient,
    Stop,
)
from .runtime import LOOK_AGAIN, Runtime
from .waiting import wait_until

SMALL_WINDOW: Final = 4096
"""Bytes of the receive buffer of a client that reads slowly, or never."""

FLOOD_MESSAGE: Final = 16 << 10
"""Bytes of each message of a client that never reads."""


def perform(runtime: Runtime, fault: Fault, *, os_pid: int = 0, path: str = "") -> int | None:
    """Put the fault in, and return when it is done.

    `os_pid` is the worker that `Signal` and `Stop` hit; `path` is where the client of a client's fault connects, to a handler that
    answers each message. Returns the close code that such a client saw, None for the other faults. Raises TypeError for a fault
    that is done inside a handler, ValueError if `os_pid` or `path` is missing, LookupError if there is no such process,
    AssertionError if the handshake fails or `NeverReads` is not cut.
    """
    if type(fault) in _ON_CLIENTS:
        if not path:
            raise ValueError(f"{fault!r} is a client's: path says where it connects")
        return _ON_CLIENTS[type(fault)](fault, runtime.port(), path)
    if type(fault) in _ON_WORKERS:
        if not os_pid:
            raise ValueError(f"{fault!r} hits a worker: os_pid says which, see Runtime.ps")
        _ON_WORKERS[type(fault)](fault, runtime, os_pid)
    elif type(fault) in _ON_PARTS:
        _ON_PARTS[type(fault)](fault, runtime)
    else:
        raise TypeError(f"{fault!r} is done inside a handler: arm a point with it, or send it to one that calls obey")
    return None


def kill(runtime: Runtime, os_pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process of this runtime. Raises LookupError if it is none."""
    try:
        pidfd = os.pidfd_open(os_pid)
    except ProcessLookupError:
        raise LookupError(f"os process {os_pid} has ended") from None
    try:
        if os_pid not in runtime.processes():
            raise LookupError(f"os process {os_pid} is none of this runtime's")
        signal.pidfd_send_signal(pidfd, number)
    finally:
        os.close(pidfd)


def _signal(fault: Signal, runtime: Runtime, os_pid: int) -> None:
    kill(runtime, os_pid, signal.Signals[fault.name])


def _stop(fault: Stop, runtime: Runtime, os_pid: int) -> None:
    kill(runtime, os_pid, signal.SIGSTOP)
    if fault.seconds is not None:
        threading.Event().wait(fault.seconds)  # the stop is this long; nothing is waited for
        kill(runtime, os_pid, signal.SIGCONT)


def _kill_gateway(fault: KillGateway, runtime: Runtime) -> None:
    """Wait until another one serves."""
    size, old = runtime.log_size(), runtime.gateway
    kill(runtime, old)
    wait_until(
        lambda: "serves again" in runtime.log_since(size), message=lambda: f"a gateway to serve\n{runtime.log_end()}"
    )


def _kill_host(fault: KillHost, runtime: Runtime) -> None:
    """Wait until it has been started again."""
    found = [(os_pid, entry) for os_pid, entry in _hosts(runtime) if fault.host in ("", entry)]
    if not found:
        raise LookupError(f"there is no host {fault.host!r}: there are {sorted(entry for _, entry in _hosts(runtime))}")
    old, host = found[0]
    kill(runtime, old)
    wait_until(
        lambda: any(entry == host and os_pid != old for os_pid, entry in _hosts(runtime)),
        message=lambda: f"the host {host} to start again\n{runtime.log_end()}",
        step=LOOK_AGAIN,
    )


def _hosts(runtime: Runtime) -> list[tuple[int, str]]:
    return [(each.os_pid, each.entry) for each in runtime.ps() if each.kind == "host"]


def _kill_supervisor(fault: KillSupervisor, runtime: Runtime) -> None:
    """Wait until nothing of the runtime is left (S40)."""
    kill(runtime, runtime.supervisor)
    wait_until(lambda: runtime.process.poll() is not None, message=lambda: f"the runtime to end\n{runtime.log_end()}")
    wait_until(lambda: not runtime.processes(), message="everything to be killed")


def _reset_line(fault: ResetLine, port: int, path: str) -> int:
    with RawClient(port, path) as client:
        for number in range(fault.messages):
            client.send(str(number))
        client.reset()
    return CUT


def _send_garbage(fault: ClientGarbage, port: int, path: str) -> int:
    with RawClient(port, path) as client:
        client.send_raw(fault.data)
        return client.end()


def _read_slowly(fault: SlowClient, port: int, path: str) -> int:
    with RawClient(port, path, window=SMALL_WINDOW) as client:
        for number in range(fault.messages):
            client.send(str(number))
        for _ in range(fault.messages):
            client.receive(step=1)
        client.send_raw(frame(b"\x03\xe8", opcode=8))
        return client.end()


def _never_read(fault: NeverReads, port: int, path: str) -> int:
    with RawClient(port, path, window=SMALL_WINDOW) as client:
        client.flood(b"x" * FLOOD_MESSAGE, fault.size, fault.within)
        return client.end()


_ON_WORKERS: Final[dict[type[Fault], Callable[[Any, Runtime, int], None]]] = {Signal: _signal, Stop: _stop}
_ON_PARTS: Final[dict[type[Fault], Callable[[Any, Runtime], None]]] = {
    KillGateway: _kill_gateway,
    KillHost: _kill_host,
    KillSupervisor: _kill_supervisor,
}
_ON_CLIENTS: Final[dict[type[Fault], Callable[[Any, int, str], int]]] = {
    ResetLine: _reset_line,
    ClientGarbage: _send_garbage,
    SlowClient: _read_slowly,
    NeverReads: _never_read,
}
