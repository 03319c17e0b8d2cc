"""The data channel between a worker and the gateway, both ways."""

from __future__ import annotations

from typing import Final, NamedTuple

# --- worker → gateway, data channel -----------------------------------------------------------------------------------


class ClientSend(NamedTuple):
    """A WebSocket message to connections: `str` is a text frame, `bytes` a binary one."""

    connections: tuple[int, ...]
    """Serials of PIDs that this incarnation of the gateway owns; likewise below."""
    data: str | bytes


class ClientClose(NamedTuple):
    """`ws.close` (S50)."""

    connections: tuple[int, ...]
    code: int
    reason: str


class ClientControl(NamedTuple):
    """`ws.control` (S47). None keeps what the connection has; `heartbeat` in milliseconds, 0 for none."""

    connections: tuple[int, ...]
    target: str
    topic: str | None
    metadata: bytes | None
    heartbeat: int | None


class ClientCancel(NamedTuple):
    """`cancel` of connections: closed with 1001 (S49). `grace` in milliseconds."""

    connections: tuple[int, ...]
    grace: int | None


class ClientTerminate(NamedTuple):
    """`terminate` of connections: closed with 1011 (S49)."""

    connections: tuple[int, ...]


class Response(NamedTuple):
    """What a function invocation answers. The last frame of that invocation."""

    pid: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


# --- gateway → worker, data channel -----------------------------------------------------------------------------------


class Join(NamedTuple):
    """`ws.join`. Later frames name the connection by its serial; `topic`, `metadata` and `trace` hold until Leave."""

    connection: int
    pid: str
    topic: str
    metadata: bytes
    resumed: bool
    trace: tuple[tuple[str, str], ...] = ()
    """The handshake's span, as the headers of W3C Trace Context (`traceparent`, `tracestate`); none if it is not recorded."""


class ClientMessage(NamedTuple):
    """A client's complete message: `str` for text, `bytes` for binary (S46)."""

    connection: int
    data: str | bytes


class Heartbeat(NamedTuple):
    """`ws.heartbeat` (S55). `uptime` in seconds."""

    connection: int
    uptime: float
    message_count: int


class Leave(NamedTuple):
    """`ws.leave` (S45). `code` is the close code, None if there was none."""

    connection: int
    reason: str
    code: int | None


class ControlError(NamedTuple):
    """`ws.control_error` to the sender of a `ws.control` that failed (S48)."""

    pid: str
    target: str
    error: str


class Request(NamedTuple):
    """The HTTP request of the invocation `pid` (S57)."""

    pid: str
    method: str
    path: str
    parameters: tuple[tuple[str, str], ...]
    query: str
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, in the order they came."""
    body: bytes
    remote_address: str
    host: str


WORKER_TO_GATEWAY: Final[dict[int, type]] = {
    80: ClientSend, 81: ClientClose, 82: ClientControl, 83: ClientCancel, 84: ClientTerminate, 85: Response,
}  # fmt: skip
GATEWAY_TO_WORKER: Final[dict[int, type]] = {
    100: Join, 101: ClientMessage, 102: Heartbeat, 103: Leave, 104: ControlError, 105: Request,
}  # fmt: skip
