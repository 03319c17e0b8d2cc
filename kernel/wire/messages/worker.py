"""The control channel of a worker, both ways."""

from __future__ import annotations

from typing import Final, NamedTuple

from ..reason import WireReason
from .mark import Mark

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
    an invocation that answered, as in InvocationEnded; of one that failed, the PID or the name that it had named last (S44)."""

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
