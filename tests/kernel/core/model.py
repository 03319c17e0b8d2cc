"""A naive model of a node, written from SEMANTICS.md: lists that are searched, nothing kept on two sides.

It never allocates: PIDs and worker numbers are learned from what the table did. Every method returns the effects that the rules
ask for, in no order, with reasons reduced to kind, value and origin (`plain`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from wsrelay.kernel.core.effects import (
    GraceExpired,
    KillWorker,
    PrepareUpgrade,
    ProcessEnded,
    SendToGateway,
    SendToWorker,
    SetTimer,
    StartUpgraded,
)
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.reason import WireReason


def bare(kind: str, value: bytes | None = None, origin: str | None = None) -> WireReason:
    """A reason without its prose."""
    return WireReason(kind, "", value, None, origin)


def plain(value: Any) -> Any:
    """`value` for comparing: records with the names of their types, without prose."""
    if isinstance(value, WireReason):
        return ("WireReason", value.kind, value.value, value.origin)
    if isinstance(value, m.Failed | m.Refused):
        value = value._replace(message="")
    if isinstance(value, tuple):
        return (type(value).__name__, *map(plain, value))
    return value


@dataclass
class Being:
    """A live process."""

    pid: str
    kind: str
    entry: str
    worker: int = 0
    parent: str = ""
    trap: bool = False
    deadline: float | None = None
    told_to_end: bool = False
    ever_admitted: list[str] = field(default_factory=list)
    joined: bool = False
    target: str = ""
    """A connection's."""
    """The connections that were let in, or transferred, to it."""
    request: int | None = None
    handshake: bool = False
    """An invocation that is to answer a handshake, and has not."""
    named: str | None = None
    """The target that an invocation which failed says it had named."""


@dataclass
class OsProcess:
    """A live worker."""

    number: int
    host: str
    pid: str | None
    is_function: bool
    gateway: int
    """The one that lived when it was started."""
    doom: WireReason | None = None
    report: WireReason | None = None
    unread_cancels: set[str] = field(default_factory=set)
    upgrade: str = ""
    """The entry of the code that is to follow, from the grant to the end of the old one."""
    handed_over: bool = False


