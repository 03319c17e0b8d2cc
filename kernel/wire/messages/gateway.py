"""The control channel of the gateway, both ways."""

from __future__ import annotations

from typing import Final, NamedTuple

from ..reason import WireReason

# --- gateway → supervisor, control channel ----------------------------------------------------------------------------


class GatewayReady(NamedTuple):
    """The gateway accepts connections."""


class GatewayFailed(NamedTuple):
    """The gateway cannot serve its configuration: what is wrong."""

    message: str


class Admit(NamedTuple):
    """A connection is about to be accepted (S44). Answered by Admitted or Refused.

    `target` is a PID or a name; `invocation` the PID of the handler that named it.
    """

    request: int
    connection: str
    target: str
    invocation: str


class Retarget(NamedTuple):
    """A connection is about to be transferred (S47). Answered by Admitted or Refused."""

    request: int
    connection: str
    target: str


class Abandon(NamedTuple):
    """The handshake failed after the handler had run: `target` is terminated if `invocation` spawned it and no other
    connection than this one was ever admitted to it (S44). `connection` is None when it was never admitted."""

    target: str
    invocation: str
    connection: str | None


class ConnectionEnded(NamedTuple):
    """A connection's death (S51), with what the gateway has written to each worker that had something of it (S14)."""

    connection: str
    reason: WireReason
    marks: tuple[tuple[int, int], ...]
    """Pairs of worker number and count of frames."""


class RequestInvocation(NamedTuple):
    """A free function worker is wanted for `function` (S57). Answered by Granted, when there is one, or Refused."""

    request: int
    function: str
    handshake: bool = False
    """Whether the invocation is to answer a WebSocket handshake: if it ends without, what it spawned for that ends too (S44)."""


class WithdrawInvocation(NamedTuple):
    """The request has gone away. If it was granted meanwhile, the invocation is terminated."""

    request: int


class TerminateInvocation(NamedTuple):
    """The invocation took longer than it may (S58)."""

    pid: str


class ReportViolation(NamedTuple):
    """A worker wrote garbage on its data channel (S11): it is to die with `protocol`."""

    worker: int
    detail: str


class ShutdownComplete(NamedTuple):
    """All connections are closed, or have run out of time."""


class ReportLost(NamedTuple):
    """A worker's data channel has ended at its end, or never came to be. If the worker lives it is fenced: `noconnection`
    (S13, S43)."""

    worker: int
    detail: str


class Pong(NamedTuple):
    """The answer to the Ping with this number: the event loop turns."""

    number: int


class AwaitService(NamedTuple):
    """A connection is held (S56): its target was a process of a service that will come back. Answered by ServiceReturned or
    ServiceGone, at once or when it is so; by nothing if the connection ends before, or the runtime stops."""

    connection: str
    name: str
    """That the service is to register."""


class Joined(NamedTuple):
    """The join of an admitted connection has been queued for its target: the handshake is complete (S44). Sent where Admitted said that
    the target has not been joined."""

    connection: str


class Observe(NamedTuple):
    """Somebody asks how the runtime is. Answered by Observed."""

    request: int


class Reconfigured(NamedTuple):
    """The gateway serves the configuration of that Reconfigure from here on; or `error` says why it cannot, and then it serves
    what it did."""

    number: int
    error: str


# --- supervisor → gateway, control channel ----------------------------------------------------------------------------


class Listener(NamedTuple):
    """Carries one descriptor: a listening socket of the `http.service` with this id."""

    server: str


class Configure(NamedTuple):
    """All Listeners have been sent: serve. `configuration` is packed (`configuration.GatewayConfiguration`)."""

    gateway: int
    node: str
    epoch: str
    configuration: bytes


class OpenWorker(NamedTuple):
    """Carries one descriptor: the data channel of a worker that is new, to this incarnation at least. `pid` is the process
    that it is; empty for an idle function worker."""

    worker: int
    pid: str


class WorkerEnded(NamedTuple):
    """A worker died. Drain its data channel, close it, then act (S14). `pid` is empty for an idle function worker."""

    worker: int
    pid: str
    reason: WireReason
    restarting: bool
    """Whether the restart policy will restart it (S49: 1012)."""


class InvocationFinished(NamedTuple):
    """A function invocation ended and its worker lives on. Drain its data channel, then act."""

    worker: int
    pid: str
    reason: WireReason


class Admitted(NamedTuple):
    """The target lives, and its death will be told after this. `pid` is what a name resolved to, `entry` the id of what it runs, `joined`
    whether somebody has joined it."""

    request: int
    pid: str
    worker: int
    entry: str = ""
    joined: bool = False


class Granted(NamedTuple):
    """`worker` is now the process `pid` and waits for its Request."""

    request: int
    pid: str
    worker: int


class Refused(NamedTuple):
    """The request failed: `error` is a code of `errors`."""

    request: int
    error: str
    message: str


class EndConnection(NamedTuple):
    """Kill a connection: terminated, or by a link (S51). It ends with this reason."""

    connection: str
    reason: WireReason


class Shutdown(NamedTuple):
    """Stop accepting, close every connection as `drain` says, answer ShutdownComplete."""


class Ping(NamedTuple):
    """A sign of life is wanted: Pong. A gateway that gives none for some seconds is killed and restarted (S41)."""

    number: int


class ServiceReturned(NamedTuple):
    """The service that a held connection waits for has its name again (S56): `pid`, whose death will be told after this."""

    connection: str
    pid: str
    worker: int


class ServiceGone(NamedTuple):
    """The service that a held connection waits for will not come back (S37, S39)."""

    connection: str


class Observed(NamedTuple):
    """The answer to Observe. `observation` is packed (`observation.Observation`)."""

    request: int
    observation: bytes


class DeathNoticed(NamedTuple):
    """For the metrics: the supervisor has noticed that a worker is dead; WorkerEnded follows. `at` is a time on
    CLOCK_MONOTONIC, in seconds."""

    worker: int
    at: float


class Reconfigure(NamedTuple):
    """Listeners of servers that are new, or listen elsewhere, have been sent: serve this `configuration`, packed, instead.
    Answered by Reconfigured. An empty one takes those Listeners back, because not all could be sent, and has no answer."""

    number: int
    configuration: bytes


GATEWAY_TO_SUPERVISOR: Final[dict[int, type]] = {
    40: GatewayReady, 41: GatewayFailed, 42: Admit, 43: Retarget, 44: Abandon, 45: ConnectionEnded,
    46: RequestInvocation, 47: WithdrawInvocation, 48: TerminateInvocation, 49: ReportViolation, 50: ShutdownComplete,
    51: ReportLost, 52: Pong, 53: AwaitService, 54: Joined, 58: Observe, 161: Reconfigured,
}  # fmt: skip
SUPERVISOR_TO_GATEWAY: Final[dict[int, type]] = {
    60: Listener, 61: Configure, 62: OpenWorker, 63: WorkerEnded, 64: InvocationFinished, 65: Admitted, 66: Granted,
    67: Refused, 68: EndConnection, 69: Shutdown, 70: Ping, 71: ServiceReturned, 72: ServiceGone,
    76: Observed, 77: DeathNoticed, 175: Reconfigure,
}  # fmt: skip
