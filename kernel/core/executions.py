"""exec: a child that is run for its value (S34).

Owns who waits for whom. An Execute has exactly one answer: the end of its child, or Timeout. Whoever does not get the end has
the child killed, and the child's death is then nothing to it: it is no monitor, so no EXIT comes of it.
"""

from __future__ import annotations

from ..wire import messages as m
from ..wire.errors import Timeout
from ..wire.reason import KILLED, WireReason, make_reason
from .effects import ExecutionOverdue, SendToWorker, SetTimer
from .population import Population, require
from .processes import Process
from .spawning import Spawning


class Executions:
    """What processes ask about exec. Both sides of each execution are on the processes: `executing` and `executor`."""

    def __init__(self, population: Population, spawning: Spawning) -> None:
        self._population = population
        self._spawning = spawning
        population.on_ended.append(self._process_ended)

    def execute(self, caller: Process, request: m.Execute, now: float) -> None:
        """Spawn the child. Raises what spawn raises."""
        self._spawning.check(request.entry, request.host)
        self._population.check_room(caller.executing, "executions")
        self._population.check_new_ref(caller.executing, request.request)
        child = self._spawning.create(request.entry, request.host, request.arguments, parent=caller.pid)
        child.executor = (caller.pid, request.request)
        caller.executing[request.request] = child.pid
        if request.timeout is not None:
            self._population.effects.append(SetTimer(now + request.timeout / 1000, ExecutionOverdue(child.pid)))

    def give_up(self, caller: Process, request: m.GiveUp) -> None:
        """The caller has stopped waiting. Nothing happens if the Execute was answered meanwhile."""
        if request.execution in caller.executing:
            self._withdraw(caller, request.execution, "its caller gave up")

    def timed_out(self, event: ExecutionOverdue) -> None:
        """A timer has come. Nothing happens if the Execute was answered meanwhile."""
        child = self._population.processes.get(event.pid)
        if child is not None and child.executor is not None:
            caller, request = child.executor
            self._withdraw(self._population.processes[caller], request, "its caller's timeout ran out")

    def _withdraw(self, caller: Process, request: int, why: str) -> None:
        """Answer Timeout, and kill the child."""
        child = self._population.processes[caller.executing.pop(request)]
        child.executor = None
        failed = m.Failed(request, Timeout.code, f"{child.entry} was killed before it ended: {why}", None)
        self._population.effects.append(SendToWorker(caller.worker, failed))
        self._population.kill(child, make_reason(KILLED, why))

    def _process_ended(self, process: Process, reason: WireReason) -> None:
        """Answer whoever executed it, and kill whom it executed."""
        if process.executor is not None:
            caller, request = process.executor
            del self._population.processes[caller].executing[request]
            executed = m.Executed(request, process.pid, reason)
            self._population.effects.append(SendToWorker(self._population.processes[caller].worker, executed))
        self._kill_executed(process, "its caller ended")

    def abandon(self, caller: Process) -> None:
        """The code that waits is replaced (S35): nobody is answered, and the children are killed."""
        self._kill_executed(caller, "its caller was upgraded")
        caller.executing.clear()

    def _kill_executed(self, caller: Process, why: str) -> None:
        for pid in caller.executing.values():
            child = self._population.processes[pid]
            child.executor = None
            self._population.kill(child, make_reason(KILLED, why))

    def check_invariants(self) -> None:
        """Raise AssertionError if caller and child disagree."""
        live = self._population.processes
        for pid, process in live.items():
            for request, child in process.executing.items():
                require(child in live and live[child].executor == (pid, request), "a caller's child knows its caller")
            if process.executor is not None:
                caller, request = process.executor
                require(caller in live and live[caller].executing.get(request) == pid, "a child's caller waits for it")
