"""The records of a journal: what each process of the runtime, and a test, notes for the checker of the invariants.

Owns the records and their names: `journal` writes them, `wsrelay.tools.faults.journal` reads and merges them. A record holds
numbers, sizes, PIDs, names, topics and kinds of reasons; never a payload, a query string or a token. Times are not in the
records: every line of a journal has one.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Opened(NamedTuple):
    """The first record of every file."""

    role: str
    """`supervisor`, `gateway`, `host`, `worker`, or what a test calls itself."""
    os_pid: int


# --- the supervisor: who lives ----------------------------------------------------------------------------------------


class Booted(NamedTuple):
    """A boot of the runtime begins (S1)."""

    node: str
    epoch: str


class Spawned(NamedTuple):
    """A process exists from here on (S3). `worker` is 0 for a connection."""

    pid: str
    kind: str
    """`actor`, `invocation` or `connection`."""
    entry: str
    worker: int
    parent: str
    """Who spawned it; for a connection the invocation that named its target. Empty for the runtime itself."""
    service: str
    """The id of the service that it is a process of, or empty."""


class Born(NamedTuple):
    """A worker has an OS process. `pid` is empty for an idle function worker."""

    worker: int
    pid: str
    os_pid: int


class Upgraded(NamedTuple):
    """The old code of a process is dead, and its new code is to be forked (S35): no death, and another `Born` follows."""

    pid: str
    entry: str


class Died(NamedTuple):
    """A death is committed (S12). What follows it, up to the next record of another kind than told, is who is told."""

    pid: str
    kind: str
    """The reason's kind (S18)."""
    origin: str
    """The PID whose death came down a link, or empty."""


class ExitTold(NamedTuple):
    """The monitor `ref` of `watcher` fired (S19)."""

    watcher: str
    ref: int
    pid: str
    kind: str
    origin: str


class LinkDownTold(NamedTuple):
    """`peer` traps, and is told of the end of a process that it was linked to (S25)."""

    peer: str
    pid: str
    kind: str
    origin: str


class KillOrdered(NamedTuple):
    """The table wants a worker or a connection killed; its reason follows with its death (S12). One of the two is set."""

    worker: int
    pid: str


# --- the supervisor: what was asked, and granted ----------------------------------------------------------------------


class MonitorMade(NamedTuple):
    """`watcher` monitors `pid`, which may be dead (S19, S20)."""

    watcher: str
    ref: int
    pid: str


class MonitorRemoved(NamedTuple):
    """`unmonitor` was answered. `ref` is 0 if all monitors of `pid` were meant (S19, S21)."""

    watcher: str
    ref: int
    pid: str


class LinkMade(NamedTuple):
    """`one` linked to `other`, which may be dead (S23, S24)."""

    one: str
    other: str


class LinkRemoved(NamedTuple):
    """`unlink` was answered (S27)."""

    one: str
    other: str


class TrapSet(NamedTuple):
    """`set_options` was answered (S28)."""

    pid: str
    trap: bool


class Named(NamedTuple):
    """`pid` has the name (S5, S32, S36)."""

    name: str
    pid: str


class NameRefused(NamedTuple):
    """Somebody wanted a name that `holder` has; `holder` is empty if it is kept for a service."""

    name: str
    caller: str
    holder: str


class Unnamed(NamedTuple):
    """The name was unregistered."""

    name: str
    caller: str


class LookedUp(NamedTuple):
    """A name was resolved; `pid` is empty if nobody has it."""

    name: str
    caller: str
    pid: str


class GroupJoined(NamedTuple):
    """`pid` has joined a group `times` times now (S33)."""

    group: str
    pid: str
    times: int


class GroupLeft(NamedTuple):
    """One join was taken back; `times` are left."""

    group: str
    pid: str
    times: int


class MembersListed(NamedTuple):
    """A group was resolved."""

    group: str
    caller: str
    pids: tuple[str, ...]


class TerminateAsked(NamedTuple):
    """`terminate` of a process (S30)."""

    caller: str
    pid: str


class CancelAsked(NamedTuple):
    """`cancel` of a process (S29); `grace` in milliseconds, -1 for none."""

    caller: str
    pid: str
    grace: int


# --- the supervisor: services, the runtime's parts, OS processes ------------------------------------------------------


class ServiceConfigured(NamedTuple):
    """A service and its restart policy (S36 to S38). Times are in seconds."""

    service: str
    type: str
    initial_delay: float
    max_delay: float
    factor: float
    jitter: float
    intensity: int
    period: float
    stable_threshold: float
    register: str


class ServiceChanged(NamedTuple):
    """A service is in another state (the states of docs/services.md)."""

    service: str
    state: str


class Stopping(NamedTuple):
    """The runtime shuts down: nothing starts or restarts from here on (S39)."""


class GatewayStarted(NamedTuple):
    """The gateway was executed."""

    incarnation: int
    os_pid: int


class GatewayServes(NamedTuple):
    """The gateway accepts connections."""

    incarnation: int


class GatewayLost(NamedTuple):
    """The gateway is dead, and its connections with it (S41)."""

    incarnation: int


class ChildKnown(NamedTuple):
    """The runtime has this child: it may be signalled from here on, until it is reaped (S2)."""

    os_pid: int


class Signalled(NamedTuple):
    """A signal was sent to an OS process, or with `group` to the process group that it leads."""

    os_pid: int
    signal: int
    group: bool


class Reaped(NamedTuple):
    """The child is gone, and its number may be another's."""

    os_pid: int


