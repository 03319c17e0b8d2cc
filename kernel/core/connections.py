"""WebSocket connections as processes: admission, transfer, and their end (S44, S47, S51).

The gateway makes their PIDs and decides how they live; here they become processes that others can watch, link and address.
"""

from __future__ import annotations

from ..wire import messages as m
from ..wire.errors import Invalid, NotFound, ProcessError
from ..wire.pid import Pid
from ..wire.reason import KILLED, NOCONNECTION, make_reason
from .effects import SendToGateway
from .population import Population
from .processes import Kind, Process


class Connections:
    """What the gateway asks and tells about its connections."""

    def __init__(self, population: Population, epoch: str) -> None:
        """`epoch` is this boot's."""
        self._population = population
        self._epoch = epoch
        self._last_serial = 0

    def _resolve_target(self, target: str) -> Process:
        holder = self._population.names.get(target)
        process = self._population.processes.get(holder[0] if holder else target)
        if process is None:
            raise NotFound("the target has ended or never was")
        if process.kind is Kind.CONNECTION:
            raise Invalid("the target is a WebSocket connection: expected a process that handles messages")
        return process

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
        self._population.processes[pid] = Process(pid, Kind.CONNECTION, parts.host, parent=request.invocation)
        self._population.effects.append(SendToGateway(m.Admitted(request.request, target.pid, target.worker)))

    def retarget(self, request: m.Retarget) -> None:
        """Resolve the new target of a transfer. Raises NotFound or Invalid like `admit`."""
        if request.connection not in self._population.processes:
            raise NotFound("the connection has ended")
        target = self._resolve_target(request.target)
        target.admissions += 1
        self._population.effects.append(SendToGateway(m.Admitted(request.request, target.pid, target.worker)))

    def abandon(self, request: m.Abandon) -> None:
        """Terminate a target that was spawned for a handshake that came to nothing, and that nobody else joined (S44)."""
        try:
            target = self._resolve_target(request.target)
        except ProcessError:
            return
        others = target.admissions - (request.connection is not None)
        if target.kind is Kind.ACTOR and target.parent == request.invocation and others <= 0:
            self._population.kill(
                target, make_reason(KILLED, "the handshake that it was spawned for was not completed")
            )

    def end(self, notice: m.ConnectionEnded) -> None:
        """Commit a connection's death (S51)."""
        process = self._population.processes.get(notice.connection)
        if process is not None and process.kind is Kind.CONNECTION:
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
        self._population.gateway += 1
        self._last_serial = 0
