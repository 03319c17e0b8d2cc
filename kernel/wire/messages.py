"""Every message of the runtime, on every channel: the wire contract.

Owns the records, their tags, and which record may travel which way. A frame is the msgpack array `[tag, field, …]` with
the fields in the order of the record. Payloads that only users read (arguments, payloads, metadata, returned values) are
opaque `bin`: packed by the sender's library, unpacked by the reader's, never in between. A tag is never reused.

The page `docs/wire.md` is rendered from this file; a test holds the two together. Records are named tuples and not
dataclasses because they are made for every message: a named tuple packs as the array that it is.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .reason import WireReason


class Mark(NamedTuple):
    """How far a data channel must have been read before a notice may be seen (S14)."""

    gateway: int
    """The gateway's incarnation, which names the channel."""
    frame: int
    """How many frames the gateway had written to this worker on that channel; `END_OF_CHANNEL` if that incarnation died."""


END_OF_CHANNEL: Final = (1 << 63) - 1
"""A frame that no channel reaches: a notice with this mark waits for the channel's end (S41)."""


# --- worker → supervisor, control channel -----------------------------------------------------------------------------


class Spawn(NamedTuple):
    """Start `entry` on `host` (S3, S4). Answered by Reply(pid) or Failed; with `monitor`, the ref is `request`."""

    request: int
    entry: str
    host: str
    arguments: bytes
    link: bool
    monitor: bool


class Send(NamedTuple):
    """A message to processes of the supervisor (S6). Dead destinations are skipped (S8)."""

    destinations: tuple[str, ...]
    topic: str
    payload: bytes


class Monitor(NamedTuple):
    """Watch `pid` (S19, S20). Answered by Reply; the monitor's ref is `request`."""

    request: int
    pid: str


class Unmonitor(NamedTuple):
    """Remove the monitor `ref` (S21). Answered by Reply."""

    request: int
    ref: int


class UnmonitorAll(NamedTuple):
    """Remove all of the caller's monitors of `pid` (S19). Answered by Reply."""

    request: int
    pid: str


class Link(NamedTuple):
    """Link the caller and `pid` (S23, S24). Answered by Reply or Failed(NoProc)."""

    request: int
    pid: str


class Unlink(NamedTuple):
    """Remove the link between the caller and `pid` (S27). Answered by Reply."""

    request: int
    pid: str


class Cancel(NamedTuple):
    """Ask a process of the supervisor to end (S29). `grace` is in milliseconds; None never escalates."""

    pid: str
    grace: int | None


class Terminate(NamedTuple):
    """Kill a process (S30). For a connection only when its data channel is blocked."""

    pid: str


class SetOptions(NamedTuple):
    """Change the caller's options (S28). Answered by Reply."""

    request: int
    trap_links: bool


class Register(NamedTuple):
    """Give `pid` the name `name` (S32). Answered by Reply or Failed(AlreadyExists, NoProc)."""

    request: int
    name: str
    pid: str


class Unregister(NamedTuple):
    """Take the name away (S32). Answered by Reply or Failed(NotFound, NotPermitted)."""

    request: int
    name: str


class Lookup(NamedTuple):
    """Resolve a name. Answered by Reply(pid) or Reply(None)."""

    request: int
    name: str


class SpawnNamed(NamedTuple):
    """Spawn, and the child has the name `name` before it can run (S5). A taken name is answered by Failed(AlreadyExists)
    with its holder's PID, and nothing is spawned."""

    request: int
    entry: str
    host: str
    arguments: bytes
    link: bool
    monitor: bool
    name: str


class Execute(NamedTuple):
    """Run `entry` to its end (S34). Answered once: by Executed; by Failed(Timeout) after `timeout` milliseconds (None
    waits for ever) or after GiveUp, and then the child is killed; or by Failed where Spawn would be."""

    request: int
    entry: str
    host: str
    arguments: bytes
    timeout: int | None


class GiveUp(NamedTuple):
    """The caller does not wait for the Execute of this request number any more (S34). Nothing happens if it was answered."""

    execution: int


class JoinGroup(NamedTuple):
    """Make `pid`, any live process, a member (S33). Answered by Reply(how often it has now joined) or Failed(NoProc)."""

    request: int
    group: str
    pid: str


class LeaveGroup(NamedTuple):
    """Take back one join of `pid` (S33). Answered by Reply(how often it is still joined); 0 if it was no member."""

    request: int
    group: str
    pid: str


class ListMembers(NamedTuple):
    """Resolve a group (S33). Answered by Members. A broadcast is this, and then a message to each."""

    request: int
    group: str


class WatchGroup(NamedTuple):
    """Watch a group (S33). Answered by Members, then a GroupChanged for every change; the watch's ref is `request`."""

    request: int
    group: str


