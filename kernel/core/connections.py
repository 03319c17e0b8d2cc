"""WebSocket connections as processes: the promise of a target, admission, transfer, and their end (S44, S47, S51); and what a
handshake leaves behind that never became one.

The gateway makes their PIDs and decides how they live; here they become processes that others can watch, link and address.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..wire import messages as m
from ..wire.errors import Invalid, NotFound, ProcessError
from ..wire.pid import Pid
from ..wire.reason import KILLED, NOCONNECTION, WireReason, make_reason
from .effects import SendToGateway
from .population import Population, require
from .processes import Kind, Process


class Connections:
    """What the gateway asks and tells about its connections."""

    def __init__(self, population: Population, epoch: str) -> None:
        """`epoch` is this boot's."""
        self._population = population
        self._epoch = epoch
        self._last_serial = 0
        self._promised: dict[str, None] = {}
        """Targets that an invocation spawned and answered with, and that nobody has joined yet (S44)."""
        population.on_ended.append(self._ended)

    def _ended(self, process: Process, reason: WireReason) -> None:
        self._promised.pop(process.pid, None)
        parent = self._population.processes.get(process.parent)
        if parent is not None and parent.spawned is not None:
            parent.spawned.pop(process.pid, None)
        if not reason.clean:
            self._clean_up(process)

    def _clean_up(self, invocation: Process) -> None:
        """An invocation has failed: its handshake leaves no process behind (S44). Nobody is admitted to the target that it has
        said it named. If it has said nothing, it is not known which of its children was meant for the client: those that nothing else
        holds. What a link with the invocation is about to kill ends for that reason (S25)."""
        targets = self._unclaimed(invocation.spawned) if invocation.spawned is not None else []
        if named := self._own_target(invocation, invocation.named):
            targets.insert(0, named)
        for target in targets:
            if not target.admissions and (target.trap_links or target.pid not in invocation.links):
                self._terminate(target)

    def _unclaimed(self, pids: Iterable[str]) -> list[Process]:
        """Those that have no name, are in no group, and are linked to nobody but to what they have spawned themselves."""
        processes = self._population.processes
        return [
            one
            for one in map(processes.__getitem__, pids)
            if not (one.names or one.groups or any(processes[peer].parent != one.pid for peer in one.links))
        ]

    def _resolve_target(self, target: str) -> Process:
        holder = self._population.names.get(target)
        process = self._population.processes.get(holder[0] if holder else target)
        if process is None:
            raise NotFound("the target has ended or never was")
        if process.kind is Kind.CONNECTION:
            raise Invalid("the target is a WebSocket connection: expected a process that handles messages")
        return process

    def _own_target(self, invocation: Process, target: str | None) -> Process | None:
        """The process that `target` names, if this very invocation spawned it (S44)."""
        if target is None or invocation.kind is not Kind.INVOCATION:
            return None
        try:
            process = self._resolve_target(target)
        except ProcessError:
            return None
        return process if process.kind is Kind.ACTOR and process.parent == invocation.pid else None

    def reported(self, invocation: Process, reason: WireReason, target: str | None) -> None:
        """A worker says that its handler has ended. If it failed, nobody will join the target that it had named."""
        if reason.clean:
            self.promise(invocation, target)
        else:
            invocation.named = target

    def promise(self, invocation: Process, target: str | None) -> None:
        """An invocation has answered, with this target. If its gateway is dead, nobody will join one that it spawned (S44).
        Whatever else it spawned is its own affair from now on."""
        invocation.spawned = None
        process = self._own_target(invocation, target)
        if process is not None and not process.joined:
            if invocation.request is None:
                self._terminate(process)
            else:
                self._promised[process.pid] = None

    def joined(self, notice: m.Joined) -> None:
        """A handshake is complete: the target lives on, whatever becomes of the connection (S44)."""
        connection = self._population.processes.get(notice.connection)
        target = self._population.processes.get(connection.target) if connection is not None else None
        if target is not None:
            self._join(target)

    def _join(self, target: Process) -> None:
        target.joined = True
        self._promised.pop(target.pid, None)

    def admit(self, request: m.Admit) -> None:
        """Enter a connection. Raises NotFound for a dead target, Invalid for a PID that is not new."""
        pid = Pid.parse(request.connection)
        parts = pid.parts
        if (
            parts.gateway_incarnation != self._population.gateway
            or parts.epoch != self._epoch
            or parts.serial <= self._last_serial
        ):
            raise Invalid("a connection's PID must be new and of this gateway")
        target = self._resolve_target(request.target)
        self._last_serial = parts.serial
        target.admissions += 1
        connection = Process(pid, Kind.CONNECTION, parts.host, parent=request.invocation)
        connection.target, connection.target_service = target.pid, target.service
        self._population.processes[pid] = connection
        self._population.effects.append(_admitted(request, target))

    def retarget(self, request: m.Retarget) -> None:
        """Resolve the new target of a transfer. Raises NotFound or Invalid like `admit`."""
        connection = self._population.processes.get(request.connection)
        if connection is None:
            raise NotFound("the connection has ended")
        target = self._resolve_target(request.target)
        target.admissions += 1
        connection.target, connection.target_service = target.pid, target.service
        self._join(target)
        self._population.effects.append(_admitted(request, target))

    def abandon(self, request: m.Abandon) -> None:
        """Terminate a target that was spawned for a handshake that came to nothing, and that nobody else joined (S44)."""
        try:
            target = self._resolve_target(request.target)
        except ProcessError:
            return
        others = target.admissions - (request.connection is not None)
        if target.kind is Kind.ACTOR and target.parent == request.invocation and others <= 0:
            self._terminate(target)

    def _terminate(self, target: Process) -> None:
        self._population.kill(target, make_reason(KILLED, "the handshake that it was spawned for was not completed"))

    def end(self, notice: m.ConnectionEnded) -> None:
        """Commit a connection's death (S51)."""
        process = self._population.processes.get(notice.connection)
        if process is not None and process.kind is Kind.CONNECTION:
            for number, frame in notice.marks:
                if worker := self._population.workers.get(number):
                    worker.ended_at = max(worker.ended_at, frame)
            self._population.commit(process, notice.reason, None, dict(notice.marks))

    def gateway_lost(self) -> None:
        """Commit the death of every connection: its gateway is dead. The next connections are the next incarnation's (S41).

        The notices are to be seen behind everything on the dead gateway's channels, and behind the `ws.leave` of each join,
        which the workers' libraries make when those have ended.
        """
        reason = make_reason(NOCONNECTION, "gateway_lost")
        marks = dict.fromkeys(self._population.workers, m.END_OF_CHANNEL)
        for process in [one for one in self._population.processes.values() if one.kind is Kind.CONNECTION]:
            self._population.commit(process, reason, None, marks)
        for pid in list(self._promised):  # those whose handshakes were under way (S44)
            self._terminate(self._population.processes[pid])
        self._promised.clear()
        for worker in self._population.workers.values():
            worker.ended_at = 0
        self._population.gateway += 1
        self._last_serial = 0

    def check_invariants(self) -> None:
        """Raise AssertionError if a target is promised that is dead, or joined, or a handshake's children are not its own."""
        for pid in self._promised:
            process = self._population.processes.get(pid)
            require(process is not None and not process.joined, "a promised target lives, and waits for its first join")
        for process in self._population.processes.values():
            for child in process.spawned or ():
                spawned = self._population.processes.get(child)
                require(spawned is not None and spawned.parent == process.pid, "a handshake knows its live children")


def _admitted(request: m.Admit | m.Retarget, target: Process) -> SendToGateway:
    return SendToGateway(m.Admitted(request.request, target.pid, target.worker, target.entry, target.joined))