class Model:
    """What a node is, by the rules."""

    def __init__(self, function_hosts: dict[str, str], pool_sizes: dict[str, int]) -> None:
        self.function_hosts = function_hosts
        self.pool_sizes = pool_sizes
        self.beings: dict[str, Being] = {}
        self.workers: dict[int, OsProcess] = {}
        self.monitors: list[tuple[str, int, str]] = []
        """Watcher, ref, watched."""
        self.links: list[frozenset[str]] = []
        self.names: dict[str, tuple[str, str]] = {}
        """Name to holder and registrar."""
        self.waiting: list[tuple[int, str]] = []
        """Requests for invocations that nobody serves yet, and their functions."""
        self.handshakes: set[int] = set()
        """The requests, served or not, that are for handshakes."""
        self.closed = False
        self.marked: list[tuple[int, int, int]] = []
        """How far the ends of connections said that workers were written to: gateway, worker, frame."""

    # --- queries ------------------------------------------------------------------------------------------------------

    def free(self, host: str) -> list[OsProcess]:
        """The function workers that an invocation may be given to."""
        return [w for w in self.workers.values() if w.is_function and w.host == host and not w.pid and not w.doom]

    def waiting_for(self, host: str) -> list[int]:
        return [request for request, function in self.waiting if self.function_hosts[function] == host]

    def actors_on(self, host: str) -> int:
        return sum(not worker.is_function and worker.host == host for worker in self.workers.values())

    def peers(self, pid: str) -> list[str]:
        return [peer for link in self.links if pid in link for peer in link - {pid}]

    # --- what the rules ask for ---------------------------------------------------------------------------------------

    def to(self, pid: str, record: tuple[Any, ...]) -> SendToWorker:
        return SendToWorker(self.beings[pid].worker, record)

    def doom(self, pid: str, reason: WireReason) -> Iterator[Any]:
        """It is to die for this reason; the first stands (S12)."""
        being = self.beings[pid]
        if being.kind != "connection":
            yield from self.doom_worker(being.worker, reason)
        elif not being.told_to_end:
            being.told_to_end = True
            yield SendToGateway(m.EndConnection(pid, reason))

    def doom_worker(self, number: int, reason: WireReason) -> Iterator[Any]:
        if self.workers[number].doom is None:
            self.workers[number].doom = reason
            yield KillWorker(number)

    def late_mark(self, watcher: str, pid: str, gateway: int) -> m.Mark | None:
        """S14: behind what is written to the watcher, as far as it may be of a connection that has ended. `gateway` is the one
        that lives."""
        owner = pid.partition("|")[2].split(".")[1]
        if not owner.startswith("g") or int(owner[1:]) > gateway:
            return None
        worker = self.beings[watcher].worker
        if int(owner[1:]) < gateway:
            had_it = self.workers[worker].gateway <= int(owner[1:])
            return m.Mark(int(owner[1:]), m.END_OF_CHANNEL) if had_it else None
        frames = [frame for of, number, frame in self.marked if (of, number) == (gateway, worker)]
        return m.Mark(gateway, max(frames)) if frames else None

    def die(self, pid: str, reason: WireReason, marks: dict[int, int], gateway: int) -> Iterator[Any]:
        """S15, S19, S22, S25."""
        dead = self.beings.pop(pid)
        self.marked += [(gateway, worker, frame) for worker, frame in marks.items()]
        fired = [(watcher, ref) for watcher, ref, target in self.monitors if target == pid and watcher != pid]
        peers = self.peers(pid)
        self.monitors = [monitor for monitor in self.monitors if pid not in (monitor[0], monitor[2])]
        self.links = [link for link in self.links if pid not in link]
        self.names = {name: held for name, held in self.names.items() if held[0] != pid}

        def mark(observer: str) -> m.Mark | None:
            worker = self.beings[observer].worker
            return m.Mark(gateway, marks[worker]) if worker in marks else None

        yield ProcessEnded(pid, dead.entry, reason)
        for watcher, ref in fired:
            yield self.to(watcher, m.Exit(ref, pid, reason, mark(watcher)))
        if reason.kind in ("normal", "cancelled"):
            return
        for peer in peers:
            if self.beings[peer].trap:
                yield self.to(peer, m.LinkDown(pid, reason, mark(peer)))
            else:
                yield from self.doom(peer, bare(reason.kind, reason.value, reason.origin or pid))
        yield from self.abort(dead)

    def abort(self, dead: Being) -> Iterator[Any]:
        """S44: an invocation failed. What it named as the target goes, and if it had a handshake to answer, all that only it
        had a use for; nothing that anybody was let in to."""
        named = self.resolve(dead.named) if dead.named is not None else None
        for child in [being for being in self.beings.values() if being.kind == "actor" and being.parent == dead.pid]:
            named_by_others = any(holder == child.pid for holder, _ in self.names.values())
            linked = any(self.beings[peer].parent != child.pid for peer in self.peers(child.pid))
            used = named_by_others or linked or self.is_member(child.pid)
            if not child.ever_admitted and (child is named or (dead.handshake and not used)):
                yield from self.doom(child.pid, bare("killed"))

    def is_member(self, pid: str) -> bool:
        """Whether it is in a group. There are none here."""
        return False

    def report(self, number: int, reason: WireReason, target: str | None) -> Iterator[Any]:
        """An exit report (S12). It is also an invocation's last word on its target (S44)."""
        worker = self.workers[number]
        if worker.handed_over:
            yield from self.doom_worker(number, bare("protocol"))
            return
        worker.report = reason
        if worker.pid and reason.kind in ("normal", "cancelled"):
            self.beings[worker.pid].handshake = False
        elif worker.pid and self.beings[worker.pid].kind == "invocation":
            self.beings[worker.pid].named = target

    def end_worker(self, number: int, exit_code: int | None, signal: str | None, gateway: int) -> Iterator[Any]:
        """A wait status: S12 and S18."""
        worker = self.workers[number]
        if worker.handed_over and exit_code == 0:
            if worker.doom is not None:
                yield from self.lose_worker(number, worker.doom, gateway)
            else:
                being = self.beings[worker.pid or ""]
                being.entry, worker.upgrade, worker.handed_over = worker.upgrade, "", False
                yield StartUpgraded(number, worker.host, being.pid, being.entry)
            return
        if worker.doom is not None and signal == "SIGKILL":
            reason = worker.doom
        elif worker.report is not None and exit_code == int(worker.report.kind not in ("normal", "cancelled")):
            reason = worker.report
        else:
            reason = bare(f"signal:{signal}" if signal else f"exit:{exit_code}")
        yield from self.lose_worker(number, reason, gateway)

    def upgrade(self, pid: str, request: int, entry: str | None) -> Iterator[Any]:
        """S35: the code is replaced; nobody else notices, so there is nothing else."""
        being = self.beings[pid]
        worker = self.workers[being.worker]
        entry = entry or being.entry
        if being.kind != "actor":
            yield self.to(pid, m.Failed(request, "NotPermitted", "", None))
        elif entry == "t:nothing":
            yield self.to(pid, m.Failed(request, "NotFound", "", None))
        elif not (worker.doom or worker.report or worker.upgrade):
            worker.upgrade = entry
            worker.unread_cancels.clear()
            source = f"file:///{entry[2:]}.py"
            start = m.Start(worker.number, pid, worker.host, entry, source, "main", b"new arguments", 64 << 20)
            yield PrepareUpgrade(worker.number, request, start)

    def hand_over(self, number: int) -> Iterator[Any]:
        worker = self.workers[number]
        if worker.handed_over or worker.report or not worker.upgrade:
            yield from self.doom_worker(number, bare("protocol"))
        else:
            worker.handed_over = True

    def lose_worker(self, number: int, reason: WireReason, gateway: int) -> Iterator[Any]:
        worker = self.workers.pop(number)
        yield SendToGateway(m.WorkerEnded(number, worker.pid or "", reason, False))
        if worker.pid:
            yield from self.die(worker.pid, reason, {}, gateway)

    def cancel(self, target: str, sender: str, grace: int | None, now: float) -> Iterator[Any]:
        """S29; at most one waits per pair (S10)."""
        being = self.beings[target]
        waiting = self.workers[being.worker].unread_cancels
        if sender not in waiting:
            waiting.add(sender)
            yield self.to(target, m.CancelSignal(sender, grace))
        if grace is not None:
            deadline = now + grace / 1000
            if being.deadline is None or deadline < being.deadline:
                being.deadline = deadline
                yield SetTimer(deadline, GraceExpired(target))

    def finish_invocation(self, pid: str, reason: WireReason, gateway: int) -> Iterator[Any]:
        """A handler returned (S57). A worker that is being killed keeps its process to the end (S12)."""
        worker = self.workers[self.beings[pid].worker]
        if worker.doom is not None:
            worker.report = reason
            self.beings[pid].handshake = False
            return
        worker.pid = None
        worker.unread_cancels.clear()
        yield SendToGateway(m.InvocationFinished(worker.number, pid, reason))
        yield from self.die(pid, reason, {}, gateway)

    def resolve(self, target: str) -> Being | None:
        return self.beings.get(self.names[target][0] if target in self.names else target)

    def abandon(self, target: str, invocation: str, connection: str | None) -> Iterator[Any]:
        """S44: what this invocation spawned, and nobody else was let in to."""
        being = self.resolve(target)
        if being is None or being.kind != "actor" or being.parent != invocation:
            return
        if all(admitted == connection for admitted in being.ever_admitted) and len(being.ever_admitted) <= 1:
            yield from self.doom(being.pid, bare("killed"))