class TableSizes(NamedTuple):
    """The sizes of the process table, when they have changed and nothing goes on for a moment."""

    sizes: tuple[tuple[str, int], ...]


# --- the gateway ------------------------------------------------------------------------------------------------------


class Joined(NamedTuple):
    """`ws.join` was written: the `epoch`-th target of this connection, from 1 (S45, S47)."""

    connection: str
    target: str
    epoch: int


class Left(NamedTuple):
    """That bracket is over: by `ws.leave`, or because the target died, then `reason` is empty. `messages` were accepted from
    the client for this target in this epoch."""

    connection: str
    target: str
    epoch: int
    messages: int
    reason: str


class CloseSent(NamedTuple):
    """A Close frame was sent (S49); `code` is 0 for an empty one."""

    connection: str
    code: int
    cause: str
    """What led to it: the name of the session's event, such as `TargetEnded`."""
    kind: str
    """For `TargetEnded`, the kind of the reason."""
    restarting: bool
    """For `TargetEnded`, whether the target will be restarted."""


class ConnectionOver(NamedTuple):
    """The connection is dead, for this reason (S51)."""

    connection: str
    kind: str


# --- a worker's library -----------------------------------------------------------------------------------------------


class Sent(NamedTuple):
    """A message to processes of the supervisor has left the process (S7)."""

    pid: str
    to: tuple[str, ...]
    topic: str
    size: int


class Readable(NamedTuple):
    """A message or an event has become readable (S14). `arrival` counts up within one process."""

    pid: str
    arrival: int
    what: str
    """`message`, `EXIT`, `LINK_DOWN`, `CANCEL` or `GROUP`."""
    sender: str
    topic: str
    """Of a message; those of a client are `ws.message` here, whatever the topic of its stream."""
    size: int
    ref: int
    """Of an EXIT or GROUP, else 0."""
    kind: str
    """The reason's kind, of EXIT, LINK_DOWN and `ws.leave`; of a resumed `ws.join`, `resumed`."""
    epoch: int
    """The incarnation of the gateway, for what came on the data channel; else 0."""


class Taken(NamedTuple):
    """The handler has received it."""

    pid: str
    what: str
    sender: str
    topic: str


class Waiting(NamedTuple):
    """The handler wants to receive, and nothing is there. If this is the last that a live process has written, it has read
    all that came to it: unless it is stopped, it is waiting still."""

    pid: str


# --- a test: handlers, clients, samples -------------------------------------------------------------------------------


class NumberSent(NamedTuple):
    """A handler has sent the `number`-th item of its stream to `to`."""

    pid: str
    to: str
    number: int


class NumberReceived(NamedTuple):
    """A handler has received the `number`-th item of `sender`'s stream: a process's, or a client's, whose PID is `sender`
    and whose name in the test is `stream`."""

    pid: str
    sender: str
    stream: str
    number: int


class ClientOpened(NamedTuple):
    """A client's handshake is complete."""

    stream: str


class ClientSent(NamedTuple):
    """A client has sent the `number`-th item of its stream, from 1."""

    stream: str
    number: int


class ClientReceived(NamedTuple):
    """A client has received a message: the `number`-th item of the stream of the process `sender`, if that is known."""

    stream: str
    number: int
    sender: str = ""


class ClientClosed(NamedTuple):
    """A client's line has ended; `code` is that of the server's Close frame, 1005 for an empty one, 1006 without one."""

    stream: str
    code: int


class ClientCut(NamedTuple):
    """The test cuts a client's line, or stops reading for good: 1006 is its own doing."""

    stream: str


class FaultInjected(NamedTuple):
    """The test does something to an OS process, or to the runtime."""

    fault: str
    os_pid: int


class Sample(NamedTuple):
    """A measurement: `what` of `whose` in a phase. Phases have meaning: `baseline` and `end` are compared (invariant 15),
    `undisturbed` and `disturbed` too (invariant 11). Latencies are in seconds, memory in bytes, the rest are counts."""

    what: str
    whose: str
    phase: str
    value: float


class Bound(NamedTuple):
    """What samples may be at most, in any phase (invariant 11)."""

    what: str
    whose: str
    value: float


class LeftBehind(NamedTuple):
    """After its end, something of the runtime was still there (invariant 10)."""

    what: str
    os_pid: int


class Note(NamedTuple):
    """Anything else that a test wants in the story."""

    pid: str
    what: str
    number: int


RECORDS: Final[tuple[type, ...]] = (
    Opened, Booted, Spawned, Born, Upgraded, Died, ExitTold, LinkDownTold, KillOrdered,
    MonitorMade, MonitorRemoved, LinkMade, LinkRemoved, TrapSet, Named, NameRefused, Unnamed, LookedUp,
    GroupJoined, GroupLeft, MembersListed, TerminateAsked, CancelAsked,
    ServiceConfigured, ServiceChanged, Stopping, GatewayStarted, GatewayServes, GatewayLost,
    ChildKnown, Signalled, Reaped, TableSizes,
    Joined, Left, CloseSent, ConnectionOver, Sent, Readable, Taken, Waiting,
    NumberSent, NumberReceived, ClientOpened, ClientSent, ClientReceived, ClientClosed, ClientCut,
    FaultInjected, Sample, Bound, LeftBehind, Note,
)  # fmt: skip
"""Every record there is."""

BY_NAME: Final[dict[str, type]] = {record.__name__: record for record in RECORDS}
