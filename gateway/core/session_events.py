"""What happens to a connection, and what is to be done about it: the vocabulary of `session`.

Events go in, effects come out; both are small frozen dataclasses. Times are seconds on a monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ...kernel.wire.messages import ClientMessage, ControlError, Heartbeat, Join, Leave
from ...kernel.wire.reason import WireReason


class Target(NamedTuple):
    """The process that a connection is bound to, and the worker whose data channel leads there."""

    pid: str
    worker: int


class Stream(NamedTuple):
    """How messages reach the target: topic, packed metadata, heartbeat interval in seconds (0: none), `Join.trace`."""

    topic: str
    metadata: bytes
    heartbeat: float
    trace: tuple[tuple[str, str], ...] = ()


# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """101 is on its way (S44)."""

    now: float


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A complete message of the client. Not while its stream is `cut`, nor while there is a backlog (S47, S56)."""

    data: str | bytes


@dataclass(frozen=True, slots=True)
class CloseReceived:
    """The client's Close frame."""

    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class ProtocolFailed:
    """The client's bytes cannot be accepted: 1002, 1007 or 1009. Nothing more of it can be decoded."""

    code: int
    reason: str
    waited: bool = False
    """Whether the target has had its time to answer what came before."""


@dataclass(frozen=True, slots=True)
class HalfClosed:
    """The client has closed its side of the line, and may read on. The line closes when this has been handled."""


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The line is gone."""


@dataclass(frozen=True, slots=True)
class CloseTimedOut:
    """The client has not completed the close handshake in time."""


@dataclass(frozen=True, slots=True)
class PingTimedOut:
    """No pong came in time."""


@dataclass(frozen=True, slots=True)
class ClientTooSlow:
    """Too many bytes wait for the client, or none left for too long (S54)."""


@dataclass(frozen=True, slots=True)
class TargetTooSlow:
    """Reading has been paused for the target for too long (S53)."""


@dataclass(frozen=True, slots=True)
class HeartbeatDue:
    """The heartbeat's timer fired. `waiting`: the last heartbeat has not left the gateway yet (S55)."""

    now: float
    waiting: bool


@dataclass(frozen=True, slots=True)
class ControlRequested:
    """`ws.control` (S47). None keeps what the connection has; `heartbeat` in seconds."""

    sender: Target
    target: str
    topic: str | None
    metadata: bytes | None
    heartbeat: float | None


@dataclass(frozen=True, slots=True)
class RetargetGranted:
    """The new target lives, and its death will be told."""

    target: Target


@dataclass(frozen=True, slots=True)
class RetargetRefused:
    """There is no such target (S48)."""

    error: str


@dataclass(frozen=True, slots=True)
class TargetEnded:
    """A process has ended; what it had sent has been handled (S14)."""

    pid: str
    reason: WireReason
    restarting: bool


@dataclass(frozen=True, slots=True)
class ServiceReturned:
    """The service that the connection is held for has its name again (S56)."""

    target: Target


@dataclass(frozen=True, slots=True)
class ServiceGone:
    """The service that the connection is held for will not come back."""


@dataclass(frozen=True, slots=True)
class HoldExpired:
    """The connection has been held for as long as it may be (S56)."""


@dataclass(frozen=True, slots=True)
class CloseRequested:
    """`ws.close` (S50)."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """`cancel` of the connection."""


@dataclass(frozen=True, slots=True)
class EndRequested:
    """`terminate`, or a link (S51): the connection ends with this reason."""

    reason: WireReason


@dataclass(frozen=True, slots=True)
class ShutdownStarted:
    """The runtime shuts down: close with 1001, or with 1012 if clients are to come back (S49)."""

    code: int = 1001


Event: TypeAlias = (
    Opened | MessageReceived | CloseReceived | ProtocolFailed | HalfClosed | ConnectionLost | CloseTimedOut
    | PingTimedOut | ClientTooSlow | TargetTooSlow | HeartbeatDue | ControlRequested | RetargetGranted | RetargetRefused | TargetEnded
    | ServiceReturned | ServiceGone | HoldExpired | CloseRequested | CancelRequested | EndRequested | ShutdownStarted
)  # fmt: skip


# --- effects ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SendToWorker:
    """Queue a record on the data channel of this worker; if that is gone, drop it (S8)."""

    worker: int
    record: Join | ClientMessage | Heartbeat | Leave | ControlError


@dataclass(frozen=True, slots=True)
class RequestRetarget:
    """Ask the supervisor for the new target; the answer comes as RetargetGranted or RetargetRefused."""

    target: str


@dataclass(frozen=True, slots=True)
class AwaitService:
    """Have the supervisor say when the service of the dead target has `name` again: ServiceReturned or ServiceGone (S56)."""

    name: str


@dataclass(frozen=True, slots=True)
class SetHold:
    """Start the hold's timer, HoldExpired; 0 stops it. In seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SetHeartbeat:
    """Restart the heartbeat's timer; 0 stops it. In seconds."""

    interval: float


@dataclass(frozen=True, slots=True)
class SendClose:
    """Send a Close frame after everything queued. `code` None: an empty one."""

    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class AwaitAnswers:
    """Hand `then` to the session after so many seconds."""

    seconds: float
    then: ProtocolFailed


@dataclass(frozen=True, slots=True)
class AwaitClose:
    """Start the close handshake's timer; stop pings."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the transport: after what is queued, or at once with `abort`."""

    abort: bool


@dataclass(frozen=True, slots=True)
class ReportEnd:
    """Tell the supervisor that the connection is dead. `workers` are those of all its targets, for the marks (S14)."""

    reason: WireReason
    workers: tuple[int, ...]


Effect: TypeAlias = (
    SendToWorker | RequestRetarget | AwaitService | SetHold | SetHeartbeat | SendClose | AwaitAnswers | AwaitClose
    | Disconnect | ReportEnd
)  # fmt: skip
