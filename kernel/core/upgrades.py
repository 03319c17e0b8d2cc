"""Upgrade: the running code of a process is replaced, and the process lives on (S35).

Owns where each upgrade is. The process, its relations and its worker number stay as they are; only the OS process behind the
worker is another one. So to everybody else nothing happens:

1. `Upgrade` is granted. What is sent to the process from here on waits for its new code.
2. The old code's last frame says that it has handed over, and it exits with 0. When that is known by its wait status and it
   has been reaped, the new code is forked.
3. It is born, like any worker.

Whatever goes wrong is the death of the process: before 2 by what ended the old code, after it by what ends the new one. What
is handed over is nobody's business here, nor the supervisor's.
"""

from __future__ import annotations

from ..wire import messages as m
from ..wire.configuration import Application
from ..wire.errors import LimitExceeded, NotFound, NotPermitted, ProtocolViolation
from ..wire.reason import WireReason
from .effects import PrepareUpgrade, SendToWorker, StartUpgraded
from .endings import WaitStatus
from .executions import Executions
from .limits import Limits
from .population import Population, require
from .processes import Kind, Process, Upgrade, Worker


class Upgrades:
    """What processes ask about upgrade, and what becomes of it."""

    def __init__(
        self, population: Population, application: Application, executions: Executions, limits: Limits
    ) -> None:
        self._population = population
        self._application = application
        self._executions = executions
        self._limits = limits

    def reconfigure(self, application: Application) -> None:
        """Upgrade to what is configured now."""
        self._application = application

    def grant(self, process: Process, request: m.Upgrade) -> bool:
        """Begin an upgrade. Returns whether one has begun: who is being upgraded or killed already asks for nothing more.
        Raises NotPermitted for an invocation, NotFound for an unknown entry."""
        if process.kind is not Kind.ACTOR:
            raise NotPermitted("only a process.python entry is upgraded: an HTTP handler ends with its response")
        entry = process.entry if request.entry is None else request.entry
        made = self._application.processes.get(entry)
        if made is None:
            raise NotFound(f"no process.python entry {entry!r}: expected the id of one, namespace:name")
        worker = self._population.workers[process.worker]
        if worker.host not in self._application.hosts:
            raise NotPermitted(f"{worker.host} is configured no more: nothing is forked there")
        if worker.upgrade is not None or worker.chosen is not None or worker.report is not None:
            return False
        worker.upgrade = Upgrade(request.request, made.id)
        mailbox = self._application.hosts[worker.host].limits.mailbox
        start = m.Start(
            worker.number, process.pid, worker.host, made.id, made.source, made.method, request.arguments, mailbox
        )
        self._population.effects.append(PrepareUpgrade(worker.number, request.request, start))
        return True

    def refuse(self, worker: Worker, detail: str) -> None:
        """What the hand-over needs cannot be had: the old code goes on, and is told."""
        if worker.upgrade is not None:
            failed = m.Failed(worker.upgrade.request, LimitExceeded.code, f"not upgraded: {detail}", None)
            worker.upgrade = None
            self._population.effects.append(SendToWorker(worker.number, failed))

    def handed_over(self, worker: Worker, record: m.HandedOver) -> None:
        """The old code has said its last word. Raises ProtocolViolation if nobody has asked for it."""
        if worker.upgrade is None or worker.report is not None:
            raise ProtocolViolation("a hand-over that nobody has asked for")
        worker.upgrade = worker.upgrade._replace(cpu_used=max(worker.cpu_used, record.cpu))

    def old_code_ended(self, worker: Worker) -> WireReason | None:
        """A worker that has handed over is dead: have its new code forked. Returns why there is to be none, if it was killed
        meanwhile (S30) or has used up its CPU time."""
        upgrade, process = worker.upgrade, self._population.processes.get(worker.pid or "")
        if upgrade is None or upgrade.cpu_used is None or process is None:
            raise AssertionError("only an actor that has handed over is upgraded")
        worker.cpu_used = upgrade.cpu_used
        host = self._application.hosts.get(worker.host)
        if host is not None:
            worker.limits = host.limits  # it is forked anew, perhaps after a reload
        why = worker.chosen or self._limits.cpu_spent(worker)
        if why is not None:
            return why
        self._executions.abandon(process)
        self._limits.upgraded(worker)
        process.entry = upgrade.entry
        worker.upgrade = None
        self._population.effects.append(StartUpgraded(worker.number, worker.host, process.pid, process.entry))
        return None

    def check_invariants(self) -> None:
        """Raise AssertionError if something is upgraded that cannot be."""
        for worker in self._population.workers.values():
            if worker.upgrade is not None:
                require(not worker.is_function and worker.pid is not None, "only actors are upgraded")


def has_handed_over(worker: Worker, status: WaitStatus) -> bool:
    """Whether this worker's end is the end of its old code only: its last frame and its wait status agree (S12)."""
    return worker.upgrade is not None and worker.upgrade.handed_over and status.exit_code == 0
