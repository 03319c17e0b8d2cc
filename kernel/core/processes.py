"""The records of the process table: one for each live process, worker and host."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from ..wire.configuration import HostLimits
from ..wire.messages import RequestInvocation
from ..wire.pid import Pid
from ..wire.reason import WireReason


class Kind(enum.Enum):
    """What a process is."""

    ACTOR = "actor"
    INVOCATION = "invocation"
    CONNECTION = "connection"


@dataclass(slots=True, eq=False)
class Process:
    """A live process. Relations are kept on both sides and always agree (`check_invariants`)."""

    pid: Pid
    kind: Kind
    entry: str
    worker: int = 0
    """The number of its worker; 0 for a connection."""
    parent: str = ""
    """Who spawned it."""
    trap_links: bool = False
    monitoring: dict[int, str] = field(default_factory=dict)
    """Its monitors: ref to the PID watched."""
    watchers: dict[tuple[str, int], None] = field(default_factory=dict)
    """Who monitors it: (PID, ref), in order of making."""
    links: dict[str, None] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    """How often it has joined each of its groups (S33)."""
    watching: dict[int, str] = field(default_factory=dict)
    """Its watches: ref to the group."""
    executing: dict[int, str] = field(default_factory=dict)
    """The children that it waits for: request to PID (S34)."""
    executor: tuple[str, int] | None = None
    """Who waits for its end: PID and request."""
    service: str = ""
    """The id of the service that it is a process of (S36)."""
    admissions: int = 0
    """How many connections were ever admitted to it (S44)."""
    joined: bool = False
    """Whether any of them has joined (S44)."""
    target: str = ""
    """For a connection: the PID of its target."""
    target_service: str = ""
    """For a connection: the id of the service that its target is a process of (S56)."""
    deadline: float | None = None
    """When its grace runs out (S29)."""
    ending: bool = False
    """A connection that the gateway has been told to end."""
    request: int | None = None
    """For an invocation: the gateway's request; None if that gateway is dead."""
    spawned: dict[str, None] | None = None
    """For an invocation that is to answer a handshake, until it has: the actors that it spawned and that live (S44)."""
    named: str | None = None
    """For an invocation that says that it failed: the target that it had named (S44)."""


class Upgrade(NamedTuple):
    """A process's code is being replaced (S35)."""

    request: int
    entry: str
    """Of the new code."""
    cpu_used: int | None = None
    """Set when the old code has written its last frame: what that says, in milliseconds."""

    @property
    def handed_over(self) -> bool:
        """Whether the old code has written its last frame."""
        return self.cpu_used is not None


@dataclass(slots=True, eq=False)
class Worker:
    """An OS process that runs an actor, or one invocation after another. An actor that is upgraded gets another OS process."""

    number: int
    host: str
    is_function: bool
    limits: HostLimits
    """Of its host when it was started: a reload changes those of the workers that come after it."""
    gateway: int
    """The incarnation of the gateway when it was started: it never had a channel to one before."""
    pid: Pid | None = None
    """The process that it is now."""
    chosen: WireReason | None = None
    """Why the runtime killed it; the first choice stands (S12)."""
    report: WireReason | None = None
    upgrade: Upgrade | None = None
    """From its grant until the old code has ended."""
    cpu_used: int = 0
    """Milliseconds of CPU time of the OS processes before this one, as they have told."""
    ended_at: int = 0
    """The last frame of its data channel that had to do with a connection which has ended (S14); 0 if none had."""


@dataclass(slots=True, eq=False)
class Pool:
    """The function workers of a host, and who waits for one."""

    size: int
    workers: set[int] = field(default_factory=set)
    free: deque[int] = field(default_factory=deque)
    waiting: dict[int, RequestInvocation] = field(default_factory=dict)
    """By their numbers, first come first served."""
    refilling: bool = False
    stale: set[int] = field(default_factory=set)
    """Workers of old code that end as soon as they are free."""