class UnwatchGroup(NamedTuple):
    """Remove the watch `ref`. Answered by Reply; no GroupChanged of that ref comes after it."""

    request: int
    ref: int


class ExitReport(NamedTuple):
    """The last frame of a worker: how its handler ended (S12). Counts only together with the wait status. `target` is that of
    an invocation that answered, as in InvocationEnded."""

    reason: WireReason
    target: str | None = None


class InvocationEnded(NamedTuple):
    """The current function invocation returned; the worker is ready for the next (S57).

    `target` is the PID or the name in the relay header that it answered with, if it has set one (S44).
    """

    pid: str
    reason: WireReason
    target: str | None = None


class Alive(NamedTuple):
    """The answer to the Probe with this number: the handler has come back to the library (S17)."""

    number: int


class Upgrade(NamedTuple):
    """Replace the running code of the caller by `entry`, None for the entry that it runs (S35). Answered by HandOver, or by
    Failed(NotFound, NotPermitted, LimitExceeded)."""

    request: int
    entry: str | None
    arguments: bytes


class HandedOver(NamedTuple):
    """The last frame of a worker that is upgraded: its state is in the channel that came with HandOver. Counts only together
    with the wait status, 0."""

    cpu: int
    """Milliseconds of CPU time that the process has used, in all its workers' lives so far."""


# --- supervisor → worker, control channel -----------------------------------------------------------------------------


class Start(NamedTuple):
    """The first frame: what the worker is. A function worker has an empty `pid` and waits for Invoke."""

    worker: int
    pid: str
    host: str
    entry: str
    source: str
    method: str
    arguments: bytes
    mailbox: int
    """Bytes of unread mail that the library may hold (S10)."""


class OpenData(NamedTuple):
    """Carries one descriptor: the data channel to this incarnation of the gateway. It replaces an earlier one."""

    gateway: int


class Deliver(NamedTuple):
    """A message from a process of the supervisor; `sender` is stamped by the supervisor (S9)."""

    sender: str
    topic: str
    payload: bytes


class Exit(NamedTuple):
    """The monitor `ref` fired (S19). Held by the library until `mark` is read (S14)."""

    ref: int
    pid: str
    reason: WireReason
    mark: Mark | None


class LinkDown(NamedTuple):
    """A linked process died and the receiver traps (S25). Held like Exit."""

    pid: str
    reason: WireReason
    mark: Mark | None


class CancelSignal(NamedTuple):
    """Somebody asks the receiver to end (S29). `grace` in milliseconds, None without a limit."""

    sender: str
    grace: int | None


class Reply(NamedTuple):
    """The answer to a request."""

    request: int
    value: str | int | None


class Failed(NamedTuple):
    """The request raises in the caller: `error` is a code of `errors`, `pid` the holder for AlreadyExists."""

    request: int
    error: str
    message: str
    pid: str | None


class Invoke(NamedTuple):
    """A function worker becomes the process `pid` (S57). The Request follows on the data channel."""

    pid: str
    entry: str
    source: str
    method: str


class Probe(NamedTuple):
    """Asks a worker whose host has `limits.liveness` for a sign of life: Alive, when it reads this (S17)."""

    number: int


class Members(NamedTuple):
    """The distinct members of a group, in the order in which they joined (S33); none if there is no such group."""

    request: int
    pids: tuple[str, ...]


class GroupChanged(NamedTuple):
    """A watched group has a new member, or has lost one (S33). Counts against the mailbox like a message (S10)."""

    ref: int
    pid: str
    joined: bool


class Executed(NamedTuple):
    """The child of an Execute ended by itself: `reason` has its value, or why there is none (S34)."""

    request: int
    pid: str
    reason: WireReason


class HandOver(NamedTuple):
    """Answers an Upgrade, and is the last frame on this channel: what comes later waits for the new code. Carries one
    descriptor: a channel whose other end the new code gets. Write the state there, then HandedOver, and exit (S35)."""

    request: int


class Resume(NamedTuple):
    """The first frame instead of Start, for the new code of an upgraded process. Carries one descriptor: the channel with the
    state that the old code has left (S35)."""

    start: Start


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
    """A connection's death (S51), with what the gateway has written to each of its targets (S14)."""

    connection: str
    reason: WireReason
    marks: tuple[tuple[int, int], ...]
    """Pairs of worker number and count of frames."""


