"""What the supervisor notes: who lives and who is told of a death, what was asked and granted, services, and the runtime's parts."""

from __future__ import annotations

from typing import Final, NamedTuple

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


class GroupWatched(NamedTuple):
    """`watcher` watches a group, and is answered with its members (S33)."""

    watcher: str
    ref: int
    group: str
    pids: tuple[str, ...]


class GroupUnwatched(NamedTuple):
    """`unwatch` was answered."""

    watcher: str
    ref: int


class GroupTold(NamedTuple):
    """A watcher is told that `pid` is a member now, or no longer (S33)."""

    watcher: str
    ref: int
    pid: str
    joined: bool


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


SUPERVISOR_RECORDS: Final[tuple[type, ...]] = (
    Booted, Spawned, Born, Upgraded, Died, ExitTold, LinkDownTold, KillOrdered, MonitorMade, MonitorRemoved,
    LinkMade, LinkRemoved, TrapSet, Named, NameRefused, Unnamed, LookedUp, GroupJoined, GroupLeft, MembersListed,
    GroupWatched, GroupUnwatched, GroupTold, TerminateAsked, CancelAsked, ServiceConfigured, ServiceChanged, Stopping, GatewayStarted, GatewayServes,
    GatewayLost, ChildKnown, Signalled, Reaped, TableSizes,
)  # fmt: skip
