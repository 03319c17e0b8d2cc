"""The population: every live process and worker, their relations, and what a death does to them.

Owns the records and keeps both sides of each relation in step: monitors, links and names. What a process may ask for is the
business of the table's rooms; here is what follows. Effects are collected in `effects`, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..wire import messages as m
from ..wire.errors import LimitExceeded, ProtocolViolation
from ..wire.pid import Pid
from ..wire.reason import WireReason
from .effects import Effect, KillWorker, ProcessEnded, SendToGateway, SendToWorker
from .processes import Kind, Process, Worker

MAX_RELATIONS = 100_000
"""Monitors, links or names that one process may hold."""


class Population:
    """Who lives, who watches whom, who is linked to whom, who has which name."""

    def __init__(self, gateway: int) -> None:
        """`gateway` is the gateway's incarnation."""
        self.processes: dict[str, Process] = {}
        self.workers: dict[int, Worker] = {}
        self.names: dict[str, tuple[str, str]] = {}
        """Name to (holder, registrar)."""
        self.effects: list[Effect] = []
        self.gateway = gateway
        self.on_doomed: Callable[[Worker], None] = lambda worker: None
        """Told of a worker that is about to be killed."""
        self.on_ended: list[Callable[[Process, WireReason], None]] = []
        """Told of a death when the dead is in no table any more, and before any notice of it (S15)."""

    def take_effects(self) -> list[Effect]:
        """Return the effects collected since the last call."""
        effects, self.effects = self.effects, []
        return effects

    def reply(self, process: Process, request: int, value: str | int | None = None) -> None:
        """Answer a request."""
        self.effects.append(SendToWorker(process.worker, m.Reply(request, value)))

    # --- relations ----------------------------------------------------------------------------------------------------

    @staticmethod
    def check_room(relations: dict[Any, Any], what: str) -> None:
        """Raise LimitExceeded if a process holds too many of these."""
        if len(relations) >= MAX_RELATIONS:
            raise LimitExceeded(f"a process may hold {MAX_RELATIONS} {what}")

    @staticmethod
    def check_new_ref(relations: dict[int, str], ref: int) -> None:
        """Raise ProtocolViolation if one of these has this ref already (S19). That it never had is its owner's business; refs
        need not rise: a signal handler may ask in the midst of asking."""
        if ref in relations:
            raise ProtocolViolation("a request's number is used twice")

    @staticmethod
    def add_monitor(watcher: Process, ref: int, target: Process) -> None:
        """Watch `target` (S19)."""
        watcher.monitoring[ref] = target.pid
        target.watchers[watcher.pid, ref] = None

    def remove_monitor(self, watcher: Process, ref: int) -> None:
        """Stop watching; nothing happens if the monitor is gone (S21)."""
        pid = watcher.monitoring.pop(ref, None)
        if pid is not None:
            del self.processes[pid].watchers[watcher.pid, ref]

    @staticmethod
    def add_link(one: Process, other: Process) -> None:
        """Link both ways; a self-link does nothing (S23)."""
        if one is not other:
            one.links[other.pid] = None
            other.links[one.pid] = None

    def remove_link(self, one: Process, other: str) -> None:
        """Unlink; nothing happens if there is no link (S27)."""
        if other in one.links:
            del one.links[other]
            del self.processes[other].links[one.pid]

    # --- killing (S12, S30) -------------------------------------------------------------------------------------------

    def kill(self, process: Process, reason: WireReason) -> None:
        """Have a process killed for this reason. Its death is committed when it is true."""
        if process.kind is not Kind.CONNECTION:
            self.kill_worker(self.workers[process.worker], reason)
        elif not process.ending:
            process.ending = True
            self.effects.append(SendToGateway(m.EndConnection(process.pid, reason)))

    def kill_worker(self, worker: Worker, reason: WireReason) -> None:
        """Have a worker killed; the first reason stands."""
        if worker.chosen is None:
            worker.chosen = reason
            self.on_doomed(worker)
            self.effects.append(KillWorker(worker.number))

    # --- death (S12, S15, S22, S25) -----------------------------------------------------------------------------------

    def commit(
        self, process: Process, reason: WireReason, notice: tuple[Any, ...] | None, marks: dict[int, int]
    ) -> None:
        """Make a death true, once. Everything that could still find the process goes first (S15), then the notices."""
        pid = process.pid
        del self.processes[pid]
        for name in process.names:
            del self.names[name]
        for ref, target in process.monitoring.items():
            if target != pid:
                del self.processes[target].watchers[pid, ref]
        for peer in process.links:
            del self.processes[peer].links[pid]
        if notice is not None:
            self.effects.append(SendToGateway(notice))
        self.effects.append(ProcessEnded(pid, process.entry, reason))
        for told in self.on_ended:
            told(process, reason)
        for watcher, ref in process.watchers:
            self._notify_watcher(watcher, ref, pid, reason, marks)
        if not reason.clean:
            inherited = reason if reason.origin else reason._replace(origin=pid)
            for peer in process.links:
                self._break_link(self.processes[peer], pid, reason, inherited, marks)

    def _notify_watcher(self, watcher: str, ref: int, pid: Pid, reason: WireReason, marks: dict[int, int]) -> None:
        process = self.processes.get(watcher)
        if process is not None:  # the dead may have watched itself
            del process.monitoring[ref]
            exit_notice = m.Exit(ref, pid, reason, self._mark(process.worker, marks))
            self.effects.append(SendToWorker(process.worker, exit_notice))

    def _break_link(
        self, peer: Process, pid: Pid, reason: WireReason, inherited: WireReason, marks: dict[int, int]
    ) -> None:
        if peer.trap_links:
            link_down = m.LinkDown(pid, reason, self._mark(peer.worker, marks))
            self.effects.append(SendToWorker(peer.worker, link_down))
        else:
            self.kill(peer, inherited)

    def late_mark(self, watcher: Process, pid: Pid) -> m.Mark | None:
        """How far a process must have read before it may see that `pid` has ended, though it asks only now (S14): what a
        connection had sent it may still be on its data channel. For one of a dead gateway that is its channel's end (S41),
        if it had one: who came later would wait for the next gateway."""
        incarnation, worker = pid.parts.gateway_incarnation, self.workers[watcher.worker]
        if incarnation < self.gateway:
            return m.Mark(incarnation, m.END_OF_CHANNEL) if worker.gateway <= incarnation else None
        frame = worker.ended_at if incarnation == self.gateway else 0
        return m.Mark(incarnation, frame) if frame else None

    def _mark(self, worker: int, marks: dict[int, int]) -> m.Mark | None:
        frame = marks.get(worker)
        return None if frame is None else m.Mark(self.gateway, frame)

    # --- invariants ---------------------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Raise AssertionError if the two sides of any relation disagree, or a relation names a dead process."""
        live = self.processes
        for pid, process in live.items():
            require(pid == process.pid, "the table's key is the process's PID")
            for ref, target in process.monitoring.items():
                require(target in live and (pid, ref) in live[target].watchers, "monitors are kept on both sides")
            for watcher, ref in process.watchers:
                require(watcher in live and live[watcher].monitoring.get(ref) == pid, "watchers are kept on both sides")
            for peer in process.links:
                require(peer in live and pid in live[peer].links and peer != pid, "links are kept on both sides")
            for name in process.names:
                require(self.names[name][0] == pid, "a process's names are its own")
            if process.kind is not Kind.CONNECTION:
                require(self.workers[process.worker].pid == pid, "a process's worker is that process")
        for number, worker in self.workers.items():
            require(number == worker.number, "the table's key is the worker's number")
            if worker.pid is None:
                require(worker.is_function, "an actor's worker is that actor until it is dead")
            else:
                require(worker.pid in live and live[worker.pid].worker == number, "a worker's process lives")
        for name, (holder, _) in self.names.items():
            require(holder in live and name in live[holder].names, "a name's holder lives")


def require(condition: bool, law: str) -> None:
    if not condition:
        raise AssertionError(law)
