"""The process table: who lives, who watches whom, and what follows when one dies.

Owns every PID of the node, parents, monitors, links, names and function pools. Knows no socket, OS process or clock: it is
told what happened (`from_worker`, `from_gateway`, `worker_exited`, …, with the time) and answers with effects, to be
performed in order. Every rule of SEMANTICS sections 1 to 6 that concerns more than one process is decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..wire import messages as m
from ..wire.configuration import Application
from ..wire.errors import (
    AlreadyExists,
    LimitExceeded,
    NoProc,
    NotFound,
    NotPermitted,
    ProcessError,
    ProtocolViolation,
)
from ..wire.pid import SUPERVISOR_OWNER, Pid, check_name
from ..wire.reason import KILLED, NOCONNECTION, PROTOCOL, WireReason, make_reason, noproc
from .connections import Connections
from .effects import (
    Effect,
    GraceExpired,
    PoolRefill,
    SendToGateway,
    SendToWorker,
    SetTimer,
    StartWorker,
)
from .endings import WaitStatus, check_report, reason_of_death
from .invocations import Invocations
from .population import Population, require
from .processes import Kind, Process, Worker


class ProcessTable:
    """The state of one node. Every public method returns the effects to perform, in order."""

    def __init__(self, application: Application, *, node: str, epoch: str, gateway: int = 1) -> None:
        """`epoch` is this boot's, 16 hexadecimal digits (S1); `gateway` the incarnation of the gateway to start with."""
        self._application = application
        self._node = node
        self._epoch = epoch
        self._last_serial = 0
        self._last_worker = 0
        self._population = Population(gateway)
        self._processes = self._population.processes
        self._workers = self._population.workers
        self._actors = dict.fromkeys(application.hosts, 0)
        self._invocations = Invocations(self._population, application, self._start_function_worker, self._make_pid)
        self._cancels_waiting: dict[int, set[str]] = {}
        """Worker to the senders of CANCELs that may be unread (S10). Dropped when the queue is written (`mail_written`)."""
        self._connections = connections = Connections(self._population, epoch)
        self._on_worker: dict[type, Callable[[Process, Any], None]] = {
            m.Send: self._send,
            m.Spawn: self._spawn,
            m.Monitor: self._monitor,
            m.Unmonitor: self._unmonitor,
            m.UnmonitorAll: self._unmonitor_all,
            m.Link: self._link,
            m.Unlink: self._unlink,
            m.Terminate: self._terminate,
            m.SetOptions: self._set_options,
            m.Register: self._register,
            m.Unregister: self._unregister,
            m.Lookup: self._lookup,
            m.InvocationEnded: self._invocation_ended,
        }
        self._on_gateway: dict[type, Callable[[Any], None]] = {
            m.Admit: connections.admit,
            m.Retarget: connections.retarget,
            m.Abandon: connections.abandon,
            m.ConnectionEnded: connections.end,
            m.RequestInvocation: self._invocations.request,
            m.WithdrawInvocation: self._invocations.withdraw,
            m.TerminateInvocation: self._invocations.terminate,
            m.ReportViolation: self._report_violation,
        }

    # --- what happened ------------------------------------------------------------------------------------------------

    def start(self) -> list[Effect]:
        """Fill the function pools."""
        self._invocations.fill_pools()
        return self._population.take_effects()

    def from_worker(self, number: int, record: tuple[Any, ...], now: float) -> list[Effect]:
        """A worker wrote a record on its control channel. One that is not its to write kills it (S11)."""
        worker = self._workers.get(number)
        if worker is None:
            return []
        try:
            if type(record) is m.ExitReport:
                worker.report = check_report(record.reason)
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
            if type(record) is m.Cancel:
                self._cancel(process, record, now)
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
            self._population.kill_worker(worker, make_reason("limit:mailbox", "its unread mail exceeds limits.mailbox"))
        return self._population.take_effects()

    def worker_exited(self, number: int, status: WaitStatus, now: float) -> list[Effect]:
        """The kernel says that a worker is dead; its control channel has been drained (S14)."""
        if worker := self._workers.get(number):
            self._remove_worker(worker, reason_of_death(worker.chosen, worker.report, status), now)
        return self._population.take_effects()

    def worker_failed(self, number: int, detail: str, now: float) -> list[Effect]:
        """A worker never came to be: its host could not fork it, or died before it had."""
        if worker := self._workers.get(number):
            self._remove_worker(worker, worker.chosen or make_reason(NOCONNECTION, detail), now)
        return self._population.take_effects()

    def timer_fired(self, event: GraceExpired | PoolRefill, now: float) -> list[Effect]:
        """A timer that was asked for has come."""
        if isinstance(event, PoolRefill):
            self._invocations.refill_pool(event.host)
        else:
            process = self._processes.get(event.pid)
            if process is not None and process.deadline is not None and process.deadline <= now:
                self._population.kill(process, make_reason(KILLED, "its grace after CANCEL ran out"))
        return self._population.take_effects()

    def cancel_all(self, now: float, grace: float) -> list[Effect]:
        """Ask every actor to end within `grace` seconds: the runtime shuts down."""
        for process in list(self._processes.values()):
            if process.kind is Kind.ACTOR:
                self._signal_cancel(process, "", round(grace * 1000), now)
        return self._population.take_effects()

    def kill_all(self) -> list[Effect]:
        """Kill every worker: the runtime shuts down. Function pools are not refilled."""
        self._invocations.close_pools()
        for worker in self._workers.values():
            self._population.kill_worker(worker, make_reason(KILLED, "the runtime shuts down"))
        return self._population.take_effects()

    def mail_written(self, number: int) -> None:
        """All that was queued for a worker has been written: none of its CANCELs waits here any more (S10)."""
        if self._cancels_waiting:
            self._cancels_waiting.pop(number, None)

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

    def actors(self) -> int:
        """How many actors live."""
        return sum(self._actors.values())

    def statistics(self) -> dict[str, int]:
        """Sizes of the tables."""
        return {
            "processes": len(self._processes),
            "workers": len(self._workers),
            "names": len(self._population.names),
            "monitors": sum(len(process.monitoring) for process in self._processes.values()),
            "links": sum(len(process.links) for process in self._processes.values()) // 2,
        }

    # --- spawn (S3, S4) -----------------------------------------------------------------------------------------------

    def _make_pid(self, host: str) -> Pid:
        self._last_serial += 1
        return Pid.make(self._node, host, self._epoch, SUPERVISOR_OWNER, self._last_serial)

    def _start_worker(self, host: str, pid: Pid | None, entry: tuple[str, str, str], arguments: bytes) -> Worker:
        self._last_worker += 1
        worker = Worker(self._last_worker, host, is_function=pid is None, pid=pid)
        self._workers[worker.number] = worker
        mailbox = self._application.hosts[host].limits.mailbox
        start = m.Start(worker.number, pid or "", host, *entry, arguments, mailbox)
        self._population.effects.append(StartWorker(worker.number, host, start))
        return worker

    def _start_function_worker(self, host: str) -> int:
        return self._start_worker(host, None, ("", "", ""), b"").number

    def _spawn(self, parent: Process, request: m.Spawn) -> None:
        entry = self._application.processes.get(request.entry)
        if entry is None:
            raise NotFound(f"no process.python entry {request.entry!r}: expected the id of one, namespace:name")
        host = self._application.hosts.get(request.host)
        if host is None:
            raise NotFound(f"no process.host entry {request.host!r}: expected the id of one, namespace:name")
        if self._actors[host.id] >= host.max_processes:
            raise LimitExceeded(f"{host.id} is full: it runs {host.max_processes} processes (max_processes)")
        if request.link:
            self._population.check_room(parent.links, "links")
        if request.monitor:
            self._population.check_room(parent.monitoring, "monitors")
            self._population.check_new_ref(parent, request.request)
        pid = self._make_pid(host.id)
        worker = self._start_worker(host.id, pid, (entry.id, entry.source, entry.method), request.arguments)
        child = Process(pid, Kind.ACTOR, entry.id, worker.number, parent=parent.pid)
        self._processes[pid] = child
        self._actors[host.id] += 1
        if request.link:
            self._population.add_link(parent, child)
        if request.monitor:
            self._population.add_monitor(parent, request.request, child)
        self._reply(parent, request.request, pid)

    # --- sending (S6, S8, S9) -----------------------------------------------------------------------------------------

    def _send(self, sender: Process, message: m.Send) -> None:
        if m.topic_is_reserved(message.topic) or len(message.topic) > m.MAX_TOPIC:
            raise ProtocolViolation("a message on a topic that is reserved or too long")
        deliver = m.Deliver(sender.pid, message.topic, message.payload)
        for pid in message.destinations:
            process = self._processes.get(pid)
            if process is None:
                continue
            if process.kind is Kind.CONNECTION:
                raise ProtocolViolation("a message to a connection on the control channel")
            self._population.effects.append(SendToWorker(process.worker, deliver))

    def _reply(self, process: Process, request: int, value: str | int | None = None) -> None:
        self._population.effects.append(SendToWorker(process.worker, m.Reply(request, value)))

    # --- monitors (S19 to S22) ----------------------------------------------------------------------------------------

    def _monitor(self, watcher: Process, request: m.Monitor) -> None:
        pid = Pid.parse(request.pid)
        self._population.check_room(watcher.monitoring, "monitors")
        self._population.check_new_ref(watcher, request.request)
        target = self._processes.get(pid)
        if target is not None:
            self._population.add_monitor(watcher, request.request, target)
        self._reply(watcher, request.request)
        if target is None:
            self._population.effects.append(SendToWorker(watcher.worker, m.Exit(request.request, pid, noproc(), None)))

    def _unmonitor(self, watcher: Process, request: m.Unmonitor) -> None:
        self._population.remove_monitor(watcher, request.ref)
        self._reply(watcher, request.request)

    def _unmonitor_all(self, watcher: Process, request: m.UnmonitorAll) -> None:
        for ref in [ref for ref, pid in watcher.monitoring.items() if pid == request.pid]:
            self._population.remove_monitor(watcher, ref)
        self._reply(watcher, request.request)

    # --- links (S23 to S28) -------------------------------------------------------------------------------------------

    def _link(self, caller: Process, request: m.Link) -> None:
        pid = Pid.parse(request.pid)
        self._population.check_room(caller.links, "links")
        peer = self._processes.get(pid)
        if peer is not None:
            self._population.add_link(caller, peer)
        elif not caller.trap_links:
            raise NoProc(f"{pid} has ended or never was: nothing to link to (set trap_links to get LINK_DOWN instead)")
        self._reply(caller, request.request)
        if peer is None:
            self._population.effects.append(SendToWorker(caller.worker, m.LinkDown(pid, noproc(), None)))

    def _unlink(self, caller: Process, request: m.Unlink) -> None:
        self._population.remove_link(caller, request.pid)
        self._reply(caller, request.request)

    def _set_options(self, process: Process, request: m.SetOptions) -> None:
        process.trap_links = request.trap_links
        self._reply(process, request.request)

    # --- cancel, terminate (S29 to S31) -------------------------------------------------------------------------------

    def _cancel(self, sender: Process, request: m.Cancel, now: float) -> None:
        process = self._processes.get(request.pid)
        if process is None:
            return
        if process.kind is Kind.CONNECTION:
            raise ProtocolViolation("CANCEL of a connection on the control channel")
        self._signal_cancel(process, sender.pid, request.grace, now)

    def _signal_cancel(self, process: Process, sender: str, grace: int | None, now: float) -> None:
        waiting = self._cancels_waiting.setdefault(process.worker, set())
        if sender not in waiting:
            waiting.add(sender)
            self._population.effects.append(SendToWorker(process.worker, m.CancelSignal(sender, grace)))
        if grace is not None:
            deadline = now + grace / 1000
            if process.deadline is None or deadline < process.deadline:
                process.deadline = deadline
                self._population.effects.append(SetTimer(deadline, GraceExpired(process.pid)))

    def _terminate(self, sender: Process, request: m.Terminate) -> None:
        if process := self._processes.get(request.pid):
            self._population.kill(process, make_reason(KILLED, f"terminated by {sender.pid}"))

    # --- names (S32) --------------------------------------------------------------------------------------------------

    def _register(self, registrar: Process, request: m.Register) -> None:
        name = check_name(request.name)
        process = self._processes.get(Pid.parse(request.pid))
        if process is None:
            raise NoProc(f"{request.pid} has ended or never was: it cannot be named {name!r}")
        holder = self._population.names.get(name)
        if holder is not None and holder[0] != process.pid:
            raise AlreadyExists(f"the name {name!r} belongs to {holder[0]}", pid=holder[0])
        if holder is None:
            self._population.check_room(process.names, "names")
            self._population.names[name] = (process.pid, registrar.pid)
            process.names[name] = None
        self._reply(registrar, request.request)

    def _unregister(self, caller: Process, request: m.Unregister) -> None:
        holder = self._population.names.get(request.name)
        if holder is None:
            raise NotFound(f"no process has the name {request.name!r:.200}")
        if caller.pid not in holder:
            raise NotPermitted(f"the name {request.name!r} belongs to {holder[0]}: only it, or who registered it, may")
        del self._population.names[request.name]
        del self._processes[holder[0]].names[request.name]
        self._reply(caller, request.request)

    def _lookup(self, caller: Process, request: m.Lookup) -> None:
        holder = self._population.names.get(request.name)
        self._reply(caller, request.request, holder[0] if holder else None)

    # --- the ends of workers ------------------------------------------------------------------------------------------

    def _invocation_ended(self, process: Process, notice: m.InvocationEnded) -> None:
        self._invocations.end(process, notice)
        if process.pid not in self._processes:
            self._cancels_waiting.pop(process.worker, None)  # they were for this process, not for the worker's next

    def _remove_worker(self, worker: Worker, reason: WireReason, now: float) -> None:
        del self._workers[worker.number]
        self._cancels_waiting.pop(worker.number, None)
        process = self._processes.get(worker.pid) if worker.pid is not None else None
        ended = m.WorkerEnded(worker.number, worker.pid or "", reason, restarting=False)
        if process is not None:
            self._population.commit(process, reason, ended, {})
        else:
            self._population.effects.append(SendToGateway(ended))
        if worker.is_function:
            self._invocations.worker_removed(worker, process, now)
        else:
            self._actors[worker.host] -= 1

    def _report_violation(self, report: m.ReportViolation) -> None:
        if worker := self._workers.get(report.worker):
            self._population.kill_worker(worker, make_reason(PROTOCOL, report.detail))

    # --- invariants ---------------------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Raise AssertionError if the tables disagree with each other."""
        self._population.check_invariants()
        for host, count in self._actors.items():
            actors = sum(worker.host == host and not worker.is_function for worker in self._workers.values())
            require(count == actors, "the count of a host's actors is right")
        self._invocations.check_invariants()
