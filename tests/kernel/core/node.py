"""A small node to test the process table by hand: short calls, and the effects sorted by who gets them."""

from __future__ import annotations

import signal
from typing import Any

from wsrelay.kernel.core.effects import (
    Effect,
    KillWorker,
    ProcessEnded,
    RestartDue,
    SendToGateway,
    SendToWorker,
    SetTimer,
    StartWorker,
)
from wsrelay.kernel.core.endings import WaitStatus
from wsrelay.kernel.core.table import ProcessTable
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import Application, Entry, HostConfiguration, HostLimits, Service
from wsrelay.kernel.wire.reason import WireReason, make_reason

EPOCH = "00112233445566ff"
GATEWAY = 3
STRANGER = f"{{n@t:host|{EPOCH}.s.999999}}"
SIGKILL = WaitStatus(None, signal.SIGKILL)


class Node:
    """One host with two function workers and room for three actors; a root actor's parent is an invocation."""

    def __init__(self, *services: Service, max_processes: int = 3, limits: HostLimits = HostLimits()) -> None:  # noqa: B008
        self.random = 0.5
        host = HostConfiguration("t:host", max_processes=max_processes, functions=2, limits=limits)
        self.table = ProcessTable(
            Application(
                hosts={
                    "t:host": host,
                    "t:none": HostConfiguration("t:none", functions=0),
                },
                processes={"t:actor": Entry("t:actor", "file:///actor.py", "main")},
                functions={"t:f": Entry("t:f", "file:///f.py", "f"), "t:never": Entry("t:never", "file:///f.py", "g")},
                function_hosts={"t:f": "t:host", "t:never": "t:none"},
                services={service.id: service for service in services},
            ),
            node="n",
            epoch=EPOCH,
            gateway=GATEWAY,
            random=lambda: self.random,
        )
        self.now = 100.0
        self.requests = 0
        self.worker: dict[str, int] = {}
        """Of every process that ever was."""
        self.log: list[Effect] = []
        """The effects of the last call."""
        self.done(self.table.start(self.now))

    def done(self, effects: list[Effect]) -> list[Effect]:
        self.table.check_invariants()
        for effect in effects:
            if isinstance(effect, StartWorker) and effect.start.pid:
                self.worker[effect.start.pid] = effect.worker
            elif isinstance(effect, SendToGateway) and isinstance(effect.record, m.Granted):
                self.worker[effect.record.pid] = effect.record.worker
        self.log = effects
        return effects

    def number(self) -> int:
        self.requests += 1
        return self.requests

    # --- doing --------------------------------------------------------------------------------------------------------

    def says(self, pid: str, record: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """`pid` writes a record. Returns what it is sent for it."""
        self.done(self.table.from_worker(self.worker[pid], record, self.now))
        return self.to(pid)

    def gateway(self, record: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """The gateway writes a record. Returns what it is sent for it."""
        self.done(self.table.from_gateway(record))
        return self.to_gateway()

    def invoke(self, *, handshake: bool = False) -> str:
        request = self.number()
        [granted] = self.gateway(m.RequestInvocation(request, "t:f", handshake))
        return str(granted[1])

    def spawn(self, parent: str, *, link: bool = False, monitor: bool = False) -> str:
        [reply] = self.says(parent, m.Spawn(self.number(), "t:actor", "t:host", b"", link, monitor))
        assert isinstance(reply, m.Reply), reply
        return str(reply.value)

    def link(self, one: str, other: str) -> None:
        request = self.number()
        assert self.says(one, m.Link(request, other)) == [m.Reply(request, None)]

    def monitor(self, watcher: str, target: str) -> int:
        request = self.number()
        assert self.says(watcher, m.Monitor(request, target)) == [m.Reply(request, None)]
        return request

    def trap(self, pid: str) -> None:
        self.says(pid, m.SetOptions(self.number(), True))

    def admit(self, target: str, serial: int, invocation: str = "") -> str:
        pid = f"{{n@t:http|{EPOCH}.g{GATEWAY}.{serial}}}"
        [admitted] = self.gateway(m.Admit(self.number(), pid, target, invocation))
        assert isinstance(admitted, m.Admitted), admitted
        return pid

    def dies(self, pid: str, status: WaitStatus = SIGKILL, report: WireReason | None = None) -> WireReason:
        """Its worker ends. Returns the reason of its death."""
        if report is not None:
            self.done(self.table.from_worker(self.worker[pid], m.ExitReport(report), self.now))
        self.done(self.table.worker_exited(self.worker[pid], status, self.now))
        [ended] = [effect for effect in self.log if isinstance(effect, ProcessEnded)]
        assert ended.pid == pid
        return ended.reason

    def returns(self, pid: str) -> None:
        self.says(pid, m.InvocationEnded(pid, make_reason("normal")))

    # --- services -----------------------------------------------------------------------------------------------------

    def state(self, service: str) -> str:
        return self.table.services()[service][0].value

    def states(self) -> str:
        return " ".join(state.value for state, _ in self.table.services().values())

    def pid(self, service: str) -> str:
        pid = self.table.services()[service][1]
        assert pid, f"{service} has no process"
        return pid

    def born(self, service: str) -> str:
        """Its process has been forked. Returns the process's PID."""
        pid = self.pid(service)
        self.done(self.table.worker_born(self.worker[pid], self.now))
        return pid

    def fires(self, timer: SetTimer) -> None:
        self.now = max(self.now, timer.deadline)
        self.done(self.table.timer_fired(timer.event, self.now))

    def crashes(self, service: str) -> SetTimer | None:
        """Its process dies of SIGSEGV. Returns the timer of its restart, if there is one."""
        self.dies(self.pid(service), WaitStatus(None, signal.SIGSEGV))
        return next((timer for timer in self.timers() if isinstance(timer.event, RestartDue)), None)

    def restarting(self) -> bool:
        """What the gateway was told of the worker that ended."""
        [ended] = [record for record in self.to_gateway() if isinstance(record, m.WorkerEnded)]
        return ended.restarting

    # --- what came of it ----------------------------------------------------------------------------------------------

    def to(self, pid: str) -> list[tuple[Any, ...]]:
        return [e.record for e in self.log if isinstance(e, SendToWorker) and e.worker == self.worker[pid]]

    def to_gateway(self) -> list[tuple[Any, ...]]:
        return [effect.record for effect in self.log if isinstance(effect, SendToGateway)]

    def killed(self) -> list[int]:
        return [effect.worker for effect in self.log if isinstance(effect, KillWorker)]

    def started(self) -> list[StartWorker]:
        return [effect for effect in self.log if isinstance(effect, StartWorker)]

    def timers(self) -> list[SetTimer]:
        return [effect for effect in self.log if isinstance(effect, SetTimer)]
