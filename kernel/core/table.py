"""The process table: who lives, who watches whom, and what follows when one dies.

Owns every PID of the node. Knows no socket, OS process or clock: it is told what happened (`from_worker`, `from_gateway`,
`worker_exited`, …, with the time) and answers with effects, to be performed in order. Every rule of SEMANTICS sections 1 to 7
that concerns more than one process is decided by one of its rooms, which all work on the same population. What is decided here
is whose business something is, what it means that a worker has written what is not its to write, and in which order the rooms
hear of a death.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..wire import messages as m
from ..wire.configuration import Application
from ..wire.errors import ProcessError, ProtocolViolation
from ..wire.reason import KILLED, LIMIT_MAILBOX, NOCONNECTION, PROTOCOL, WireReason, make_reason
from . import census
from .cancellation import Cancellation
from .connections import Connections
from .effects import (
    Effect,
    ExecutionOverdue,
    GraceExpired,
    PoolRefill,
    ProbeDue,
    RestartDue,
    SendToGateway,
    SendToWorker,
    StartOverdue,
    Timer,
)
from .endings import WaitStatus, check_report, reason_of_death
from .executions import Executions
from .groups import Groups
from .holds import Holds
from .invocations import Invocations
from .limits import Limits
from .names import Names
from .population import Population
from .processes import Process, Worker
from .relations import Relations
from .routes import Routes
from .service_states import State
from .services import Services
from .spawning import Spawning
from .upgrades import Upgrades, has_handed_over


class ProcessTable:
    """The state of one node. Every public method returns the effects to perform, in order."""

    def __init__(
        self, application: Application, *, node: str, epoch: str, random: Callable[[], float], gateway: int = 1
    ) -> None:
        """`epoch` is this boot's, 16 hexadecimal digits (S1); `gateway` the incarnation of the gateway to start with;
        `random() -> [0, 1)` spreads restarts (S38)."""
        self._population = Population(gateway)
        self._processes = self._population.processes
        self._workers = self._population.workers
        self._names = Names(self._population, application.services.values())
        self._spawning = Spawning(self._population, self._names, application, node=node, epoch=epoch)
        self._invocations = Invocations(
            self._population, application, self._spawning.start_function_worker, self._spawning.make_pid
        )
        self._groups = Groups(self._population)
        self._executions = Executions(self._population, self._spawning)
        relations = Relations(self._population)
        routes = Routes(self._population)
        self._cancellation = cancellation = Cancellation(self._population)
        self._services = Services(self._population, self._spawning, cancellation, application.services, random)
        self._holds = Holds(self._population, self._names, self._services)
        self._limits = Limits(self._population)
        self._upgrades = Upgrades(self._population, application, self._executions, self._limits)
        self._connections = connections = Connections(self._population, epoch)
        self.mail_route = routes.route
        """The supervisor's fast path. It and `mail_written` are the rooms' own: there is no time for another call."""
        self.mail_written = cancellation.mail_written
        """To be told that all that was queued for a worker has been written."""
        self._on_worker: dict[type, Callable[[Process, Any], None]] = {
            m.Send: routes.send,
            m.Spawn: self._spawning.spawn,
            m.SpawnNamed: self._spawning.spawn,
            m.GiveUp: self._executions.give_up,
            m.Monitor: relations.monitor,
            m.Unmonitor: relations.unmonitor,
            m.UnmonitorAll: relations.unmonitor_all,
            m.Link: relations.link,
            m.Unlink: relations.unlink,
            m.Terminate: cancellation.terminate,
            m.SetOptions: relations.set_options,
            m.Register: self._names.register,
            m.Unregister: self._names.unregister,
            m.Lookup: self._names.lookup,
            m.JoinGroup: self._groups.join,
            m.LeaveGroup: self._groups.leave,
            m.ListMembers: self._groups.list_members,
            m.WatchGroup: self._groups.watch,
            m.UnwatchGroup: self._groups.unwatch,
            m.Upgrade: self._upgrade,
            m.InvocationEnded: self._invocation_ended,
        }
        self._on_worker_in_time: dict[type, Callable[[Process, Any, float], None]] = {
            m.Cancel: cancellation.cancel,
            m.Execute: self._executions.execute,
        }
        self._on_gateway: dict[type, Callable[[Any], None]] = {
            m.Admit: connections.admit,
            m.Retarget: connections.retarget,
            m.Abandon: connections.abandon,
            m.Joined: connections.joined,
            m.AwaitService: self._holds.wait,
            m.ConnectionEnded: connections.end,
            m.RequestInvocation: self._invocations.request,
            m.WithdrawInvocation: self._invocations.withdraw,
            m.TerminateInvocation: self._invocations.terminate,
            m.ReportViolation: self._report_violation,
        }
        self._on_timer: dict[type, Callable[[Any, float], None]] = {
            GraceExpired: cancellation.grace_expired,
            PoolRefill: lambda event, now: self._invocations.refill_pool(event.host),
            StartOverdue: lambda event, now: self._services.start_overdue(event),
            RestartDue: self._services.restart_due,
            ExecutionOverdue: lambda event, now: self._executions.timed_out(event),
            ProbeDue: self._limits.probe_due,
        }

    # --- what happened ------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        """Fill the function pools, and start the services (S39)."""
        self._invocations.fill_pools()
        self._services.start_all(now)
        return self._population.take_effects()

    def from_worker(self, number: int, record: tuple[Any, ...], now: float) -> list[Effect]:
        """A worker wrote a record on its control channel. One that is not its to write kills it (S11)."""
        worker = self._workers.get(number)
        if worker is None:
            return []
        try:
            if worker.upgrade is not None and worker.upgrade.handed_over:
                raise ProtocolViolation("a record after HandedOver")
            if type(record) is m.ExitReport:
                worker.report = check_report(record.reason)
                if invocation := self._processes.get(worker.pid or ""):
                    self._connections.reported(invocation, worker.report, record.target)
            elif type(record) is m.Alive:
                self._limits.answered(worker, record)
            elif type(record) is m.HandedOver:
                self._upgrades.handed_over(worker, record)
            else:
                self._from_process(worker, record, now)
        except ProtocolViolation as violation:
            self._population.kill_worker(worker, make_reason(PROTOCOL, str(violation)))
        return self._population.take_effects()

    def _from_process(self, worker: Worker, record: tuple[Any, ...], now: float) -> None:
        process = self._processes.get(worker.pid) if worker.pid is not None else None
        if process is None:
            raise ProtocolViolation(f"{type(record).__name__} from a worker that is no process")
        try:
            if in_time := self._on_worker_in_time.get(type(record)):
                in_time(process, record, now)
            else:
                self._on_worker[type(record)](process, record)
        except ProcessError as error:
            request = getattr(record, "request", None)
            if request is None:
                raise ProtocolViolation(f"{type(record).__name__}: {error}") from None
            failed = m.Failed(request, error.code, str(error), getattr(error, "pid", None))
            self._population.effects.append(SendToWorker(process.worker, failed))

    def from_gateway(self, record: tuple[Any, ...]) -> list[Effect]:
        """The gateway wrote a record that is the table's business."""
        try:
            self._on_gateway[type(record)](record)
        except ProcessError as error:
            self._population.effects.append(SendToGateway(m.Refused(record[0], error.code, str(error))))
        return self._population.take_effects()

    def worker_born(self, number: int, now: float) -> list[Effect]:
        """A worker has been forked. If it is a service's, the service has started (S39)."""
        worker = self._workers.get(number)
        if worker is not None:
            self._limits.born(worker, now)
        process = self._processes.get(worker.pid) if worker is not None and worker.pid is not None else None
        if process is not None:
            self._services.born(process, now)
        return self._population.take_effects()

    def worker_has_read(self, number: int) -> None:
        """A worker has read from its control channel, which was full."""
        if worker := self._workers.get(number):
            self._limits.has_read(worker)

    def worker_measured(self, number: int, memory: int, processes: int = 0, disk: int = 0) -> list[Effect]:
        """A worker, with its descendants, has so many bytes of memory, OS processes and threads, and bytes on disk."""
        if worker := self._workers.get(number):
            self._limits.measured(worker, memory, processes, disk)
        return self._population.take_effects()

    def gateway_lost(self) -> list[Effect]:
        """The gateway is dead, and what it wrote has been handled: so are its connections (S41). The next incarnation begins."""
        self._connections.gateway_lost()
        self._invocations.gateway_lost()
        return self._population.take_effects()

    def worker_violated(self, number: int, detail: str) -> list[Effect]:
        """A worker wrote bytes that are no frame (S11)."""
        if worker := self._workers.get(number):
            self._population.kill_worker(worker, make_reason(PROTOCOL, detail))
        return self._population.take_effects()

    def worker_lost(self, number: int, detail: str = "its control channel ended") -> list[Effect]:
        """A channel of a worker has ended and the worker lives on: fence it (S13, S43)."""
        if worker := self._workers.get(number):
            self._population.kill_worker(worker, make_reason(NOCONNECTION, detail))
        return self._population.take_effects()

    def worker_overflowed(self, number: int) -> list[Effect]:
        """A worker's unread mail is over its host's bound (S10)."""
        if worker := self._workers.get(number):
            self._population.kill_worker(worker, make_reason(LIMIT_MAILBOX, "its unread mail exceeds limits.mailbox"))
        return self._population.take_effects()

    def worker_exited(self, number: int, status: WaitStatus, now: float) -> list[Effect]:
        """The kernel says that a worker is dead; its control channel has been drained (S14). If it was upgraded, that is only
        the end of its old code (S35)."""
        if worker := self._workers.get(number):
            if has_handed_over(worker, status):
                reason = self._upgrades.old_code_ended(worker)
            else:
                limit = self._limits.kernel_reason(worker, status)
                reason = reason_of_death(worker.chosen, worker.report, status, limit)
            if reason is not None:
                self._remove_worker(worker, reason, now)
        return self._population.take_effects()

    def upgrade_refused(self, number: int, detail: str) -> list[Effect]:
        """The channels for a worker's new code could not be made."""
        if worker := self._workers.get(number):
            self._upgrades.refuse(worker, detail)
        return self._population.take_effects()

    def worker_failed(self, number: int, detail: str, now: float) -> list[Effect]:
        """A worker never came to be: its host could not fork it, or died before it had."""
        if worker := self._workers.get(number):
            self._remove_worker(worker, worker.chosen or make_reason(NOCONNECTION, detail), now)
        return self._population.take_effects()

    def timer_fired(self, event: Timer, now: float) -> list[Effect]:
        """A timer that was asked for has come."""
        self._on_timer[type(event)](event, now)
        return self._population.take_effects()

    def start_service(self, service: str, now: float) -> list[Effect]:
        """Start a service by its id, and what it requires (S37, S39). Raises NotFound, or Invalid while it is being stopped."""
        self._services.start(service, now)
        return self._population.take_effects()

    def stop_service(self, service: str, now: float) -> list[Effect]:
        """Stop a service by its id, after those that require it (S39). Raises NotFound."""
        self._services.stop(service, now)
        return self._population.take_effects()

    def replace_service(self, service: str, now: float) -> list[Effect]:
        """Restart a service because somebody asks for it: CANCEL, `stop_timeout`, the next process. Nothing happens to one that
        does not run. Raises NotFound."""
        self._services.replace(service, now)
        return self._population.take_effects()

    def notify_service(self, service: str) -> list[Effect]:
        """Tell the process of a service, if it has one, that there is new code."""
        self._services.notify(service)
        return self._population.take_effects()

    def reconfigure(self, application: Application, now: float) -> list[Effect]:
        """Run this configuration from now on. Nobody's process ends but those of services that are configured no more, and
        function workers that are too many. What must be replaced is told by `renew_functions` and `replace_service`."""
        self._names.keep_for(application.services.values())
        self._spawning.reconfigure(application)
        self._upgrades.reconfigure(application)
        self._invocations.reconfigure(application)
        self._services.reconfigure(application.services, now)
        return self._population.take_effects()

    def renew_functions(self, host: str) -> list[Effect]:
        """Replace the function workers of a host, each as soon as it is free."""
        self._invocations.renew_pool(host)
        return self._population.take_effects()

    def end_restarts(self) -> list[Effect]:
        """The runtime is about to shut down: what runs goes on, and no service starts or restarts any more (S39)."""
        self._services.end_restarts()
        return self._population.take_effects()

    def cancel_all(self, now: float, grace: float) -> list[Effect]:
        """The runtime shuts down: stop the services in reverse order, each within its `stop_timeout` (S39), and ask every
        other actor to end within `grace` seconds."""
        self._services.stop_all(now)
        self._cancellation.signal_actors(round(grace * 1000), now)
        return self._population.take_effects()

    def kill_all(self) -> list[Effect]:
        """Kill every worker: the runtime shuts down. Nothing is replaced or restarted."""
        self._invocations.close_pools()
        self._services.kill_all()
        for worker in self._workers.values():
            self._population.kill_worker(worker, make_reason(KILLED, "the runtime shuts down"))
        return self._population.take_effects()

    # --- views --------------------------------------------------------------------------------------------------------

    def workers(self) -> list[int]:
        """The numbers of all workers that are not dead."""
        return list(self._workers)

    @property
    def gateway(self) -> int:
        """The gateway's incarnation, or the next one's if it is dead."""
        return self._population.gateway

    def worker_pid(self, number: int) -> str:
        """The process that a worker is now; empty for an idle function worker."""
        worker = self._workers.get(number)
        return (worker.pid or "") if worker is not None else ""

    def worker_facts(self, number: int) -> dict[str, str | int]:
        """What a worker runs: PID, entry and the sizes of its tables; an idle function worker has empty ones."""
        return census.worker_facts(self._population, self.worker_pid(number))

    def actors(self) -> int:
        """How many actors live."""
        return self._spawning.actors()

    def census(self) -> tuple[int, int]:
        """How many connections, and how many other processes live."""
        return census.census(self._population)

    def services(self) -> dict[str, tuple[State, str]]:
        """Every service's state, and the PID of its process or an empty string."""
        return self._services.states()

    def stop_time(self) -> float:
        """How many seconds the services may take to stop (S39)."""
        return self._services.stop_time()

    def statistics(self) -> dict[str, int]:
        """Sizes of the tables."""
        return census.statistics(self._population)

    # --- what concerns several rooms ----------------------------------------------------------------------------------

    def _upgrade(self, process: Process, request: m.Upgrade) -> None:
        if self._upgrades.grant(process, request):
            self._cancellation.forget(process.worker)  # they are ahead of the grant, and so will be read

    def _invocation_ended(self, process: Process, notice: m.InvocationEnded) -> None:
        self._invocations.end(process, notice)
        self._connections.promise(process, notice.target)
        if process.pid not in self._processes:
            self._cancellation.forget(process.worker)  # they were for this process, not for the worker's next

    def _remove_worker(self, worker: Worker, reason: WireReason, now: float) -> None:
        del self._workers[worker.number]
        self._limits.removed(worker)
        self._cancellation.forget(worker.number)
        process = self._processes.get(worker.pid) if worker.pid is not None else None
        verdict = self._services.judge(process, reason, now) if process is not None else None
        restarting = verdict is not None and verdict.returns
        ended = m.WorkerEnded(worker.number, worker.pid or "", reason, restarting)
        if process is not None:
            self._population.commit(process, reason, ended, {})
        else:
            self._population.effects.append(SendToGateway(ended))
        if worker.is_function:
            self._invocations.worker_removed(worker, process, now)
        else:
            self._spawning.actor_removed(worker)
        if process is not None and verdict is not None:
            self._services.settle(process.service, verdict, now)

    def _report_violation(self, report: m.ReportViolation) -> None:
        if worker := self._workers.get(report.worker):
            self._population.kill_worker(worker, make_reason(PROTOCOL, report.detail))

    # --- invariants ---------------------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Raise AssertionError if the tables disagree with each other."""
        for room in (
            self._population, self._names, self._spawning, self._groups, self._executions, self._invocations, self._services,
            self._limits, self._connections, self._holds, self._upgrades, self._cancellation,
        ):  # fmt: skip
            room.check_invariants()
