"""Function invocations as processes: granted, ended, given up (S57, S58).

The gateway asks for a free worker; here it becomes a process with a new PID, and stops being one when its handler returns.
Which worker is next is the pools' business.
"""

from __future__ import annotations

from collections.abc import Callable

from ..wire import messages as m
from ..wire.configuration import Application
from ..wire.errors import NotFound, ProcessError, ProtocolViolation
from ..wire.pid import Pid
from ..wire.reason import KILLED, make_reason
from .effects import PoolRefill, SendToGateway, SendToWorker, SetTimer
from .endings import check_report
from .pools import FunctionPools
from .population import Population, require
from .processes import Kind, Process, Worker


class Invocations:
    """What the gateway asks and a worker tells about function invocations."""

    def __init__(
        self,
        population: Population,
        application: Application,
        start_worker: Callable[[str], int],
        make_pid: Callable[[str], Pid],
    ) -> None:
        """`start_worker(host) -> number` forks a function worker; `make_pid(host)` allocates a PID."""
        self._population = population
        self._functions = application.functions
        self._make_pid = make_pid
        self._granted: dict[int, Pid] = {}
        """The gateway's requests to the invocations that run for them."""
        self._pools = FunctionPools(application, start_worker, self._grant, self._retire)
        population.on_doomed = self.worker_doomed
        self.fill_pools = self._pools.fill_all
        self.refill_pool = self._pools.refill
        self.renew_pool = self._pools.renew
        self.close_pools = self._pools.close

    def reconfigure(self, application: Application) -> None:
        """Invoke what is configured now. Requests that wait for a worker wait on, or are refused if there is none for them."""
        self._functions = application.functions
        for request in self._pools.reconfigure(application):
            try:
                self.request(request)
            except ProcessError as error:
                self._population.effects.append(SendToGateway(m.Refused(request.request, error.code, str(error))))

    def _retire(self, number: int) -> None:
        self._population.kill_worker(self._population.workers[number], make_reason(KILLED, "the runtime was reloaded"))

    def request(self, request: m.RequestInvocation) -> None:
        """Grant a worker, now or when one is free. Raises NotFound, or LimitExceeded where there will never be one."""
        if request.function not in self._functions:
            raise NotFound(f"no function.python entry {request.function!r}: expected the id of one, namespace:name")
        self._pools.request(request)

    def _grant(self, request: m.RequestInvocation, number: int) -> None:
        worker = self._population.workers[number]
        entry = self._functions[request.function]
        pid = self._make_pid(worker.host)
        worker.pid = pid
        spawned: dict[str, None] | None = {} if request.handshake else None
        process = Process(pid, Kind.INVOCATION, entry.id, number, request=request.request, spawned=spawned)
        self._population.processes[pid] = process
        self._granted[request.request] = pid
        self._population.effects.append(SendToWorker(number, m.Invoke(pid, entry.id, entry.source, entry.method)))
        self._population.effects.append(SendToGateway(m.Granted(request.request, pid, number)))

    def end(self, process: Process, notice: m.InvocationEnded) -> None:
        """Commit the death of an invocation that returned; its worker is free for the next (S57).

        That of a worker which is being killed is only its report: the wait status is still to come, and decides (S12).
        """
        reason = check_report(notice.reason)
        if process.kind is not Kind.INVOCATION or notice.pid != process.pid or not reason.clean:
            raise ProtocolViolation("an invocation's end that is none")
        worker = self._population.workers[process.worker]
        if worker.report is not None:
            raise ProtocolViolation("an invocation's end after the worker's exit report")
        if worker.chosen is not None:
            worker.report = reason
            return
        worker.pid = None
        self._forget(process)
        self._population.commit(process, reason, m.InvocationFinished(worker.number, process.pid, reason), {})
        self._pools.release(worker.host, worker.number)

    def _forget(self, process: Process) -> None:
        if process.request is not None:
            del self._granted[process.request]

    def withdraw(self, request: m.WithdrawInvocation) -> None:
        """Forget a request, or kill the invocation that was granted for it."""
        process = self._population.processes.get(self._granted.get(request.request, ""))
        if not self._pools.withdraw_request(request.request) and process is not None:
            self._population.kill(process, make_reason(KILLED, "its client went away"))

    def terminate(self, request: m.TerminateInvocation) -> None:
        """Kill an invocation that took too long (S58)."""
        process = self._population.processes.get(request.pid)
        if process is not None and process.kind is Kind.INVOCATION:
            self._population.kill(process, make_reason(KILLED, "it took longer than timeouts.request"))

    def gateway_lost(self) -> None:
        """Nobody waits for what was asked: forget it. Invocations run on, and are nobody's answer; the next gateway counts
        its requests from 1 (S41)."""
        self._pools.withdraw_all()
        for pid in self._granted.values():
            self._population.processes[pid].request = None
        self._granted.clear()

    def worker_doomed(self, worker: Worker) -> None:
        """A worker is about to be killed: grant it no more."""
        self._pools.withdraw_worker(worker.host, worker.number)

    def worker_removed(self, worker: Worker, process: Process | None, now: float) -> None:
        """A function worker is dead; `process` is what it was when it died. Replace it, now or a little later."""
        if process is not None:
            self._forget(process)
        if deadline := self._pools.remove_worker(worker.host, worker.number, crashed_idle=process is None, now=now):
            self._population.effects.append(SetTimer(deadline, PoolRefill(worker.host)))

    def check_invariants(self) -> None:
        """Raise AssertionError if requests, invocations, pools and workers disagree."""
        processes = self._population.processes
        for request, pid in self._granted.items():
            require(pid in processes and processes[pid].request == request, "a request is granted to a live invocation")
        requests = {one.request for one in processes.values() if one.kind is Kind.INVOCATION} - {None}
        require(requests == self._granted.keys(), "an invocation runs for one request, or for a gateway that is dead")
        self._pools.check_invariants(self._population.workers)