class RequestInvocation(NamedTuple):
    """A free function worker is wanted for `function` (S57). Answered by Granted, when there is one, or Refused."""

    request: int
    function: str


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
    """The join of an admitted connection has been queued for its target: the handshake is complete (S44)."""

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
    """The target lives, and its death will be told after this. `pid` is what a name resolved to."""

    request: int
    pid: str
    worker: int


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
    Answered by Reconfigured."""

    number: int
    configuration: bytes


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
    """`ws.join`. Later frames name the connection by its serial; `topic` and `metadata` hold until Leave."""

    connection: int
    pid: str
    topic: str
    metadata: bytes
    resumed: bool


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


# --- supervisor → host, and back --------------------------------------------------------------------------------------


class ConfigureHost(NamedTuple):
    """The first frame to a fork server. `configuration` is packed (`configuration.HostConfiguration`)."""

    configuration: bytes


class Fork(NamedTuple):
    """Carries one descriptor: the control channel of the worker to fork."""

    worker: int


class HostCode(NamedTuple):
    """What the entries of this host run: a digest of every module that it has imported, or of their sources where it has not.
    Comes before HostReady."""

    digest: str


class HostReady(NamedTuple):
    """The fork server forks from now on. `refused` are modules that were not preloaded, with the reason."""

    refused: tuple[tuple[str, str], ...]


class Forked(NamedTuple):
    """The worker exists: a child of the supervisor, in the host's process group until it is started."""

    worker: int
    os_pid: int


class ForkFailed(NamedTuple):
    """The operating system refused the fork."""

    worker: int
    message: str


class HostFailed(NamedTuple):
    """The fork server cannot be what its configuration asks for: what is wrong. It ends after this."""

    message: str


MAX_FRAME: Final = 17 << 20
"""Bytes of one frame's largest string: a WebSocket message of 16 MiB and its envelope. A library refuses to send more (LimitExceeded)."""

WORKER_TO_SUPERVISOR: Final[dict[int, type]] = {
    1: Spawn, 2: Send, 3: Monitor, 4: Unmonitor, 5: UnmonitorAll, 6: Link, 7: Unlink, 8: Cancel, 9: Terminate,
    10: SetOptions, 11: Register, 12: Unregister, 13: Lookup, 14: ExitReport, 15: InvocationEnded,
    16: SpawnNamed, 17: Execute, 18: GiveUp, 19: Alive,
    140: JoinGroup, 141: LeaveGroup, 142: ListMembers, 143: WatchGroup, 144: UnwatchGroup,
    150: Upgrade, 151: HandedOver,
}  # fmt: skip
SUPERVISOR_TO_WORKER: Final[dict[int, type]] = {
    20: Start, 21: OpenData, 22: Deliver, 23: Exit, 24: LinkDown, 25: CancelSignal, 26: Reply, 27: Failed, 28: Invoke,
    29: Members, 30: GroupChanged, 31: Executed, 39: Probe,
    155: HandOver, 156: Resume,
}  # fmt: skip
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
WORKER_TO_GATEWAY: Final[dict[int, type]] = {
    80: ClientSend, 81: ClientClose, 82: ClientControl, 83: ClientCancel, 84: ClientTerminate, 85: Response,
}  # fmt: skip
GATEWAY_TO_WORKER: Final[dict[int, type]] = {
    100: Join, 101: ClientMessage, 102: Heartbeat, 103: Leave, 104: ControlError, 105: Request,
}  # fmt: skip
SUPERVISOR_TO_HOST: Final[dict[int, type]] = {120: ConfigureHost, 121: Fork}
HOST_TO_SUPERVISOR: Final[dict[int, type]] = {
    130: HostReady, 131: Forked, 132: ForkFailed, 133: HostFailed, 136: HostCode,
}  # fmt: skip

DIRECTIONS: Final[dict[str, dict[int, type]]] = {
    "worker → supervisor (control)": WORKER_TO_SUPERVISOR,
    "supervisor → worker (control)": SUPERVISOR_TO_WORKER,
    "gateway → supervisor (control)": GATEWAY_TO_SUPERVISOR,
    "supervisor → gateway (control)": SUPERVISOR_TO_GATEWAY,
    "worker → gateway (data)": WORKER_TO_GATEWAY,
    "gateway → worker (data)": GATEWAY_TO_WORKER,
    "supervisor → host": SUPERVISOR_TO_HOST,
    "host → supervisor": HOST_TO_SUPERVISOR,
}

CARRIES_DESCRIPTOR: Final = frozenset({OpenData, Listener, OpenWorker, Fork, HandOver, Resume})
"""Records whose frame comes with exactly one descriptor (SCM_RIGHTS); all others come with none."""

RESERVED_TOPICS: Final = frozenset({"ws.join", "ws.leave", "ws.heartbeat"})
"""Topics that only the gateway speaks on (S9), besides all that start with `@`."""

MAX_TOPIC: Final = 256
"""Characters of a topic."""


def topic_is_reserved(topic: str) -> bool:
    """Whether a process may not send on this topic (S9)."""
    return topic.startswith("@") or topic in RESERVED_TOPICS
